"""The search for a design: greedy by gain per cost, then exchanges, and a bound that says how far it is from the best.

Owns how runs are added and taken out, and the relaxed problem, convex without bias, whence the bound. What a design is
worth is advice_experiment.py's.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.design.criterion import Counts, Experiment, gram

Shared = tuple[Array, Array, Array]
"""What `_Trunks.shared` gives."""

PRICE_STEPS = 8
"""Halvings in search of the share of the number of runs in the price of a run at which both limits bind."""
PRICES = (0.1, 0.4, 0.8)
"""Such shares where runs share trunks."""
EXCHANGES = 400
"""Most exchanges tried."""
PAIRS_UP_TO = 12
"""Designs of at most this many distinct cells are also searched by exchanging two cells at a time."""
BOUND_STEPS = 400
"""Most steps of the relaxed problem; the bound holds after any number of them."""
BOUND_GAP = 2e-3
"""Gap of the relaxed problem, in the criterion, at which it stops."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A set of runs and how good it is."""

    counts: Counts
    """How often each cell is run, shape (n,)."""
    criterion: float
    """Mean log squared error."""
    cost: float
    """FLOPs."""
    bound: float | None
    """No design within the same limits has a lower mean log variance; None where runs share trunks, for which there is
    none."""


def search(experiment: Experiment) -> Design:
    """The best design found: greedy by gain per cost, then exchanges; with the bound."""
    nothing = np.zeros(experiment.tokens.size, dtype=np.int64)
    starts, bounds = [(0.0, nothing)], []
    if experiment.decay_fraction is None:
        plain, weights = experiment.trusting(), np.full(nothing.size, 1 / nothing.size)
        price, low, high = 0.0, 0.0, 1.0
        for _ in range(PRICE_STEPS):
            weights, bound = _relaxed(plain, price, weights)
            bounds.append(bound)
            starts.append((price, _affordable(experiment, np.floor(weights + 1e-9).astype(np.int64))))
            if experiment.max_runs is None or (price == 0 and weights.sum() <= experiment.max_runs):
                break
            low, high = (price, high) if weights.sum() > experiment.max_runs else (low, price)
            price = 0.5 * (low + high)
            starts.append((price, nothing))
    elif experiment.max_runs is not None:
        starts += [(price, nothing) for price in PRICES]
    found = [(price, _Greedy(experiment, price).fill(counts)) for price, counts in starts]
    values = [experiment.criterion(counts) for _, counts in found]
    price, counts = found[int(np.argmin(values))]
    counts = _exchange(experiment, counts, price)
    return Design(
        counts=counts,
        criterion=experiment.criterion(counts),
        cost=experiment.cost(counts),
        bound=max(bounds) if bounds else None,
    )


def _affordable(experiment: Experiment, counts: Counts) -> Counts:
    """`counts` less what goes beyond the limits, the cheapest runs first."""
    cells = np.repeat(np.arange(counts.size), counts)
    costs = (experiment.tokens * experiment.flops_per_token)[cells]
    order = cells[np.argsort(-costs, kind="stable")]
    kept = order[: experiment.max_runs]
    kept = kept[np.cumsum(np.sort(costs)[::-1][: kept.size]) <= experiment.budget]
    return np.asarray(np.bincount(kept, minlength=counts.size), dtype=np.int64)


class _Greedy:
    """Adds runs one at a time while the budget lasts."""

    def __init__(self, experiment: Experiment, price: float, *, by_gain: bool = False) -> None:
        self.experiment = experiment
        self.price = price
        self.by_gain = by_gain
        self.full = experiment.tokens * experiment.flops_per_token
        self.per_run = 0.0 if experiment.max_runs is None else price / experiment.max_runs

    def fill(self, counts: Counts, banned: tuple[int, ...] = ()) -> Counts:
        """`counts` with runs added until nothing affordable helps; `banned` cells are not added."""
        e, counts = self.experiment, counts.copy()
        inverse: Array = np.asarray(np.linalg.inv(e.informations(counts)), dtype=np.float64)
        pull = e.pulls(counts)
        left = e.budget * (1 + 1e-12) - e.cost(counts)
        trunks = _Trunks(e, counts)
        for _ in range(int(counts.sum()), e.max_runs or int(e.max_replicates) * counts.size):
            costs = self.full if e.decay_fraction is None else trunks.marginal(counts)
            open_ = (counts < e.max_replicates) & (costs <= left)
            open_[list(banned)] = False
            cells = np.flatnonzero(open_)
            if not cells.size:
                break
            gains = self._gains(inverse, pull, trunks.shared(counts, cells), cells)
            rate = gains if self.by_gain else gains / ((1 - self.price) * costs[cells] / e.budget + self.per_run)
            pick = int(np.argmax(rate))
            if gains[pick] <= 1e-12:
                break
            cell = cells[pick]
            left -= costs[cell]
            inverse, pull = self._updated(inverse, pull, trunks.shared(counts, cells[[pick]]), int(cell))
            trunks.add(int(cell), int(counts[cell]))
            counts[cell] += 1
        return counts

    def _gains(self, inverse: Array, pull: Array, shared: Shared, cells: NDArray[np.intp]) -> Array:
        """Decrease of the criterion by one more run of each of `cells`; `shared` sums up the runs of their trunks.

        One more run moves the prediction by the gain of a Kalman filter: V falls by b' (I + C K)^-1 C b, and the bias
        moves by b' (I + C K)^-1 C (d - U' M^-1 pull), with U = [g, common], K = U' M^-1 U, b = U' M^-1 t and d the
        other law's differences.
        """
        e = self.experiment
        g = e.gradients[:, cells]
        along = np.matmul(g, inverse)
        u = np.matmul(inverse, e.target[:, :, None])
        now = np.matmul(e.target[:, None, :], u)[:, 0]
        h, q = (along * g).sum(axis=2), np.matmul(g, u)[:, :, 0]
        doubt, wrong, missed = e.doubt, np.zeros((1, 1)), np.zeros((1, 1))
        if doubt is not None:
            wrong = np.matmul(u.transpose(0, 2, 1), pull[:, :, None])[:, 0] - doubt.target[:, None]
            missed = doubt.cells[:, cells] - np.matmul(along, pull[:, :, None])[:, :, 0]
        if not e.correlation:
            drop, moved = q * q / (1 + h), q * missed / (1 + h)
        else:
            common, gathered, num = shared
            c11, c12, c22 = _pair(e, num)
            k12 = (along * common).sum(axis=2)
            solved = np.matmul(common, inverse)
            k22 = (solved * common).sum(axis=2)
            r = np.matmul(common, u)[:, :, 0]
            others = gathered - np.matmul(solved, pull[:, :, None])[:, :, 0]
            a11, a12 = 1 + c11 * h + c12 * k12, c11 * k12 + c12 * k22
            a21, a22 = c12 * h + c22 * k12, 1 + c12 * k12 + c22 * k22
            det = a11 * a22 - a12 * a21
            x, y = (q * a22 - r * a21) / det, (r * a11 - q * a12) / det
            drop = x * (c11 * q + c12 * r) + y * (c12 * q + c22 * r)
            moved = x * (c11 * missed + c12 * others) + y * (c12 * missed + c22 * others)
        after = np.maximum(now - drop, 1e-12 * now) + (wrong + moved) ** 2
        return np.asarray(e.weights @ np.log((now + wrong**2) / after))

    def _updated(self, inverse: Array, pull: Array, shared: Shared, cell: int) -> tuple[Array, Array]:
        """M^-1 and the pull after one more run of `cell`."""
        e = self.experiment
        g = e.gradients[:, cell]
        d = np.zeros(g.shape[0]) if e.doubt is None else e.doubt.cells[:, cell]
        if not e.correlation:
            along = np.matmul(inverse, g[:, :, None])
            inverse = inverse - along * along.transpose(0, 2, 1) / (1 + np.matmul(g[:, None, :], along))
            return inverse, pull + g * d[:, None]
        common, gathered, num = shared
        c11, c12, c22 = (float(c[0]) for c in _pair(e, num))
        sides, inner = np.stack([g, common[:, 0]], axis=2), np.array([[c11, c12], [c12, c22]])
        change = np.matmul(np.matmul(sides, inner), sides.transpose(0, 2, 1))
        pulled = np.matmul(np.matmul(sides, inner), np.stack([d, gathered[:, 0]], axis=1)[:, :, None])[:, :, 0]
        return np.asarray(np.linalg.inv(np.linalg.inv(inverse) + change)), pull + pulled


class _Trunks:
    """Gradients, number and longest run of every trunk (size, seed) while runs are added; the seed of a cell's next run
    is how often the cell has been chosen."""

    def __init__(self, experiment: Experiment, counts: Counts) -> None:
        e = self.experiment = experiment
        shape = (int(e.group.max()) + 1, e.max_replicates + 1)
        scenarios, _, p = e.gradients.shape
        self.longest, self.num = np.zeros(shape), np.zeros(shape)
        self.sums = np.zeros((*shape, scenarios, p)) if e.correlation else np.zeros((1, 1, 1, 1))
        self.differences = np.zeros((*shape, scenarios))
        if e.decay_fraction is not None:
            for cell in np.flatnonzero(counts):
                for seed in range(int(counts[cell])):
                    self.add(int(cell), seed)

    def add(self, cell: int, seed: int) -> None:
        """One more run of `cell` in the trunk `seed` of its size."""
        e = self.experiment
        place = (int(e.group[cell]), seed)
        self.longest[place] = max(self.longest[place], e.tokens[cell])
        self.num[place] += 1
        if e.correlation:
            self.sums[place] += e.gradients[:, cell]
            if e.doubt is not None:
                self.differences[place] += e.doubt.cells[:, cell]

    def marginal(self, counts: Counts) -> Array:
        """FLOPs that one more run of each cell costs."""
        e = self.experiment
        fraction = e.decay_fraction or 0.0
        extra = (1 - fraction) * np.maximum(e.tokens - self.longest[e.group, counts], 0.0) + fraction * e.tokens
        return np.asarray(extra * e.flops_per_token)

    def shared(self, counts: Counts, cells: NDArray[np.intp]) -> Shared:
        """Sum of gradients (S, m, p), sum of the other law's differences (S, m) and number (m,) of the runs that the
        next run of each cell shares a trunk with."""
        if not self.experiment.correlation:
            return self.sums[0], self.differences[0, :1], self.num[0, :1]
        places = self.experiment.group[cells], counts[cells]
        return self.sums[places].transpose(1, 0, 2), self.differences[places].T, self.num[places]


def _pair(experiment: Experiment, num: Array) -> tuple[Array, Array, Array]:
    """C of what one more run adds to the information of a trunk of `num` runs, by [g, common]."""
    after, before = experiment.taken(num + 1.0), experiment.taken(num)
    scale = 1 / (1 - experiment.correlation)
    return scale * (1 - after), -scale * after, scale * (before - after)


def _exchange(experiment: Experiment, counts: Counts, price: float) -> Counts:
    """Take runs out and fill up again in other ways while that helps; the most expensive cells first."""
    fillers = [_Greedy(experiment, price), _Greedy(experiment, price, by_gain=True)]
    value, tried, before = experiment.criterion(counts), 0, np.inf
    while tried < EXCHANGES and value < before - 1e-6:
        before = value
        costs = experiment.tokens * experiment.flops_per_token
        chosen = [int(cell) for cell in np.argsort(-costs) if counts[cell]]
        removals: list[tuple[int, ...]] = [(cell,) for cell in chosen]
        if len(chosen) <= PAIRS_UP_TO:
            removals += itertools.combinations_with_replacement(chosen, 2)
        for removed in removals[: EXCHANGES - tried]:
            less = counts.copy()
            np.subtract.at(less, list(removed), 1)
            if (less < 0).any():
                continue
            tried += 1
            for filler in fillers:
                trial = filler.fill(less, banned=removed)
                reached = experiment.criterion(trial)
                if reached < value - 1e-9:
                    counts, value = trial, reached
                    break
    return counts


def _relaxed(experiment: Experiment, price: float, start: Array) -> tuple[Array, float]:
    """Fractional counts (n,) of least criterion, with budget and number of runs as one constraint, and a lower bound of
    the criterion over all designs.

    Multiplicative steps (Silvey, Titterington and Torsney 1978) towards the relaxed optimum; at any weights w the
    linear expansion at w, minimised over all designs, bounds the convex criterion from below.
    """
    e = experiment
    share = e.tokens * e.flops_per_token / e.budget
    if e.max_runs is not None:
        share = (1 - price) * share + price / e.max_runs
    share = np.maximum(share, 1e-15)
    cap = e.max_replicates * share
    x = _filled(np.maximum(start * share, 1e-3 / share.size), cap)
    best = -np.inf
    for step in range(BOUND_STEPS):
        w = x / share
        m = e.information + gram(e.gradients, w)
        u = np.linalg.solve(m, e.target[:, :, None])[:, :, 0]
        v = (e.target * u).sum(axis=1)
        slope = (e.weights / v) @ np.matmul(e.gradients, u[:, :, None])[:, :, 0] ** 2 / share
        if step % 10 == 9 or step == BOUND_STEPS - 1:
            order = np.argsort(-slope)
            room = np.diff(np.minimum(np.cumsum(cap[order]), 1.0), prepend=0.0)
            gap = float(slope[order] @ room - slope @ x)
            best = max(best, float(e.weights @ np.log(v)) - gap)
            if gap < BOUND_GAP:
                break
        x = _filled(np.maximum(x, 1e-12 * cap) * slope**0.9, cap)
    return x / share, best


def _filled(amounts: Array, cap: Array) -> Array:
    """`amounts` times a factor, cut at `cap`, so that they add up to one (to all of `cap` when that is less)."""
    if cap.sum() <= 1:
        return cap
    ratio = amounts / cap
    order = np.argsort(-ratio)
    full = np.concatenate([[0.0], np.cumsum(cap[order])])[:-1]
    rest = np.cumsum(amounts[order][::-1])[::-1]
    factor = (1 - full) / rest  # the first k cells at their cap, the others scaled
    k = int(np.argmax(factor * ratio[order] <= 1))
    return np.minimum(cap, factor[k] * amounts)
