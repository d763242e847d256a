"""Runs added one at a time: what one more run of each cell gains and costs, and the choice of the best.

It keeps the inverse information and the moments of the runs chosen so far up to date, by the update of a Kalman filter.
What a design is worth is `criterion`; when to add and when to take out is `search`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analysis.arrays import Array
from analysis.design.criterion import Cells, Counts, Experiment

LEAST_GAIN = 1e-12
"""Decrease of the criterion below which no run is added."""


class Companions(NamedTuple):
    """The runs that the next run of each of m cells would share a prefix with."""

    gradients: Array
    """Sum of their gradients, shape (S, m, p)."""
    differences: Array
    """Sum of the other law's differences, shape (S, m)."""
    num: Array
    """How many they are, shape (m,)."""


class State(NamedTuple):
    """What is known of the runs chosen so far."""

    inverse: Array
    """M^-1, shape (S, p, p)."""
    moment: Array
    """Sum of g times the other law's difference, shape (S, p)."""


class Greedy:
    """Adds runs one at a time while the budget lasts.

    Parameters
    ----------
    experiment : Experiment
        Cells and limits.
    price : float
        Share of the number of runs in the price of a run; the rest is its share of the budget.
    by_gain : bool
        Whether the run of the largest gain is added, whatever it costs; else the one of the largest gain per price.
    """

    def __init__(self, experiment: Experiment, price: float, *, by_gain: bool = False) -> None:
        self.experiment = experiment
        self.price = price
        self.by_gain = by_gain
        self.per_run = 0.0 if experiment.max_runs is None else price / experiment.max_runs

    def fill(self, counts: Counts, banned: tuple[int, ...] = ()) -> Counts:
        """Add runs until nothing that can be paid for helps.

        Parameters
        ----------
        counts : array of int, shape (n,)
            The design to start from; it is not changed.
        banned : tuple of int
            Cells that are not added.

        Returns
        -------
        array of int, shape (n,)
            The design with what was added.
        """
        e, counts = self.experiment, counts.copy()
        state = self.state(counts)
        left = e.budget * (1 + 1e-12) - e.cost(counts)
        prefixes = OpenPrefixes(e, counts)
        for _ in range(int(counts.sum()), e.max_runs or int(e.max_replicates) * counts.size):
            costs = e.flops if e.decay_fraction is None else prefixes.marginal(counts)
            affordable = (counts < e.max_replicates) & (costs <= left)
            affordable[list(banned)] = False
            cells = np.flatnonzero(affordable)
            if not cells.size:
                break
            gains = self.gains(state, prefixes.companions(counts, cells), cells)
            rate = gains if self.by_gain else gains / ((1 - self.price) * costs[cells] / e.budget + self.per_run)
            pick = int(np.argmax(rate))
            if gains[pick] <= LEAST_GAIN:
                break
            cell = int(cells[pick])
            left -= costs[cell]
            state = self.updated(state, prefixes.companions(counts, cells[[pick]]), cell)
            prefixes.add(cell, int(counts[cell]))
            counts[cell] += 1
        return counts

    def state(self, counts: Counts) -> State:
        """The state of a design."""
        inverse = np.linalg.inv(self.experiment.informations(counts))
        return State(np.asarray(inverse, dtype=np.float64), self.experiment.moments(counts))

    def gains(self, state: State, companions: Companions, cells: Cells) -> Array:
        """Decrease of the criterion by one more run of each of some cells.

        One more run moves the prediction by the gain of a Kalman filter. With U = [g, common], K = U' M^-1 U,
        b = U' M^-1 t and d the other law's differences, V falls by b' (I + C K)^-1 C b, and the bias moves by
        b' (I + C K)^-1 C (d - U' M^-1 moment).

        Parameters
        ----------
        state : State
            Of the runs so far.
        companions : Companions
            Of each of the cells.
        cells : array of int, shape (m,)
            The cells.

        Returns
        -------
        Array, shape (m,)
            The decreases.
        """
        e = self.experiment
        g = e.gradients[:, cells]
        along = np.matmul(g, state.inverse)
        u = np.matmul(state.inverse, e.target[:, :, None])
        now = np.matmul(e.target[:, None, :], u)[:, 0]
        h, q = (along * g).sum(axis=2), np.matmul(g, u)[:, :, 0]
        discrepancy, bias, missed = e.discrepancy, np.zeros((1, 1)), np.zeros((1, 1))
        if discrepancy is not None:
            moment = state.moment[:, :, None]
            bias = np.matmul(u.transpose(0, 2, 1), moment)[:, 0] - discrepancy.target[:, None]
            missed = discrepancy.cells[:, cells] - np.matmul(along, moment)[:, :, 0]
        if not e.correlation:
            drop, moved = q * q / (1 + h), q * missed / (1 + h)
        else:
            common = companions.gradients
            c11, c12, c22 = _pair(e, companions.num)
            k12 = (along * common).sum(axis=2)
            solved = np.matmul(common, state.inverse)
            k22 = (solved * common).sum(axis=2)
            r = np.matmul(common, u)[:, :, 0]
            others = companions.differences - np.matmul(solved, state.moment[:, :, None])[:, :, 0]
            a11, a12 = 1 + c11 * h + c12 * k12, c11 * k12 + c12 * k22
            a21, a22 = c12 * h + c22 * k12, 1 + c12 * k12 + c22 * k22
            det = a11 * a22 - a12 * a21
            x, y = (q * a22 - r * a21) / det, (r * a11 - q * a12) / det
            drop = x * (c11 * q + c12 * r) + y * (c12 * q + c22 * r)
            moved = x * (c11 * missed + c12 * others) + y * (c12 * missed + c22 * others)
        after = np.maximum(now - drop, 1e-12 * now) + (bias + moved) ** 2
        return np.asarray(e.weights @ np.log((now + bias**2) / after))

    def updated(self, state: State, companions: Companions, cell: int) -> State:
        """The state after one more run.

        Parameters
        ----------
        state : State
            Of the runs so far.
        companions : Companions
            Of this cell alone.
        cell : int
            The cell.

        Returns
        -------
        State
            With the run.
        """
        e = self.experiment
        g = e.gradients[:, cell]
        d = np.zeros(g.shape[0]) if e.discrepancy is None else e.discrepancy.cells[:, cell]
        if not e.correlation:
            along = np.matmul(state.inverse, g[:, :, None])
            less = along * along.transpose(0, 2, 1) / (1 + np.matmul(g[:, None, :], along))
            return State(state.inverse - less, state.moment + g * d[:, None])
        c11, c12, c22 = (float(c[0]) for c in _pair(e, companions.num))
        sides, inner = np.stack([g, companions.gradients[:, 0]], axis=2), np.array([[c11, c12], [c12, c22]])
        weighed = np.matmul(sides, inner)
        change = np.matmul(weighed, sides.transpose(0, 2, 1))
        moved = np.matmul(weighed, np.stack([d, companions.differences[:, 0]], axis=1)[:, :, None])[:, :, 0]
        return State(np.asarray(np.linalg.inv(np.linalg.inv(state.inverse) + change)), state.moment + moved)


class OpenPrefixes:
    """Gradients, number and longest run of every prefix (size, seed) while runs are added.

    The seed of a cell's next run is how often the cell has been chosen.

    Parameters
    ----------
    experiment : Experiment
        Cells and limits.
    counts : array of int, shape (n,)
        The runs so far.
    """

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
        """One more run of `cell` in the prefix `seed` of its size."""
        e = self.experiment
        place = (int(e.group[cell]), seed)
        self.longest[place] = max(self.longest[place], e.tokens[cell])
        self.num[place] += 1
        if e.correlation:
            self.sums[place] += e.gradients[:, cell]
            if e.discrepancy is not None:
                self.differences[place] += e.discrepancy.cells[:, cell]

    def marginal(self, counts: Counts) -> Array:
        """FLOPs that one more run of each cell costs, shape (n,)."""
        e = self.experiment
        fraction = e.decay_fraction or 0.0
        extra = (1 - fraction) * np.maximum(e.tokens - self.longest[e.group, counts], 0.0) + fraction * e.tokens
        return np.asarray(extra * e.flops_per_token)

    def companions(self, counts: Counts, cells: Cells) -> Companions:
        """The runs that the next run of each of `cells` would share a prefix with."""
        if not self.experiment.correlation:
            return Companions(self.sums[0], self.differences[0, :1], self.num[0, :1])
        places = self.experiment.group[cells], counts[cells]
        return Companions(self.sums[places].transpose(1, 0, 2), self.differences[places].T, self.num[places])


def _pair(experiment: Experiment, num: Array) -> tuple[Array, Array, Array]:
    """C of what one more run adds to the information of a prefix of `num` runs, by [g, common]."""
    after, before = experiment.common_part(num + 1.0), experiment.common_part(num)
    scale = 1 / (1 - experiment.correlation)
    return scale * (1 - after), -scale * after, scale * (before - after)
