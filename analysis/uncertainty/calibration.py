"""From the spread of a fit's parameters to intervals that cover at their level with few runs or clusters.

Owns the factors and quantiles that benchmarks/coverage.py checks, and the warnings where they are not enough. It must
not know tables, verbs or figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.solver.problem import Problem
from analysis.uncertainty.quantiles import student_quantile

TAIL = 0.001
"""Fraction of draws in each tail that standard errors do not follow outwards."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns the spread of draws into an interval of nominal coverage."""

    units: int
    """Independent units: runs, or clusters of runs."""
    num_params: int
    """Free parameters."""
    level: float
    """Nominal coverage."""
    inflation: float = 1.0
    """Factor on the deviations of draws from the estimate (see `inflation_for`)."""

    @property
    def dof(self) -> float:
        """Degrees of freedom of the spread: units less parameters, at least one."""
        return float(max(self.units - self.num_params, 1))

    def quantiles(self, points: Array) -> Array:
        """Student's quantiles for intervals from a covariance, widened by sqrt(units / dof).

        Probabilities may have any shape.
        """
        return np.asarray(np.sqrt(self.units / self.dof) * student_quantile(points, self.dof))

    def half_width(self, se: Array) -> Array:
        """Half-width of an interval from sandwich standard errors."""
        return np.asarray(se * float(self.quantiles(np.array([0.5 + self.level / 2]))[0]))

    def interval(self, value: Array, draws: Array) -> tuple[Array, Array]:
        """Percentiles of the inflated deviations of draws.

        Parameters
        ----------
        value : Array, shape (m,)
            Quantities at the estimate.
        draws : Array, shape (B, m)
            The same at the bootstrap draws; NaN where a draw failed.

        Returns
        -------
        lo, hi : Array, shape (m,)
            Ends of the intervals.
        """
        ends = np.nanquantile(draws - value, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return value + self.inflation * ends[0], value + self.inflation * ends[1]

    def estimate(self, value: float, draws: Array) -> Estimate:
        """One quantity with its interval and standard error.

        Parameters
        ----------
        value : float
            The quantity at the estimate.
        draws : Array, shape (B,)
            The same at the bootstrap draws.

        Returns
        -------
        Estimate
            With the interval of `interval`.
        """
        lo, hi = self.interval(np.array([value]), draws[:, None])
        return Estimate(
            value=value,
            lo=float(lo[0]),
            hi=float(hi[0]),
            se=float(np.nanstd(truncated(draws), ddof=1)),
            level=self.level,
        )


def truncated(draws: Array) -> Array:
    """Draws for standard errors, with the outermost thousandth in each tail moved to that quantile.

    Coefficients are exponentials of what is fitted; their draws have tails in which one draw of 4,000 can move the
    plain standard deviation by a tenth. Truncation keeps the bootstrap's variance consistent (Shao 1992, Statistics and
    Probability Letters 15, 95-101) and leaves percentiles alone.

    Parameters
    ----------
    draws : Array, shape (B, ...)
        Bootstrap draws.

    Returns
    -------
    Array, shape (B, ...)
        Truncated draws; as they were where none is finite.
    """
    if not np.isfinite(draws).any():
        return draws
    lo, hi = np.nanquantile(draws, [TAIL, 1 - TAIL], axis=0)
    return np.asarray(np.clip(draws, lo, hi))


def inflation_for(problem: Problem, phi: Array, units: int) -> float:
    """The factor that makes percentile intervals of the bootstrap over runs cover at their level with few runs.

    Drawing runs with replacement spreads least-squares estimates too little, by about sqrt(1 - p / n), and estimates
    that weigh most residuals by their sign alone too much, by about as much: copies of one run pull the fit through it.
    The factor is sqrt(1 + c p / n) with c = 2 q - 1, q the share of residuals within delta beyond the p that any such
    fit passes through. Draws of G clusters spread by (G - 1) / G, and a copied cluster copies all its runs: for
    clusters the factor is sqrt(G / (G - 1) (1 + 1.5 c p / n)). benchmarks/coverage.py measures what this gives.

    Parameters
    ----------
    problem : Problem
        Rows and objective.
    phi : Array, shape (p,)
        Working parameters at the minimum.
    units : int
        Runs, or clusters of runs (G).

    Returns
    -------
    float
        The factor; 1 with no more rows than parameters.
    """
    n, p = problem.num_rows, problem.num_params
    if n <= p:
        return 1.0
    share = problem.objective.share_inside(problem.residuals(phi[None, :])[0], p)
    pull = (2 * share - 1) * p / n
    square = (1 + 1.5 * pull) * units / max(units - 1, 1) if units < n else 1 + pull
    return float(np.sqrt(max(square, 0.25)))


ENOUGH_RUNS = 60
"""Independent runs from which 95 % intervals were measured to cover about as often as they say."""
ENOUGH_CLUSTERS = 12
"""Clusters of runs from which they were; with four, bands of the law covered 72 to 86 % of the time."""


def regime_warnings(num_rows: int, num_clusters: int, num_params: int) -> list[str]:
    """Warnings for fits of few runs or few clusters.

    Parameters
    ----------
    num_rows : int
        Rows fitted.
    num_clusters : int
        Independent units: as many as rows, or clusters of rows.
    num_params : int
        Free parameters.

    Returns
    -------
    list of str
        One sentence, or none.
    """
    if num_clusters < num_rows and num_clusters < ENOUGH_CLUSTERS:
        return [
            f"{num_clusters} clusters are few for {num_params} parameters: intervals are likely too narrow below "
            f"{ENOUGH_CLUSTERS} clusters"
        ]
    if num_rows < ENOUGH_RUNS:
        return [
            f"{num_rows} runs are few for {num_params} parameters: intervals may miss their nominal coverage, which "
            f"simulations established from {ENOUGH_RUNS} runs"
        ]
    return []


WEAK_SIGNAL = 0.3
"""Standard error of an exponent, as a fraction of it, above which the law is far from linear within its own errors."""


def weak_signal(names: Sequence[str], values: Array, errors: Array, *, profiled: bool = False) -> list[str]:
    """A warning for exponents that the noise hides, however many runs there are.

    Parameters
    ----------
    names : sequence of str
        Exponents.
    values : Array, shape (k,)
        Their estimates.
    errors : Array, shape (k,)
        Their standard errors.
    profiled : bool
        Whether intervals come from profiles; below ENOUGH_CLUSTERS clusters, or on long tables, they do not.

    Returns
    -------
    list of str
        One sentence, or none.
    """
    weak = [(name, e / abs(v)) for name, v, e in zip(names, values, errors, strict=True) if e > WEAK_SIGNAL * abs(v)]
    if not weak:
        return []
    shares = ", ".join(f"{name} to {100 * share:.0f} %" for name, share in weak)
    means = (
        "intervals of parameters are those of their profiles, and predictions beyond the runs"
        if profiled
        else "intervals of the floor, of exponents and of predictions beyond the runs"
    )
    return [
        f"the signal is weak beside the noise ({shares} of itself, one standard error): {means} may cover less often "
        "than they say"
    ]
