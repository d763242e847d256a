"""Which runs to add so that a prediction, or an exponent, is known best for a budget.

Owns the plan: what is run with which seeds, what it costs, and what it is expected to give beside a uniform grid. Cells
are advice_cells.py's, search is advice_search.py's, gradients are advice_scenarios.py's. C in FLOPs
(a count), N in parameters, D in tokens; half-widths are of log losses (fractions of the loss), or of the exponent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.advice.ladder import Ladder, Size
from analysis.advice.optimum import check_law, compute_optimal
from analysis.design.candidates import LawFit, candidate_fits, noise_scale, shared_noise
from analysis.design.cells import Cells, Limits, uniform_grid
from analysis.design.criterion import Experiment
from analysis.design.scenarios import Scenarios, make_scenarios, noise_at_target
from analysis.design.search import Design, search
from analysis.design.target import Target
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.uncertainty.quantiles import normal_quantile

TRUNK_CORRELATION = 0.5
"""Share of the noise that runs of one trunk have in common where no runs of the fit tell (that of docs/coverage.md)."""


SAME_SIZE = 1e-3
"""Sizes whose N differ by less than this fraction are one."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One cell of the plan."""

    size: Size
    """The shape."""
    tokens: float
    """D."""
    seeds: tuple[int, ...]
    """One run for each."""
    flops: float
    """Training FLOPs of one run on its own."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**self.size.to_dict(), "tokens": self.tokens, "seeds": list(self.seeds), "flops": self.flops}


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
    off: dict[str, float]
    """By how much the fit's own law would miss the target where another law holds: median size of the bias."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in ("median", "low", "high", "by_law", "off")}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Runs to add, and what they are good for."""

    target: Target
    """What is to be known best."""
    budget: float
    """FLOPs that may be spent."""
    cells: tuple[PlannedCell, ...]
    """What to run, ascending in N and D."""
    cost: float
    """FLOPs of all of them, trunks shared where that was asked for."""
    unshared_cost: float
    """FLOPs of all of them, each trained on its own."""
    now: Estimate
    """The target as the fit knows it."""
    expected: Width
    """With these runs."""
    grid: Width
    """With the best uniform grid instead."""
    grid_cells: tuple[PlannedCell, ...]
    """The best uniform grid within the budget and limits."""
    grid_cost: float
    """Its FLOPs."""
    above_bound: float | None
    """Largest fraction by which the width (mean over laws and draws) exceeds the least that any design within the
    limits has, were every law certain; None where trunks are shared."""
    laws: tuple[LawFit, ...]
    """Laws that were asked."""
    limits: Limits
    """What could be run."""
    ladder: Ladder
    """Shapes that could be run."""
    asked_to_share: bool
    """Whether runs could share trunks."""
    share: tuple[float, float] | None
    """Decay fraction and correlation within a trunk; None where they do not share trunks: because that was not asked
    for, or since independent runs are worth more."""

    @property
    def num_runs(self) -> int:
        """Runs, replicates counted."""
        return sum(len(cell.seeds) for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        target = {name: getattr(self.target, name) for name in ("flops", "params", "tokens", "exponent")}
        return {
            "target": {name: value for name, value in target.items() if value is not None},
            "budget": self.budget,
            "flops": self.cost,
            "flops_unshared": self.unshared_cost,
            "convention": self.ladder.convention,
            "shapes": self.ladder.source,
            "num_runs": self.num_runs,
            "cells": [cell.to_dict() for cell in self.cells],
            "now": self.now.to_dict(),
            "half_width": self.expected.to_dict(),
            "uniform_grid": {
                "num_runs": sum(len(cell.seeds) for cell in self.grid_cells),
                "flops": self.grid_cost,
                "half_width": self.grid.to_dict(),
                "cells": [cell.to_dict() for cell in self.grid_cells],
            },
            "width_over_grid": self.expected.median / self.grid.median,
            "above_bound": self.above_bound,
            "laws": [{"law": one.fit.law.name, "akaike": one.akaike, "used": one.used} for one in self.laws],
            "limits": {name: getattr(self.limits, name) for name in self.limits.__dataclass_fields__},
            "prefix_sharing": {
                "allowed": self.asked_to_share,
                "used": self.share is not None,
                "decay_fraction": None if self.share is None else self.share[0],
                "correlation": None if self.share is None else self.share[1],
            },
        }


def plan_runs(
    fit: Fit,
    target: Target,
    budget: float,
    *,
    ladder: Ladder,
    limits: Limits,
    laws: Sequence[str] | Sequence[LawFit] | None = None,
    decay_fraction: float | None = None,
    correlation: float | None = None,
    draws: int = 16,
    seed: int = 0,
) -> Plan:
    """The runs that make the target's interval narrowest for the budget.

    Parameters
    ----------
    fit : of the runs that exist
    target : loss at a C or a point, or an exponent
    budget : training FLOPs to spend, in the ladder's convention
    ladder, limits : what may be run
    laws : other laws to be robust to, by name or as `candidate_fits` gave them; None: `CANDIDATE_LAWS`. Those that the
        runs do not support are left out
    decay_fraction : part of a run that decays, when runs of one size and seed may share their trunk; None: they may not
    correlation : share of the noise that runs of a trunk have in common; None: as in the fit's clusters, else
        TRUNK_CORRELATION
    draws : draws of each law that the design is averaged over
    seed : of the draws of the other laws
    """
    check_law(fit)
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(f"--budget is {budget:g}; give training FLOPs above zero, such as 1e20")
    measured = shared_noise(fit)
    rho = correlation if correlation is not None else TRUNK_CORRELATION if measured is None else measured
    if not 0 <= rho < 1:
        raise UserError(f"--trunk-correlation is {rho:g}; give a share of the variance from 0 up to, not including, 1")
    cells = Cells.within(ladder, limits, budget)
    ready = [one for one in laws or () if isinstance(one, LawFit)]
    names = None if laws is None else [str(name) for name in laws]
    fits = ready or candidate_fits(fit, names, draws=draws, seed=seed)
    scenarios = make_scenarios(
        fits, cells.inputs, target, flops_per_token=ladder.per_token, draws=draws, correlation=rho
    )
    alone = Experiment(
        gradients=scenarios.gradients,
        target=scenarios.target,
        information=scenarios.information,
        weights=scenarios.weights,
        tokens=cells.inputs["tokens"],
        flops_per_token=cells.flops_per_token,
        group=cells.size_of,
        budget=budget,
        doubt=None if bool(scenarios.trusted.all()) else scenarios.doubt,
        max_replicates=limits.max_replicates,
        max_runs=limits.max_runs,
    )
    experiment, design = alone, search(alone)
    if decay_fraction is not None:
        together = replace(alone, decay_fraction=decay_fraction, correlation=rho)
        if (shared := search(together)).criterion < design.criterion:
            experiment, design = together, shared
    sharing = experiment is not alone
    grid, now = uniform_grid(cells, alone), _now(fit, target, ladder)
    unit = 1.0 if target.exponent is not None or fit.predictor.log_residuals else now.value
    noise = noise_at_target(fit, target, flops_per_token=ladder.per_token, correlation=rho) / unit
    used = [one.fit for one in fits if one.used]

    def width(of: Experiment, counts: NDArray[np.int64]) -> Width:
        return _width(used, scenarios, of, counts, noise=noise, plain=noise_scale(fit) / unit)

    return Plan(
        target=target,
        budget=budget,
        cells=_planned(fit, cells, design.counts, shared=sharing),
        cost=design.cost,
        unshared_cost=float((experiment.tokens * experiment.flops_per_token) @ design.counts),
        now=now,
        expected=width(experiment, design.counts),
        grid=width(alone, grid),
        grid_cells=_planned(fit, cells, grid),
        grid_cost=alone.cost(grid),
        above_bound=_above(experiment, design),
        laws=tuple(fits),
        limits=limits,
        ladder=ladder,
        asked_to_share=decay_fraction is not None,
        share=(decay_fraction, rho) if sharing and decay_fraction is not None and rho is not None else None,
    )


def _planned(fit: Fit, cells: Cells, counts: NDArray[np.int64], *, shared: bool = False) -> tuple[PlannedCell, ...]:
    """The chosen cells with their seeds, which go on after those of runs of the same size that exist.

    Runs of one size and seed have the same trunk whether or not it is trained once, so runs that are to be independent
    get a seed each.
    """
    out = []
    for index, size in enumerate(cells.sizes):
        first = 0
        if fit.runs is not None:
            here = np.abs(np.log(fit.runs["params"] / size.params)) < SAME_SIZE
            known = fit.runs["seed"][here] if "seed" in fit.runs else np.arange(here.sum())
            first = int(known.max()) + 1 if known.size else 0
        for cell in np.flatnonzero((cells.size_of == index) & (counts > 0)):
            seeds = tuple(range(first, first + int(counts[cell])))
            first += 0 if shared else len(seeds)
            tokens = float(cells.amounts[cells.amount_of[cell]])
            out.append(PlannedCell(size=size, tokens=tokens, seeds=seeds, flops=tokens * size.flops_per_token))
    return tuple(sorted(out, key=lambda item: (item.size.params, item.tokens)))


def _now(fit: Fit, target: Target, ladder: Ladder) -> Estimate:
    """The target as the fit knows it."""
    if target.exponent is not None:
        from analysis.frontiers.parametric import parametric_frontier
        from analysis.laws.allocation import six_n

        per_token = None if ladder.per_token is six_n else ladder.per_token
        frontier = parametric_frontier(fit, flops_per_token=per_token)
        found = frontier.a if target.exponent == "a" else frontier.b
        assert found is not None
        return found
    if target.flops is not None:
        return compute_optimal(fit, target.flops, ladder).loss
    row = fit.predict({"params": [target.params], "tokens": [target.tokens]}, interval="confidence").iloc[0]
    if fit.predictor.reason is not None:
        return Estimate(value=float(row["loss"]), level=fit.level, reason=fit.predictor.reason)
    lo, hi = float(row["confidence_lo"]), float(row["confidence_hi"])
    return Estimate(value=float(row["loss"]), lo=lo, hi=hi, level=fit.level)


def _width(
    used: Sequence[Fit], scenarios: Scenarios, experiment: Experiment, counts: NDArray[np.int64], *, noise: float,
    plain: float,
) -> Width:  # fmt: skip
    """Expected half-widths: a normal quantile times the noise of one run (as it reaches the target) times sqrt(V); and
    biases, which are in units of the plain noise."""
    widths = normal_quantile(0.5 + used[0].level / 2) * noise * np.sqrt(experiment.variances(counts))
    by = [widths[scenarios.trusted & (scenarios.law == index)] for index in range(len(used))]
    low, median, high = np.quantile(by[0], [0.05, 0.5, 0.95])
    by_law = {one.law.name: float(np.median(of)) for one, of in zip(used, by, strict=True)}
    biases = plain * np.abs(experiment.biases(counts))
    wrong = {one.law.name: ~scenarios.trusted & (scenarios.truth == index) for index, one in enumerate(used)}
    off = {name: float(np.median(biases[where])) for name, where in wrong.items() if where.any()}
    return Width(median=float(median), low=float(low), high=float(high), by_law=by_law, off=off)


def _above(experiment: Experiment, design: Design) -> float | None:
    if design.bound is None:
        return None
    reached = float(experiment.weights @ np.log(experiment.variances(design.counts)))
    return math.expm1(max(reached - design.bound, 0.0) / 2)
