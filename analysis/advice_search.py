"""Optimal design as arithmetic: which cells to run, how often, within a budget, so that a target's variance is least.

Owns the search (greedy by gain per cost, then exchanges), the cost of runs that share a trunk, and a lower bound that
says how far a design may be from the best. It must not know laws, shapes or fits: it sees gradients, costs and counts.

The criterion is the mean over scenarios s (a law at one draw of its parameters) of log V_s, V_s = t' M_s^-1 t with the
information M_s = M0_s + sum of g g' over the runs: V-optimality (least variance of the target prediction), averaged
over what is not known as in Chaloner and Larntz 1989. It is convex in the weights of the cells, whence the bound.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

PRICES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
"""Shares of the number of runs in the price of a run, tried when that number is limited."""
EXCHANGES = 400
"""Most exchanges tried."""
PAIRS_UP_TO = 12
"""Designs of at most this many distinct cells are also searched by exchanging two cells at a time."""
BOUND_STEPS = 400
"""Most steps of the relaxed problem; the bound holds after any number of them."""
BOUND_GAP = 2e-3
"""Gap of the relaxed problem, in the criterion, at which it stops."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Cells that may be run, what each says about the target, and what may be spent."""

    gradients: Array
    """d log L / d phi over the noise, by scenario and cell, shape (S, n, p)."""
    target: Array
    """Gradient of the target, shape (S, p)."""
    information: Array
    """M0 of the runs that exist, shape (S, p, p)."""
    weights: Array
    """Weight of each scenario, shape (S,), adding up to one."""
    tokens: Array
    """D of each cell, shape (n,)."""
    flops_per_token: Array
    """Training FLOPs per token of each cell's size, shape (n,)."""
    group: NDArray[np.intp]
    """Size of each cell, whole numbers from 0, shape (n,): cells of one size and seed may share a trunk."""
    budget: float
    """FLOPs that may be spent."""
    max_replicates: int = 1
    """Most seeds of one cell."""
    max_runs: int | None = None
    """Most runs; None: as many as the budget pays for."""
    decay_fraction: float | None = None
    """Part of a run that decays where runs share trunks; None: every run is trained on its own."""
    correlation: float = 0.0
    """Share of the noise's variance that the runs of one trunk have in common."""

    def cost(self, counts: Counts) -> float:
        """FLOPs of a design: without sharing the sum over runs; with it, for each size and seed, the stable part of
        its longest run once, and every run's decay."""
        if self.decay_fraction is None:
            return float((self.tokens * self.flops_per_token) @ counts)
        total = 0.0
        for trunk in self.trunks(counts):
            spent = (1 - self.decay_fraction) * self.tokens[trunk].max()
            spent += self.decay_fraction * self.tokens[trunk].sum()
            total += float(spent * self.flops_per_token[trunk[0]])
        return total

    def trunks(self, counts: Counts) -> list[NDArray[np.intp]]:
        """Cells of every trunk: seed k of a size trains the cells that are wanted more than k times."""
        out = []
        for size in np.unique(self.group[counts > 0]):
            cells = np.flatnonzero((self.group == size) & (counts > 0))
            out += [cells[counts[cells] > seed] for seed in range(int(counts[cells].max()))]
        return out

    def informations(self, counts: Counts) -> Array:
        """M of a design, shape (S, p, p)."""
        if not self.correlation:
            chosen = np.flatnonzero(counts)
            return self.information + gram(self.gradients[:, chosen], counts[chosen].astype(float))
        total = self.information.copy()
        for trunk in self.trunks(counts):
            g = self.gradients[:, trunk]
            common = g.sum(axis=1)
            inner = gram(g, np.ones(trunk.size)) - self.taken(trunk.size) * common[:, :, None] * common[:, None, :]
            total += inner / (1 - self.correlation)
        return total

    def taken(self, num: float | Array) -> Array:
        """rho / (1 - rho + rho m): what the inverse of a trunk's covariance (1 - rho) I + rho 11' takes off."""
        return np.asarray(self.correlation / (1 - self.correlation + self.correlation * np.asarray(num)))

    def variances(self, counts: Counts) -> Array:
        """V_s of a design, shape (S,)."""
        return _quadratic(self.informations(counts), self.target)

    def criteria(self, designs: Array) -> Array:
        """The criterion of many designs of independent runs at once: counts (K, n) to values (K,)."""
        scenarios, cells, p = self.gradients.shape
        outer = self.gradients[:, :, :, None] * self.gradients[:, :, None, :]
        added = designs @ outer.transpose(1, 0, 2, 3).reshape(cells, scenarios * p * p)
        m = self.information + added.reshape(len(designs), scenarios, p, p)
        u = np.linalg.solve(m, np.broadcast_to(self.target[:, :, None], (len(designs), scenarios, p, 1)))[..., 0]
        return np.asarray(np.log((self.target * u).sum(axis=2)) @ self.weights)

    def criterion(self, counts: Counts) -> float:
        """Mean log variance of a design; less is better."""
        return float(self.weights @ np.log(self.variances(counts)))


@dataclass(frozen=True, kw_only=True)
class Design:
    """A set of runs and how good it is."""

    counts: Counts
    """How often each cell is run, shape (n,)."""
    criterion: float
    """Mean log variance."""
    cost: float
    """FLOPs."""
    bound: float | None
    """No design within the same limits has a lower criterion; None where runs share trunks, for which there is none."""


def search(experiment: Experiment) -> Design:
    """The best design found: greedy by gain per cost, then exchanges; with the bound."""
    prices = (0.0,) if experiment.max_runs is None else PRICES
    nothing = np.zeros(experiment.tokens.size, dtype=np.int64)
    starts, bounds = [(price, nothing) for price in prices], []
    if experiment.decay_fraction is None:
        weights = np.full(nothing.size, 1 / nothing.size)
        for price in prices:
            weights, bound = _relaxed(experiment, price, weights)
            bounds.append(bound)
            starts.append((price, _affordable(experiment, np.floor(weights + 1e-9).astype(np.int64))))
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
        left = e.budget * (1 + 1e-12) - e.cost(counts)
        trunks = _Trunks(e, counts)
        for _ in range(int(counts.sum()), e.max_runs or int(e.max_replicates) * counts.size):
            costs = self.full if e.decay_fraction is None else trunks.marginal(counts)
            open_ = (counts < e.max_replicates) & (costs <= left)
            open_[list(banned)] = False
            cells = np.flatnonzero(open_)
            if not cells.size:
                break
            gains = self._gains(inverse, *trunks.shared(counts, cells), cells)
            rate = gains if self.by_gain else gains / ((1 - self.price) * costs[cells] / e.budget + self.per_run)
            pick = int(np.argmax(rate))
            if gains[pick] <= 1e-12:
                break
            cell = cells[pick]
            left -= costs[cell]
            inverse = self._updated(inverse, *trunks.shared(counts, cells[[pick]]), int(cell))
            trunks.add(int(cell), int(counts[cell]))
            counts[cell] += 1
        return counts

    def _gains(self, inverse: Array, common: Array, num: Array, cells: NDArray[np.intp]) -> Array:
        """Decrease of the criterion by one more run of each of `cells`, whose trunks hold `num` runs with gradients
        that add up to `common`."""
        e = self.experiment
        g = e.gradients[:, cells]
        along = np.matmul(g, inverse)
        u = np.matmul(inverse, e.target[:, :, None])
        now = np.matmul(e.target[:, None, :], u)[:, 0]
        h, q = (along * g).sum(axis=2), np.matmul(g, u)[:, :, 0]
        if not e.correlation:
            drop = q * q / (1 + h)
        else:  # V falls by b' (I + C K)^-1 C b, with U = [g, common], K = U' M^-1 U and b = U' M^-1 t
            c11, c12, c22 = _pair(e, num)
            k12 = (along * common).sum(axis=2)
            k22 = (np.matmul(common, inverse) * common).sum(axis=2)
            r = np.matmul(common, u)[:, :, 0]
            a11, a12 = 1 + c11 * h + c12 * k12, c11 * k12 + c12 * k22
            a21, a22 = c12 * h + c22 * k12, 1 + c12 * k12 + c22 * k22
            b1, b2 = c11 * q + c12 * r, c12 * q + c22 * r
            drop = (q * (a22 * b1 - a12 * b2) + r * (a11 * b2 - a21 * b1)) / (a11 * a22 - a12 * a21)
        return np.asarray(-e.weights @ np.log(np.maximum(1 - drop / now, 1e-12)))

    def _updated(self, inverse: Array, common: Array, num: Array, cell: int) -> Array:
        """M^-1 after one more run of `cell`."""
        e = self.experiment
        g = e.gradients[:, cell]
        if not e.correlation:
            along = np.matmul(inverse, g[:, :, None])
            return np.asarray(inverse - along * along.transpose(0, 2, 1) / (1 + np.matmul(g[:, None, :], along)))
        c11, c12, c22 = (float(c[0]) for c in _pair(e, num))
        sides = np.stack([g, common[:, 0]], axis=2)
        change = np.matmul(np.matmul(sides, np.array([[c11, c12], [c12, c22]])), sides.transpose(0, 2, 1))
        return np.asarray(np.linalg.inv(np.linalg.inv(inverse) + change))


class _Trunks:
    """Gradients, number and longest run of every trunk (size, seed) while runs are added; the seed of a cell's next run
    is how often the cell has been chosen."""

    def __init__(self, experiment: Experiment, counts: Counts) -> None:
        e = self.experiment = experiment
        shape = (int(e.group.max()) + 1, e.max_replicates + 1)
        scenarios, _, p = e.gradients.shape
        self.longest, self.num = np.zeros(shape), np.zeros(shape)
        self.sums = np.zeros((*shape, scenarios, p)) if e.correlation else np.zeros((1, 1, 1, 1))
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

    def marginal(self, counts: Counts) -> Array:
        """FLOPs that one more run of each cell costs."""
        e = self.experiment
        fraction = e.decay_fraction or 0.0
        extra = (1 - fraction) * np.maximum(e.tokens - self.longest[e.group, counts], 0.0) + fraction * e.tokens
        return np.asarray(extra * e.flops_per_token)

    def shared(self, counts: Counts, cells: NDArray[np.intp]) -> tuple[Array, Array]:
        """Sum of gradients (S, m, p) and number (m,) of the runs that the next run of each cell shares a trunk with."""
        e = self.experiment
        if not e.correlation:
            return self.sums[0], self.num[0, :1]
        places = e.group[cells], counts[cells]
        return self.sums[places].transpose(1, 0, 2), self.num[places]


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


def gram(rows: Array, weights: Array) -> Array:
    """Sum over rows of w g g', shape (S, p, p), for rows (S, n, p) and weights (n,)."""
    return np.asarray(np.matmul((rows * weights[:, None]).transpose(0, 2, 1), rows))


def _quadratic(m: Array, t: Array) -> Array:
    return np.asarray((t * np.linalg.solve(m, t[:, :, None])[:, :, 0]).sum(axis=1))
