"""Laws that the existing runs may follow, and the noise about them.

It owns which laws the runs support, how noisy one run is, and how much of that noise runs of one cluster share. It must
not know designs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.laws.allocation import supports_frontier
from analysis.laws.registry import get_law

CANDIDATE_LAWS = ("hoffmann", "kaplan", "skaling")
"""Laws that are asked beside the fit's own, where the runs support them."""
NO_SUPPORT = 10.0
"""Difference of Akaike's criterion from the best law's beyond which the runs do not support a law (Burnham and Anderson
2002, section 2.6)."""
MAX_SHARED = 0.9
"""Largest share of the noise that runs of one cluster are taken to have in common."""


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """One candidate law fitted to the existing runs."""

    fit: Fit
    """Its fit."""
    akaike: float
    """Akaike's criterion, up to a constant that all laws share."""
    used: bool
    """Whether the runs support it."""


def candidate_fits(fit: Fit, names: Sequence[str] | None, *, draws: int, seed: int) -> list[LawFit]:
    """A fit, and other laws fitted to its runs in the same way.

    Parameters
    ----------
    fit : Fit
        Its own law is always used.
    names : sequence of str or None
        Other laws to ask; None: CANDIDATE_LAWS, those that have fewer parameters than there are runs.
    draws : int
        Bootstrap draws of each other law.
    seed : int
        Of these draws.

    Returns
    -------
    list of LawFit
        The fit first, each with Akaike's criterion.

    Raises
    ------
    UserError
        For a law that is not of params and tokens.
    """
    runs = fit.runs
    if runs is None:
        return [LawFit(fit=fit, akaike=0.0, used=True)]
    own = FitSpec(
        objective=fit.options["objective"],
        delta=fit.options["delta"] or 1e-3,
        residuals=fit.options["residuals"],
        weights=runs["weights"],
        cluster=runs.get("cluster"),
        bootstrap=max(draws, 2),
        level=fit.level,
        seed=seed,
    )
    fits = [fit]
    for name in CANDIDATE_LAWS if names is None else names:
        law = get_law(name)
        if not supports_frontier(law):
            raise UserError(f"{name} is no law of params and tokens; --laws takes such laws, e.g. hoffmann,skaling")
        enough = fit.num_rows > len(law.parameters)
        if name != fit.law.name and (enough or names is not None):
            fits.append(fit_law(law, runs, own))
    criteria = [_akaike(one, runs) for one in fits]
    best = min(criteria)
    return [
        LawFit(fit=one, akaike=value - best, used=one is fit or value - best <= NO_SUPPORT)
        for one, value in zip(fits, criteria, strict=True)
    ]


def _residuals(fit: Fit, runs: Mapping[str, Array]) -> Array:
    """Predicted less measured, in logarithms where the fit is."""
    value, loss = fit.predict(dict(runs), interval="none")["loss"].to_numpy(), runs["loss"]
    return np.asarray(np.log(value / loss) if fit.predictor.log_residuals else value - loss)


def _akaike(fit: Fit, runs: Mapping[str, Array]) -> float:
    """2 p - 2 log likelihood: of normal noise for squared residuals, of Laplace's for the robust ones."""
    residuals = _residuals(fit, runs)
    squared = fit.loss_term.is_quadratic
    scale = float((residuals**2).mean()) if squared else float(np.abs(residuals).mean()) ** 2
    return float(residuals.size * np.log(max(scale, 1e-300)) + 2 * len(fit.law.parameters))


def noise_scale(fit: Fit) -> float:
    """Standard deviation of one run's noise that gives the fit's own precision.

    It is sqrt(mean psi^2) / mean psi' (Huber 1964). For least squares it is the residuals' own; for Huber's objective
    with a small delta and normal noise it is sqrt(pi / 2) times as much. The slope is averaged over a window of the
    residuals' width, as in the sandwich.

    Parameters
    ----------
    fit : Fit
        With its residuals.

    Returns
    -------
    float
        In the unit of the residuals.
    """
    residuals = fit.predictor.residuals
    objective = fit.loss_term
    slope = float(objective.mean_slope(residuals).mean())
    return float(np.sqrt((objective.psi(residuals) ** 2).mean()) / max(slope, 1e-300))


def shared_noise(fit: Fit) -> float | None:
    """Share of the noise's variance that runs of one cluster have in common.

    Parameters
    ----------
    fit : Fit
        With its runs and their clusters.

    Returns
    -------
    float or None
        The intra-class correlation of the residuals by analysis of variance, within 0 and MAX_SHARED; None without
        clusters of several runs.
    """
    if fit.runs is None or "cluster" not in fit.runs:
        return None
    residuals = _residuals(fit, fit.runs)
    _, codes, sizes = np.unique(fit.runs["cluster"], return_inverse=True, return_counts=True)
    n, groups = residuals.size, sizes.size
    if groups < 2 or n == groups:
        return None
    means = np.bincount(codes, weights=residuals) / sizes
    between = float((sizes * (means - residuals.mean()) ** 2).sum()) / (groups - 1)
    within = float(((residuals - means[codes]) ** 2).sum()) / (n - groups)
    per = (n - float((sizes**2).sum()) / n) / (groups - 1)
    return float(np.clip((between - within) / (between + (per - 1) * within), 0.0, MAX_SHARED))
