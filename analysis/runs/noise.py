"""What noise says.

The floor that seeds set, paired differences between runs on the same documents, and weights from the variance between
seeds.

Owns the uses of replication. It must not know laws or reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from analysis.arrays import Array
from analysis.estimate import Estimate

DESIGN = ("budget_group", "params", "tokens", "width", "depth", "lr", "batch", "corpus")
"""Columns in which replicates agree, where the table has them."""
NOISE_COLUMNS = ("budget", "params", "tokens", "num_seeds", "mean_loss", "sd_fraction")
"""Columns of the table of replicates; of budget, params and tokens those that the runs have."""


def noise_floor(frame: pd.DataFrame, *, level: float = 0.95) -> tuple[pd.DataFrame, Estimate | None]:
    """Runs that differ in their seed alone: pooled standard deviation of log loss, with its chi-squared interval.

    Parameters
    ----------
    frame : DataFrame
        Runs with a loss and, where replicates are to be found, a seed.
    level : float
        Coverage of the interval.

    Returns
    -------
    replicates : DataFrame
        One row for each replicated design, with NOISE_COLUMNS.
    floor : Estimate or None
        A fraction of the loss; None without replicates.
    """
    empty = pd.DataFrame(columns=list(NOISE_COLUMNS))
    if "seed" not in frame.columns:
        return empty, None
    same = [name for name in DESIGN if name in frame.columns]
    if not same:
        return empty, None
    rows, squares, spare = [], 0.0, 0
    for _, group in frame.groupby(same, dropna=False, sort=True):
        if group["seed"].nunique() < 2:
            continue
        logs = np.log(group["loss"].to_numpy(dtype=float))
        squares += float(((logs - logs.mean()) ** 2).sum())
        spare += len(logs) - 1
        first = group.iloc[0]
        names = {"budget": "budget_group", "params": "params", "tokens": "tokens"}
        row = {ours: first[theirs] for ours, theirs in names.items() if theirs in group.columns}
        rows.append({**row, "num_seeds": len(logs), "mean_loss": group["loss"].mean(), "sd_fraction": logs.std(ddof=1)})
    if not rows:
        return empty, None
    lower, upper = (float(stats.chi2.ppf(tail, spare)) for tail in ((1 + level) / 2, (1 - level) / 2))
    value = math.sqrt(squares / spare)
    ends = (math.sqrt(squares / lower), math.sqrt(squares / upper))
    return pd.DataFrame(rows), Estimate(value=value, lo=ends[0], hi=ends[1], level=level)


@dataclass(frozen=True, kw_only=True)
class SeedWeights:
    """Weights of runs in a fit, from how the variance between seeds changes with tokens."""

    weights: Array
    """Weight of each run, of mean one, shape (n,); all equal when no trend was found."""
    slope: float
    """b of log variance = const + b log tokens; zero when no trend was found."""
    p_value: float | None
    """Of the hypothesis of equal variances; None with fewer than two replicated designs."""
    explanation: str
    """One sentence for the report."""


def seed_weights(
    tokens: ArrayLike, *, group_tokens: ArrayLike, group_variances: ArrayLike, group_dof: ArrayLike, alpha: float = 0.05
) -> SeedWeights:
    """Weights of runs by the variance between seeds.

    They are 1 / variance where replicates show that it depends on the tokens, and equal elsewhere.

    log s^2 of a group with d degrees of freedom has variance trigamma(d / 2) around its true value plus the bias
    digamma(d / 2) - log(d / 2) (Bartlett and Kendall 1946); the trend is fitted by weighted least squares with these,
    and used only when it is significant at `alpha`, because a variance from three seeds is itself known within a
    factor of several.

    Parameters
    ----------
    tokens : array, shape (n,)
        Tokens of the runs that are to be weighted.
    group_tokens : array, shape (g,)
        Tokens of each replicated design.
    group_variances : array, shape (g,)
        Variance of its log losses.
    group_dof : array, shape (g,)
        Degrees of freedom of that variance.
    alpha : float
        Level of the test for a trend.

    Returns
    -------
    SeedWeights
        The weights, and what they follow.
    """
    runs = np.asarray(tokens, dtype=np.float64)
    at, variances, dof = (np.asarray(values, dtype=np.float64) for values in (group_tokens, group_variances, group_dof))
    equal = np.ones_like(runs)
    if len(at) < 2 or np.ptp(np.log(at)) == 0:
        return SeedWeights(
            weights=equal,
            slope=0.0,
            p_value=None,
            explanation="weights are equal: fewer than two designs were replicated",
        )
    logs = np.log(variances) - (special.digamma(dof / 2) - np.log(dof / 2))
    precision = 1 / special.polygamma(1, dof / 2)
    x = np.log(at)
    center = (precision * x).sum() / precision.sum()
    information = (precision * (x - center) ** 2).sum()
    slope = float((precision * (x - center) * logs).sum() / information)
    p_value = float(2 * stats.norm.sf(abs(slope) * math.sqrt(information)))
    if p_value >= alpha:
        return SeedWeights(
            weights=equal,
            slope=0.0,
            p_value=p_value,
            explanation=f"weights are equal: the variance between seeds shows no trend with tokens (p = {p_value:.2g})",
        )
    weights = np.exp(-slope * np.log(runs))
    return SeedWeights(
        weights=weights / weights.mean(),
        slope=slope,
        p_value=p_value,
        explanation=f"weights follow the variance between seeds, which goes as tokens^{slope:.2f} (p = {p_value:.2g})",
    )
