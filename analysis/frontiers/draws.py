"""Bootstrap draws of the losses of compute budgets: deviations from smooth curves, drawn again. Must not know minima.

Every run's deviation from a smooth polynomial through its budget, scaled up by its leverage, is drawn again for all
runs (pooled over budgets, in log loss where losses are positive) and widened by Student's t for the few degrees of
freedom. With clusters a part of every deviation is common to the cluster, since runs that share a prefix of training
deviate together: its share is the correlation of deviations within clusters, estimated from all pairs. Akima
interpolates, so its draws disturb the observed losses (Porian et al. 2024) instead of the smooth ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.arrays import Array
from analysis.frontiers.curves import Method, smooth_fit
from analysis.runs.budgets import BudgetRuns

MIN_FREEDOM = 0.02
"""Runs whose fitted value follows them but for less than this fraction have no deviation to speak of."""


@dataclass(frozen=True, kw_only=True)
class LossDraws:
    """Losses of every budget as measured and as drawn."""

    samples: tuple[Array, ...]
    """Per budget (1 + draws, sizes) losses: row 0 as measured."""
    scale: float | None
    """Standard deviation of a run about its budget's curve (of ln L where losses are positive); None without spare
    runs."""
    reason: str | None
    """Why there are no draws; None when there are."""


@dataclass(frozen=True, kw_only=True)
class _Deviations:
    """What the runs of all budgets deviate by."""

    fits: list[Array]
    """Per budget the smooth curve at its sizes."""
    rows: NDArray[np.int64]
    """Positions in the table of the runs whose deviations are kept."""
    values: Array
    """Those deviations, scaled up by their leverage."""
    squares: float
    """Sum of their squares."""
    spare: int
    """Degrees of freedom."""


def smooth_degree(method: Method, num_sizes: int) -> int:
    """Degree of the polynomial that deviations are taken from: three where runs allow, up to five for Akima.

    A parabola misses the skew of a wide grid; from six sizes on deviations are taken from a cubic, so that this
    misfit does not count as noise. The parabola through the cubic's values is the parabola through the runs.

    Parameters
    ----------
    method : {"parabola", "cubic", "akima"}
        Which curve the minima are read off.
    num_sizes : int
        Distinct sizes of the budget.

    Returns
    -------
    int
        The degree.
    """
    if method == "akima":
        return min(5, max(2, num_sizes - 4))
    return 3 if method == "cubic" or num_sizes >= 6 else 2


def draw_losses(
    budgets: Sequence[BudgetRuns],
    method: Method,
    num_draws: int,
    *,
    positive: bool,
    cluster: NDArray[Any] | None,
    rng: np.random.Generator,
) -> LossDraws:
    """Draw the losses of every budget.

    Parameters
    ----------
    budgets : sequence of BudgetRuns
        Budgets with enough sizes for a curve.
    method : {"parabola", "cubic", "akima"}
        Which curve the minima are read off.
    num_draws : int
        How many; none for 0.
    positive : bool
        Whether all losses are positive, so that deviations are of their logarithms.
    cluster : array, shape (n,), or None
        Labels of all rows of the table.
    rng : Generator
        What draws them.

    Returns
    -------
    LossDraws
        Losses as measured and as drawn.
    """
    forward = np.log if positive else np.asarray
    observed = [np.asarray(forward(runs.loss)) for runs in budgets]
    measured = tuple(runs.loss[None, :] for runs in budgets)
    found = _deviations(budgets, observed, method, positive)
    if found.spare <= 0:
        reason = "every budget has only as many runs as its curve has coefficients"
        return LossDraws(samples=measured, scale=None, reason=reason)
    scale = float(np.sqrt(found.squares / found.values.size))
    if num_draws <= 0:
        return LossDraws(samples=measured, scale=scale, reason="no draws were asked for")
    widen = float(stats.t.ppf(0.975, found.spare) / stats.norm.ppf(0.975))
    noise = _Noise(found, scale, cluster, num_draws, rng)
    samples = []
    for runs, centre, fitted in zip(budgets, observed, found.fits, strict=True):
        drawn = noise.of(runs)
        mean = np.zeros((num_draws, runs.x.size))
        for run, size in enumerate(runs.member):
            mean[:, size] += widen * drawn[:, run] / runs.count[size]
        moved = (centre if method == "akima" else fitted) + mean
        samples.append(np.vstack([runs.loss, np.exp(moved) if positive else moved]))
    return LossDraws(samples=tuple(samples), scale=scale, reason=None)


def _deviations(
    budgets: Sequence[BudgetRuns], observed: Sequence[Array], method: Method, positive: bool
) -> _Deviations:
    """Deviations of all runs from smooth curves through their budgets."""
    forward = np.log if positive else np.asarray
    fits, rows, values, spare = [], [], [], 0
    for runs, centre in zip(budgets, observed, strict=True):
        degree = smooth_degree(method, runs.x.size)
        fitted, leverage = smooth_fit(runs.x, centre, runs.count, degree=degree)
        free = 1 - leverage[runs.member]
        deviation = np.asarray(forward(runs.run_loss)) - fitted[runs.member]
        kept = free > MIN_FREEDOM
        fits.append(fitted)
        rows.append(runs.rows[kept])
        values.append(deviation[kept] / np.sqrt(free[kept]))
        spare += len(runs.rows) - (degree + 1)
    return _Deviations(
        fits=fits,
        rows=np.concatenate(rows),
        values=np.concatenate(values),
        squares=sum(float((part**2).sum()) for part in values),
        spare=spare,
    )


class _Noise:
    """Deviations drawn for runs: each its own, or in part common to its cluster."""

    def __init__(
        self,
        found: _Deviations,
        scale: float,
        cluster: NDArray[Any] | None,
        num_draws: int,
        rng: np.random.Generator,
    ) -> None:
        self.pool = found.values - found.values.mean()
        self.scale = scale
        self.cluster = cluster
        self.num_draws = num_draws
        self.rng = rng
        self.shared = 0.0 if cluster is None else _within(found.rows, found.values, cluster)
        self.common: dict[str, Array] = {}

    def of(self, runs: BudgetRuns) -> Array:
        """Deviations (draws, runs) of one budget."""
        noise = self.rng.choice(self.pool, size=(self.num_draws, len(runs.rows)))
        if self.cluster is None:
            return noise
        names = [str(self.cluster[row]) for row in runs.rows]
        for name in names:
            if name not in self.common:
                self.common[name] = self.rng.normal(0.0, self.scale, size=self.num_draws)
        together = np.column_stack([self.common[name] for name in names])
        return np.asarray(math.sqrt(self.shared) * together + math.sqrt(1 - self.shared) * noise)


def _within(rows: NDArray[np.int64], deviations: Array, cluster: NDArray[Any]) -> float:
    """Correlation of deviations within clusters, from all pairs, held between 0 and 1; 0 without pairs."""
    names = np.array([str(cluster[row]) for row in rows])
    products, pairs = 0.0, 0
    for name in np.unique(names):
        member = deviations[names == name]
        products += float(member.sum() ** 2 - (member**2).sum())
        pairs += member.size * (member.size - 1)
    variance = float((deviations**2).mean())
    return float(np.clip(products / (pairs * variance), 0.0, 1.0)) if pairs and variance > 0 else 0.0
