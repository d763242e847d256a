"""Laws that the existing runs may follow, and the noise about them.

Owns which laws the runs support, how noisy one run is and how much of that runs of a trunk share. It must not know
designs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.laws.allocation import supports_frontier
from analysis.laws.registry import get_law

CANDIDATE_LAWS = ("hoffmann", "kaplan", "skaling")
"""Laws that are asked beside the fit's own, where the runs support them."""
NO_SUPPORT = 10.0
"""Difference of Akaike's criterion from the best law's beyond which the runs do not support a law (Burnham and Anderson
2002, section 2.6)."""


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
    """The fit, and other laws fitted to its runs in the same way, with Akaike's criterion.

    Parameters
    ----------
    names : laws to ask; None: CANDIDATE_LAWS. The fit's own law is always used
    draws : bootstrap draws of each other law
    seed : of their draws
    """
    if fit.runs is None:
        return [LawFit(fit=fit, akaike=0.0, used=True)]
    from analysis.fitting.fit_law import fit_law

    options = fit.options
    own: dict[str, Any] = {
        "objective": options["objective"],
        "delta": options["delta"] or 1e-3,
        "residuals": options["residuals"],
        "level": fit.level,
        "weights": fit.runs["weights"],
        "cluster": fit.runs.get("cluster"),
    }
    fits = [fit]
    for name in CANDIDATE_LAWS if names is None else names:
        law = get_law(name)
        if not supports_frontier(law):
            raise UserError(f"{name} is no law of params and tokens; --laws takes such laws, e.g. hoffmann,skaling")
        enough = fit.num_rows > len(law.parameters)
        if name != fit.law.name and (enough or names is not None):
            fits.append(fit_law(law, fit.runs, bootstrap=max(draws, 2), rng=seed, **own))
    criteria = [_akaike(one) for one in fits]
    best = min(criteria)
    return [
        LawFit(fit=one, akaike=value - best, used=one is fit or value - best <= NO_SUPPORT)
        for one, value in zip(fits, criteria, strict=True)
    ]


def _akaike(fit: Fit) -> float:
    """2 p - 2 log likelihood: of normal noise for squared residuals, of Laplace's for the robust ones."""
    assert fit.runs is not None
    value = fit.predict(dict(fit.runs), interval="none")["loss"].to_numpy()
    loss = fit.runs["loss"]
    residuals = np.log(value / loss) if fit.predictor.log_residuals else value - loss
    n, squared = loss.size, fit.loss_term.is_quadratic
    scale = float((residuals**2).mean()) if squared else float(np.abs(residuals).mean()) ** 2
    return float(n * np.log(max(scale, 1e-300)) + 2 * len(fit.law.parameters))


def noise_scale(fit: Fit) -> float:
    """Standard deviation of one run's noise that gives the fit's own precision: sqrt(mean psi^2) / mean psi'.

    For least squares it is the residuals' own; for Huber's objective with a small delta and normal noise it is
    sqrt(pi / 2) times as much. The slope is averaged over a window of the residuals' width, as in the sandwich.
    """
    residuals = fit.predictor.residuals
    objective = fit.loss_term
    slope = float(objective.mean_slope(residuals).mean())
    return float(np.sqrt((objective.psi(residuals) ** 2).mean()) / max(slope, 1e-300))


def shared_noise(fit: Fit) -> float | None:
    """Share of the variance that runs of one cluster have in common: the intra-class correlation of the residuals by
    analysis of variance, within 0 and 0.9; None without clusters of several runs."""
    if fit.runs is None or "cluster" not in fit.runs:
        return None
    value = fit.predict(dict(fit.runs), interval="none")["loss"].to_numpy()
    residuals = np.log(value / fit.runs["loss"]) if fit.predictor.log_residuals else value - fit.runs["loss"]
    _, codes, sizes = np.unique(fit.runs["cluster"], return_inverse=True, return_counts=True)
    n, groups = residuals.size, sizes.size
    if groups < 2 or n == groups:
        return None
    means = np.bincount(codes, weights=residuals) / sizes
    between = float((sizes * (means - residuals.mean()) ** 2).sum()) / (groups - 1)
    within = float(((residuals - means[codes]) ** 2).sum()) / (n - groups)
    per = (n - float((sizes**2).sum()) / n) / (groups - 1)
    return float(np.clip((between - within) / (between + (per - 1) * within), 0.0, 0.9))
