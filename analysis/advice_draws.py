"""Draws of a fit's parameters, and intervals of whatever is computed from them, also where some draws reach no value.

Owns nothing of what is computed. A quantity may be infinite in some draws (a loss that is never reached): an end of an
interval is then infinite too, and `Estimate` has none with its reason.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from analysis.estimate import Estimate
from analysis.fit import Fit

Array = NDArray[np.float64]

NORMAL_DRAWS = 1000
"""Draws from the covariance where a fit has no bootstrap draws."""
BEYOND = 1e6
"""Logarithm that stands for infinity while quantiles are taken."""


def working_draws(fit: Fit, num: int | None = None) -> Array:
    """Working parameters (B, p) of at most `num` draws: the fit's own, else normal ones of its covariance, within the
    law's bounds."""
    predictor = fit.predictor
    if predictor.draws is not None:
        return np.asarray(predictor.draws[:num])
    values, vectors = np.linalg.eigh(predictor.covariance)
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((num or NORMAL_DRAWS, values.size)) * np.sqrt(np.maximum(values, 0.0))
    lower, upper = fit.law.bounds()
    return np.clip(predictor.phi + steps @ vectors.T, lower, upper)


def public_draws(fit: Fit) -> tuple[Array, Array]:
    """Public parameters of the estimate (1, p) and of the draws (B, p)."""
    law, refs = fit.law, fit.predictor.log_refs
    return law.to_public(fit.predictor.phi[None, :], refs), law.to_public(working_draws(fit), refs)


def frontier_reason(fit: Fit) -> str | None:
    """Why sizes and tokens of the frontier have no interval; None when they have one."""
    if fit.predictor.reason is not None:
        return fit.predictor.reason
    return None if fit.frontier_estimates is None else fit.frontier_estimates.get("reason")


def interval(fit: Fit, value: float, draws: Array, *, log: bool = True, reason: str | None = None) -> Estimate:
    """`value` with the calibrated percentile interval of its draws (B,), taken in logarithms for positive quantities.

    An infinite end leaves the estimate without interval, and says in how many draws there was no value.
    """
    if reason is not None:
        return Estimate(value=value, level=fit.level, reason=reason)
    if not math.isfinite(value):
        return Estimate(value=value, level=fit.level, reason="the estimate itself has none")
    missing = ~np.isfinite(draws)
    with np.errstate(divide="ignore"):
        centre, sample = (np.log(value), np.log(draws)) if log else (np.float64(value), draws)
    sample = np.where(missing, BEYOND, sample)
    lo, hi = fit.predictor.calibration.interval(np.array([centre]), sample[:, None])
    ends = (float(lo[0]), float(hi[0]))
    if ends[1] > BEYOND / 10:
        floor = math.exp(ends[0]) if log else ends[0]
        reason = f"no upper end: {100 * missing.mean():.0f} % of the draws have no value; at least {floor:.3g}"
        return Estimate(value=value, level=fit.level, reason=reason)
    if log:
        ends = (math.exp(ends[0]), math.exp(ends[1]))
    return Estimate(value=value, lo=ends[0], hi=ends[1], level=fit.level)
