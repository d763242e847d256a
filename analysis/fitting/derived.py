"""Intervals of what follows from a fit, such as a, b, N_opt or the price of a loss: one rule for all of them.

With bootstrap draws an interval holds the percentiles of the quantity over the draws. Where draws mislead (the fit
then has a region, see `analysis.uncertainty.region`) it is the range over the profiles of all parameters. Without draws
it comes from the delta method: the quantity is computed at the estimate and a short step away on both sides along each
axis of the covariance, and its standard error is widened by Student's quantile.
docs/decisions/2026-11-28-derived-intervals.md says what other rules were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.fitting.frontier_exponents import FrontierExponents
from analysis.fitting.prediction import Predictor
from analysis.laws.allocation import exponents
from analysis.laws.base import Law
from analysis.uncertainty.calibration import Calibration

if TYPE_CHECKING:
    from analysis.fitting.fit import Fit

STEP = 0.1
"""Step of the delta method in standard errors along an axis of the covariance: short enough for the slope, and long
enough that an optimum, which is found to 1e-7, moves by much more than that."""
NORMAL_DRAWS = 1000
"""Draws from the covariance where a fit has no bootstrap draws."""
NOT_SMOOTH = "it has no finite value near the estimate"
"""Why a quantity has no interval by the delta method."""
BEYOND = 1e6
"""Logarithm that stands for infinity while quantiles are taken."""


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """Parameters at the estimate of a fit and about it, from which intervals of derived quantities are made."""

    centre: Array
    """Public parameters at the estimate, shape (1, p)."""
    about: Array
    """Public parameters about it, shape (B, p): points of profiles, where draws mislead; else bootstrap draws; without
    these the steps up along the p axes of the covariance, then the steps down."""
    lengths: Array | None
    """Standard errors over steps along each axis, shape (p,); None with draws or profiles."""
    ranges: bool
    """Whether an interval is the range over `about`, which holds points of profiles."""
    calibration: Calibration
    """What turns spread into intervals."""

    @classmethod
    def of(cls, law: Law, predictor: Predictor) -> Neighbourhood:
        """The neighbourhood of a fitted law.

        Parameters
        ----------
        law : Law
            The law.
        predictor : Predictor
            Its working parameters, with draws or a covariance.

        Returns
        -------
        Neighbourhood
            With profiles or bootstrap draws where the fit has them.
        """
        refs = predictor.log_refs
        centre = law.to_public(predictor.phi[None, :], refs)
        if predictor.region is not None:
            about = law.to_public(predictor.region, refs)
            return cls(centre=centre, about=about, lengths=None, ranges=True, calibration=predictor.calibration)
        if predictor.draws is not None:
            about = law.to_public(predictor.draws, refs)
            return cls(centre=centre, about=about, lengths=None, ranges=False, calibration=predictor.calibration)
        eigenvalues, vectors = np.linalg.eigh(predictor.covariance)
        length = np.sqrt(np.maximum(eigenvalues, 0.0))
        step = STEP * length + 1e-12
        moved = np.concatenate([predictor.phi + (vectors * step).T, predictor.phi - (vectors * step).T])
        about = law.to_public(moved, refs)
        lengths = length / step
        return cls(centre=centre, about=about, lengths=lengths, ranges=False, calibration=predictor.calibration)

    @property
    def has_draws(self) -> bool:
        """Whether `about` holds bootstrap draws."""
        return self.lengths is None and not self.ranges

    def standard_error(self, values: Array) -> Array:
        """Standard errors by the delta method of quantities at `about` (B, m), shape (m,)."""
        assert self.lengths is not None
        half = self.lengths.size
        slope = (values[:half] - values[half:]) / 2
        return np.asarray(np.sqrt(((slope.T * self.lengths) ** 2).sum(axis=-1)))

    def ends(self, value: Array, values: Array) -> tuple[Array, Array]:
        """Ends of the intervals of derived quantities.

        Parameters
        ----------
        value : Array, shape (m,)
            The quantities at `centre`.
        values : Array, shape (B, m)
            The quantities at `about`.

        Returns
        -------
        lo, hi : Array, shape (m,)
            The ends.
        """
        if self.ranges:
            return np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        if self.lengths is None:
            return self.calibration.interval(value, values)
        half = self.calibration.half_width(self.standard_error(values))
        return value - half, value + half

    def estimate(self, value: float, values: Array) -> Estimate:
        """A derived quantity with its interval and standard error.

        Parameters
        ----------
        value : float
            The quantity at `centre`.
        values : Array, shape (B,)
            The quantity at `about`.

        Returns
        -------
        Estimate
            Without an interval where the quantity has no finite value near the estimate.
        """
        if self.ranges:
            lo, hi = float(np.nanmin(values)), float(np.nanmax(values))
            return Estimate(value=value, lo=lo, hi=hi, level=self.calibration.level)
        if self.lengths is None:
            return self.calibration.estimate(value, values)
        se = float(self.standard_error(values[:, None])[0])
        if not math.isfinite(se):
            return Estimate(value=value, level=self.calibration.level, reason=NOT_SMOOTH)
        half = float(self.calibration.half_width(np.array([se]))[0])
        return Estimate(value=value, lo=value - half, hi=value + half, se=se, level=self.calibration.level)

    def interval(
        self,
        value: float,
        values: Array,
        *,
        log: bool = True,
        reason: str | None = None,
        missing: float | None = None,
    ) -> Estimate:
        """A derived quantity with its interval, taken in logarithms where it is positive.

        Parameters
        ----------
        value : float
            The quantity at `centre`.
        values : Array, shape (B,)
            The quantity at `about`; infinite where it has no value.
        log : bool
            Whether to take the interval of the logarithm.
        reason : str, optional
            Why there is no interval, when that is known already.
        missing : float, optional
            Share of plausible parameters for which the quantity has no value; by default that of `values`.

        Returns
        -------
        Estimate
            Without an interval where its upper end would be infinite; the reason then says for what share of the draws
            the quantity has no value.
        """
        level = self.calibration.level
        if reason is not None:
            return Estimate(value=value, level=level, reason=reason)
        if not math.isfinite(value):
            return Estimate(value=value, level=level, reason="the estimate itself has none")
        absent = ~np.isfinite(values)
        share = float(absent.mean()) if missing is None else missing
        with np.errstate(divide="ignore"):
            centre, sample = (np.log(value), np.log(values)) if log else (np.float64(value), values)
        lo, hi = self.ends(np.array([centre]), np.where(absent, BEYOND, sample)[:, None])
        ends = (float(lo[0]), float(hi[0]))
        back = math.exp if log else float
        too_many = self.lengths is not None and share > (1 - level) / 2
        if ends[1] > BEYOND / 10 or too_many:
            least = back(ends[0]) if ends[0] > -BEYOND / 10 else 0.0
            text = f"no upper end: {100 * share:.0f} % of the draws have no value; at least {least:.3g}"
            return Estimate(value=value, level=level, reason=text)
        return Estimate(value=value, lo=back(ends[0]), hi=back(ends[1]), level=level)


def neighbourhood(fit: Fit) -> Neighbourhood:
    """The neighbourhood of a fit: see `Neighbourhood`."""
    return Neighbourhood.of(fit.law, fit.predictor)


def working_draws(fit: Fit, num: int | None = None) -> Array:
    """Parameters that a fit leaves possible, for designs of further runs.

    Parameters
    ----------
    fit : Fit
        The fit.
    num : int, optional
        Most draws; by default all bootstrap draws, or NORMAL_DRAWS.

    Returns
    -------
    Array, shape (B, p)
        Working parameters: the fit's first bootstrap draws, else normal ones of its covariance within the law's bounds.
        Normal and not Student's, because a design is made for few draws, of which none may be extreme.
    """
    predictor = fit.predictor
    if predictor.draws is not None:
        return np.asarray(predictor.draws[:num])
    values, vectors = np.linalg.eigh(predictor.covariance)
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((num or NORMAL_DRAWS, values.size)) * np.sqrt(np.maximum(values, 0.0))
    lower, upper = fit.law.bounds()
    return np.asarray(np.clip(predictor.phi + steps @ vectors.T, lower, upper))


def plausible(fit: Fit) -> Array:
    """Public parameters (B, p) that a fit leaves possible: its bootstrap draws, else Student's draws of its covariance.

    They say for what share of the parameters a quantity has a value at all; intervals come from `neighbourhood`.
    """
    predictor = fit.predictor
    phi = predictor.draws
    if phi is None:
        phi = predictor.parameters(fit.law, NORMAL_DRAWS, np.random.default_rng(0))
    return fit.law.to_public(phi, predictor.log_refs)


def frontier_reason(fit: Fit) -> str | None:
    """Why sizes and tokens of the frontier have no interval; None when they have one."""
    if fit.predictor.reason is not None:
        return fit.predictor.reason
    return None if fit.frontier_estimates is None else fit.frontier_estimates.reason


def frontier_exponents(
    law: Law, predictor: Predictor, log_span: tuple[float, float], *, reason: str | None, note: str | None
) -> FrontierExponents:
    """The exponents a and b of a fitted law under C = 6 N D.

    Parameters
    ----------
    law : Law
        A law of params and tokens.
    predictor : Predictor
        Its working parameters, with draws or a covariance.
    log_span : (float, float)
        Logarithms of the smallest and largest C of the fitted runs.
    reason : str or None
        Why the runs do not determine the frontier; the exponents then have no interval.
    note : str or None
        What to say about the convention.

    Returns
    -------
    FrontierExponents
        The exponents with intervals.
    """
    near = Neighbourhood.of(law, predictor)
    values, samples = exponents(law, near.centre, log_span), exponents(law, near.about, log_span)
    a, b = (near.estimate(float(value[0]), sample) for value, sample in zip(values, samples, strict=True))
    if reason is not None:
        a, b = (Estimate(value=one.value, se=one.se, level=one.level, reason=reason) for one in (a, b))
    low, high = (float(np.exp(end)) for end in log_span)
    return FrontierExponents(a=a, b=b, flops_range=(low, high), reason=reason, note=note)
