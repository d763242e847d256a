"""Intervals of what follows from a fit, such as a, b and N_opt: from its draws, or by the delta method without them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.fitting.prediction import Predictor
from analysis.laws.allocation import Array, exponents, supports_frontier
from analysis.laws.base import Law

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


def frontier_summary(law: Law, predictor: Predictor, log_flops: Array) -> dict[str, Any] | None:
    """The `frontier` object of the JSON: a and b under C = 6 N D with intervals, and the range of C fitted."""
    if not supports_frontier(law):
        return None
    span = (float(log_flops.min()), float(log_flops.max()))
    centre, sample, weight = _samples(law, predictor)
    (a, b), (a_draws, b_draws) = exponents(law, centre, span), exponents(law, sample, span)
    return {
        "convention": "6ND",
        "a": _estimate(predictor, float(a[0]), a_draws, weight).to_dict(),
        "b": _estimate(predictor, float(b[0]), b_draws, weight).to_dict(),
        "flops_range": [float(np.exp(span[0])), float(np.exp(span[1]))],
    }


def _samples(law: Law, predictor: Predictor) -> tuple[Array, Array, Array | None]:
    """Public parameters at the estimate (1, p) and of the draws (B, p); without draws, both ends of the covariance's
    axes."""
    centre = law.to_public(predictor.phi[None, :], predictor.log_refs)
    if predictor.draws is not None:
        return centre, law.to_public(predictor.draws, predictor.log_refs), None
    eigenvalues, vectors = np.linalg.eigh(predictor.covariance)
    length = np.sqrt(np.maximum(eigenvalues, 0.0))
    step = np.minimum(length, 1e-4 * np.maximum(length.max(), 1e-12)) + 1e-12
    moved = np.concatenate([predictor.phi + (vectors * step).T, predictor.phi - (vectors * step).T])
    return centre, law.to_public(moved, predictor.log_refs), length / step


def _standard_error(draws: Array, weight: Array) -> Array:
    half = weight.size
    slope = (draws[:half] - draws[half:]) / 2
    return np.asarray(np.sqrt(((slope.T * weight) ** 2).sum(axis=-1)))


def _ends(predictor: Predictor, value: Array, draws: Array, weight: Array | None) -> tuple[Array, Array]:
    if weight is None:
        return predictor.calibration.interval(value, draws)
    half = predictor.calibration.half_width(_standard_error(draws, weight))
    return value - half, value + half


def _estimate(predictor: Predictor, value: float, draws: Array, weight: Array | None) -> Estimate:
    if weight is None:
        return predictor.calibration.estimate(value, draws)
    se = _standard_error(draws[:, None], weight)
    half = float(predictor.calibration.half_width(se)[0])
    return Estimate(value=value, lo=value - half, hi=value + half, se=float(se[0]), level=predictor.level)
