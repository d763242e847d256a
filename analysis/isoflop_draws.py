"""Bootstrap draws of the losses of compute budgets: deviations from smooth curves, drawn again. Must not know minima.

Every run's deviation from a smooth polynomial through its budget, scaled up by its leverage, is drawn again for all
runs (pooled over budgets, in log loss where losses are positive) and widened by Student's t for the few degrees of
freedom. With clusters the deviations keep their places and every cluster is multiplied by one random weight (wild
bootstrap, Webb's six points), since deviations of runs that share a training trunk are correlated. Akima
interpolates, so its draws disturb the observed losses (Porian et al. 2024) instead of the smooth ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.isoflop_budgets import BudgetRuns
from analysis.isoflop_curves import smooth_fit

WEBB = np.array([-math.sqrt(1.5), -1.0, -math.sqrt(0.5), math.sqrt(0.5), 1.0, math.sqrt(1.5)])
"""Webb's six-point weights of a wild cluster bootstrap: mean 0, variance 1."""


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
    fits, pooled, spare = [], [], 0
    for runs, centre in zip(usable, observed, strict=True):
        degree = smooth_degree(method, runs.x.size)
        fitted, leverage = smooth_fit(runs.x, centre, runs.count, degree=degree)
        free = 1 - leverage[runs.member]
        deviation = np.asarray(forward(runs.run_loss)) - fitted[runs.member]
        usable_run = free > 0.02
        pooled.append(deviation[usable_run] / np.sqrt(free[usable_run]))
        fits.append((fitted, np.where(usable_run, deviation / np.maximum(free, 0.02), 0.0)))
        spare += len(runs.rows) - (degree + 1)
    if spare <= 0:
        reason = "every budget has only as many runs as its curve has coefficients"
        return [runs.loss[None, :] for runs in usable], None, reason
    values = np.concatenate(pooled)
    scale = float(np.sqrt(sum(float((part**2).sum()) for part in pooled) / values.size))
    if num_draws <= 0:
        return [runs.loss[None, :] for runs in usable], scale, "no draws were asked for"
    widen = float(stats.t.ppf(0.975, spare) / stats.norm.ppf(0.975))
    weights: dict[str, NDArray[np.float64]] = {}
    out = []
    for runs, centre, (fitted, wild) in zip(usable, observed, fits, strict=True):
        if cluster is None:
            noise = rng.choice(values - values.mean(), size=(num_draws, len(runs.rows)))
        else:
            names = [str(cluster[row]) for row in runs.rows]
            for name in names:
                if name not in weights:
                    weights[name] = rng.choice(WEBB, size=num_draws)
            noise = np.column_stack([weights[name] for name in names]) * wild
        mean = np.zeros((num_draws, runs.x.size))
        for run, size in enumerate(runs.member):
            mean[:, size] += widen * noise[:, run] / runs.count[size]
        drawn = (centre if method == "akima" else fitted) + mean
        out.append(np.vstack([runs.loss, np.exp(drawn) if positive else drawn]))
    return out, scale, None
