"""How well a target will be known: the half-widths of its interval that a design leads to expect.

It owns what is expected of one design, by draw and by law. It must not know how designs are found. Half-widths are of
log losses (fractions of the loss), or of the exponent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.design.criterion import Counts, Experiment
from analysis.design.scenarios import Scenarios
from analysis.design.search import Design
from analysis.fitting.fit import Fit
from analysis.uncertainty.quantiles import normal_quantile

SPREAD = (0.05, 0.5, 0.95)
"""Quantiles over the draws of the fit's law that are shown."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """Half-width of the interval of the target that a design leads to expect."""

    median: float
    """Median over the draws of the fit's law."""
    low: float
    """Their 5th percentile."""
    high: float
    """Their 95th percentile."""
    by_law: dict[str, float]
    """Median over the draws of every law that the runs support."""
    bias: dict[str, float]
    """By how much the fit's own law would miss the target where another law holds: median size of the bias."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        out = {name: getattr(self, name) for name in ("median", "low", "high", "by_law")}
        return {**out, "off": self.bias}


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviation of one run's noise, in the unit of the widths."""

    at_target: float
    """As it reaches the target."""
    plain: float
    """Of the residuals, the unit of discrepancies."""


def expected_width(
    used: Sequence[Fit], scenarios: Scenarios, experiment: Experiment, counts: Counts, noise: Noise
) -> Width:
    """The half-width that a design leads to expect: a normal quantile times the noise of one run times sqrt(V).

    Parameters
    ----------
    used : sequence of Fit
        Laws of the scenarios, the fit's own first.
    scenarios : Scenarios
        Which law each scenario has.
    experiment : Experiment
        What each cell says.
    counts : array of int, shape (n,)
        The design.
    noise : Noise
        Of one run.

    Returns
    -------
    Width
        By draw and by law, with the bias where another law holds.
    """
    widths = normal_quantile(0.5 + used[0].level / 2) * noise.at_target * np.sqrt(experiment.variances(counts))
    by = [widths[scenarios.well_specified & (scenarios.law == index)] for index in range(len(used))]
    low, median, high = np.quantile(by[0], SPREAD)
    biases = noise.plain * np.abs(experiment.biases(counts))
    wrong = {one.law.name: ~scenarios.well_specified & (scenarios.truth == index) for index, one in enumerate(used)}
    return Width(
        median=float(median),
        low=float(low),
        high=float(high),
        by_law={one.law.name: float(np.median(of)) for one, of in zip(used, by, strict=True)},
        bias={name: float(np.median(biases[where])) for name, where in wrong.items() if where.any()},
    )


def above_bound(experiment: Experiment, design: Design) -> float | None:
    """By how much a design is wider than the least that any has, were every law certain.

    Parameters
    ----------
    experiment : Experiment
        Cells and limits.
    design : Design
        With its bound.

    Returns
    -------
    float or None
        Fraction of the width; None without a bound.
    """
    if design.bound is None:
        return None
    reached = float(experiment.weights @ np.log(experiment.variances(design.counts)))
    return math.expm1(max(reached - design.bound, 0.0) / 2)
