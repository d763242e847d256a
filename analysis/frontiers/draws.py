"""Bootstrap draws of the losses of compute budgets: deviations from smooth curves, drawn again. Must not know minima.

Every run's deviation from a smooth polynomial through its budget, scaled up by its leverage, is drawn again for all
runs (pooled over budgets, in log loss where losses are positive) and widened by Student's t for the few degrees of
freedom. With clusters a part of every deviation is common to the cluster, since runs that share a training trunk
deviate together: its share is the correlation of deviations within clusters, estimated from all pairs. Akima
interpolates, so its draws disturb the observed losses (Porian et al. 2024) instead of the smooth ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.frontiers.curves import smooth_fit
from analysis.runs.budgets import BudgetRuns


def smooth_degree(method: str, num_sizes: int) -> int:
    """Degree of the polynomial that deviations are taken from: three where runs allow, up to five for Akima.

    A parabola misses the skew of a wide grid; from six sizes on deviations are taken from a cubic, so that this
    misfit does not count as noise. The parabola through the cubic's values is the parabola through the runs.
    """
    if method == "akima":
        return min(5, max(2, num_sizes - 4))
    return 3 if method == "cubic" or num_sizes >= 6 else 2


def draw_losses(
    usable: list[BudgetRuns],
    method: str,
    num_draws: int,
    positive: bool,
    cluster: NDArray[np.object_] | None,
    rng: np.random.Generator,
) -> tuple[list[NDArray[np.float64]], float | None, str | None]:
    """Per budget (1 + draws, sizes) losses, the scale of deviations, and why there are no draws."""
    forward = np.log if positive else np.asarray
    observed = [np.asarray(forward(runs.loss)) for runs in usable]
    fits, kept, pooled, spare = [], [], [], 0
    for runs, centre in zip(usable, observed, strict=True):
        degree = smooth_degree(method, runs.x.size)
        fitted, leverage = smooth_fit(runs.x, centre, runs.count, degree=degree)
        free = 1 - leverage[runs.member]
        deviation = np.asarray(forward(runs.run_loss)) - fitted[runs.member]
        usable_run = free > 0.02
        pooled.append(deviation[usable_run] / np.sqrt(free[usable_run]))
        fits.append(fitted)
        kept.append(runs.rows[usable_run])
        spare += len(runs.rows) - (degree + 1)
    if spare <= 0:
        reason = "every budget has only as many runs as its curve has coefficients"
        return [runs.loss[None, :] for runs in usable], None, reason
    values = np.concatenate(pooled)
    scale = float(np.sqrt(sum(float((part**2).sum()) for part in pooled) / values.size))
    if num_draws <= 0:
        return [runs.loss[None, :] for runs in usable], scale, "no draws were asked for"
    widen = float(stats.t.ppf(0.975, spare) / stats.norm.ppf(0.975))
    values = values - values.mean()
    shared = 0.0 if cluster is None else _within(np.concatenate(kept), np.concatenate(pooled), cluster)
    common: dict[str, NDArray[np.float64]] = {}
    out = []
    for runs, centre, fitted in zip(usable, observed, fits, strict=True):
        noise = rng.choice(values, size=(num_draws, len(runs.rows)))
        if cluster is not None:
            names = [str(cluster[row]) for row in runs.rows]
            for name in names:
                if name not in common:
                    common[name] = rng.normal(0.0, scale, size=num_draws)
            together = np.column_stack([common[name] for name in names])
            noise = math.sqrt(shared) * together + math.sqrt(1 - shared) * noise
        mean = np.zeros((num_draws, runs.x.size))
        for run, size in enumerate(runs.member):
            mean[:, size] += widen * noise[:, run] / runs.count[size]
        drawn = (centre if method == "akima" else fitted) + mean
        out.append(np.vstack([runs.loss, np.exp(drawn) if positive else drawn]))
    return out, scale, None


def _within(rows: NDArray[np.int64], deviations: NDArray[np.float64], cluster: NDArray[np.object_]) -> float:
    """Correlation of deviations within clusters, from all pairs, held between 0 and 1; 0 without pairs."""
    names = np.array([str(cluster[row]) for row in rows])
    products, pairs = 0.0, 0
    for name in np.unique(names):
        member = deviations[names == name]
        products += float(member.sum() ** 2 - (member**2).sum())
        pairs += member.size * (member.size - 1)
    variance = float((deviations**2).mean())
    return float(np.clip(products / (pairs * variance), 0.0, 1.0)) if pairs and variance > 0 else 0.0
