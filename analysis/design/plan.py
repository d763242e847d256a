"""Which runs to add so that a prediction, or an exponent, is known best for a budget.

It owns the plan: what is run with which seeds, what it costs, and what it is expected to give beside a uniform grid.
Cells, scenarios, the search and the expected widths have files of their own. C in FLOPs (a count), N in parameters,
D in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.advice.compute_optimal import check_law, compute_optimal
from analysis.advice.shapes import Ladder
from analysis.design.candidates import LawFit, candidate_fits, noise_scale, shared_noise
from analysis.design.cells import Cells, PlannedCell, RunLimits, uniform_grid
from analysis.design.criterion import Counts, Experiment
from analysis.design.scenarios import Question, Scenarios, make_scenarios, noise_at_target
from analysis.design.search import Design, search
from analysis.design.target import Target
from analysis.design.width import Noise, Width, above_bound, expected_width
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.fitting.reach import why_no_interval
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import six_n

PREFIX_CORRELATION = 0.5
"""Share of the noise that runs of one shared prefix have in common where no runs of the fit tell
(docs/concepts/intervals.md)."""
SAME_SIZE = 1e-3
"""Sizes whose N differ by less than this fraction are one."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Which laws a design is robust to, and how well they are sampled."""

    laws: Sequence[str] | Sequence[LawFit] | None = None
    """Other laws, by name or as `candidate_fits` gave them; None: `CANDIDATE_LAWS`. Those that the runs do not support
    are left out."""
    draws: int = 16
    """Draws of each law that the design is averaged over."""
    seed: int = 0
    """Of the draws of the other laws."""

    def candidates(self, fit: Fit) -> list[LawFit]:
        """The laws, fitted to the runs of a fit, with its own law first.

        Parameters
        ----------
        fit : Fit
            With its runs.

        Returns
        -------
        list of LawFit
            As they were given, where they are fitted already.
        """
        ready = [one for one in self.laws or () if isinstance(one, LawFit)]
        names = None if self.laws is None else [str(name) for name in self.laws]
        return ready or candidate_fits(fit, names, draws=self.draws, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How runs of one size and seed may share a prefix of their training."""

    decay_fraction: float | None = None
    """Part of a run that decays; None: every run is trained on its own."""
    correlation: float | None = None
    """Share of the noise that runs of one prefix have in common; None: as in the fit's clusters, else
    PREFIX_CORRELATION."""

    def correlation_for(self, fit: Fit) -> float:
        """The share of the noise that runs of one prefix have in common.

        Parameters
        ----------
        fit : Fit
            Whose clusters say it where it was not given.

        Returns
        -------
        float
            From 0 up to, not including, 1.

        Raises
        ------
        UserError
            For another number.
        """
        measured = shared_noise(fit)
        found = PREFIX_CORRELATION if measured is None else measured
        rho = found if self.correlation is None else self.correlation
        if not 0 <= rho < 1:
            raise UserError(
                f"--trunk-correlation is {rho:g}; give a share of the variance from 0 up to, not including, 1"
            )
        return rho


@dataclass(frozen=True, kw_only=True)
class DesignPlan:
    """Runs to add, and what they are good for."""

    target: Target
    """What is to be known best."""
    budget: float
    """FLOPs that may be spent."""
    cells: tuple[PlannedCell, ...]
    """What to run, ascending in N and D."""
    cost: float
    """FLOPs of all of them, prefixes shared where that was asked for."""
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
    limits has, were every law certain; None where prefixes are shared."""
    laws: tuple[LawFit, ...]
    """Laws that were asked."""
    limits: RunLimits
    """What could be run."""
    ladder: Ladder
    """Shapes that could be run."""
    asked_to_share: bool
    """Whether runs could share prefixes."""
    share: tuple[float, float] | None
    """Decay fraction, and correlation within a prefix; None where runs share none: because that was not asked for, or
    since independent runs are worth more."""

    @property
    def num_runs(self) -> int:
        """Runs, replicates counted."""
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def num_grid_runs(self) -> int:
        """Runs of the best uniform grid, replicates counted."""
        return sum(len(cell.seeds) for cell in self.grid_cells)

    @property
    def half_width_now(self) -> float | None:
        """Half-width of the target as the fit knows it; None without an interval."""
        if self.now.lo is None or self.now.hi is None:
            return None
        if self.target.exponent is not None:
            return (self.now.hi - self.now.lo) / 2
        return math.log(self.now.hi / self.now.lo) / 2

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "target": self.target.to_dict(),
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
                "num_runs": self.num_grid_runs,
                "flops": self.grid_cost,
                "half_width": self.grid.to_dict(),
                "cells": [cell.to_dict() for cell in self.grid_cells],
            },
            "width_over_grid": self.expected.median / self.grid.median if self.grid.median > 0 else None,
            "above_bound": self.above_bound,
            "laws": [{"law": one.fit.law.name, "akaike": one.akaike, "used": one.used} for one in self.laws],
            "limits": self.limits.to_dict(),
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
    limits: RunLimits,
    robustness: Robustness | None = None,
    sharing: Sharing | None = None,
) -> DesignPlan:
    """The runs that make the target's interval narrowest for a budget.

    Parameters
    ----------
    fit : Fit
        Of the runs that exist.
    target : Target
        Loss at a C or at a point, or an exponent.
    budget : float
        Training FLOPs to spend, in the ladder's convention.
    ladder : Ladder
        Shapes that may be run.
    limits : RunLimits
        What may be run.
    robustness : Robustness, optional
        Which other laws the design is robust to.
    sharing : Sharing, optional
        Whether runs of one size and seed may share a prefix; by default they do not.

    Returns
    -------
    DesignPlan
        Runs, costs and what they are expected to give.

    Raises
    ------
    UserError
        For a law without a frontier, a budget that pays for no run, or a target without a finite gradient.
    """
    check_law(fit)
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(f"--budget is {budget:g}; give training FLOPs above zero, such as 1e20")
    robustness, sharing = robustness or Robustness(), sharing or Sharing()
    rho = sharing.correlation_for(fit)
    cells = Cells.within(ladder, limits, budget)
    fits = robustness.candidates(fit)
    question = Question(cells=cells.inputs, target=target, per_token=ladder.per_token, correlation=rho)
    scenarios = make_scenarios(fits, question, draws=robustness.draws)
    alone = _experiment(scenarios, cells, limits, budget)
    experiment, design = _searched(alone, sharing.decay_fraction, rho)
    grid, now = uniform_grid(cells, alone), _now(fit, target, ladder)
    used, noise = [one.fit for one in fits if one.used], _noise(fit, question, now)
    shared = experiment.decay_fraction
    return DesignPlan(
        target=target,
        budget=budget,
        cells=_planned(fit, cells, design.counts, limits, shared=shared is not None),
        cost=design.cost,
        unshared_cost=float(experiment.flops @ design.counts),
        now=now,
        expected=expected_width(used, scenarios, experiment, design.counts, noise),
        grid=expected_width(used, scenarios, alone, grid, noise),
        grid_cells=_planned(fit, cells, grid, limits, shared=False),
        grid_cost=alone.cost(grid),
        above_bound=above_bound(experiment, design),
        laws=tuple(fits),
        limits=limits,
        ladder=ladder,
        asked_to_share=sharing.decay_fraction is not None,
        share=None if shared is None else (shared, rho),
    )


def _experiment(scenarios: Scenarios, cells: Cells, limits: RunLimits, budget: float) -> Experiment:
    """The cells with what they say, each run trained on its own."""
    return Experiment(
        gradients=scenarios.gradients,
        target=scenarios.target,
        information=scenarios.information,
        weights=scenarios.weights,
        tokens=cells.inputs["tokens"],
        flops_per_token=cells.flops_per_token,
        group=cells.size_of,
        budget=budget,
        discrepancy=None if bool(scenarios.well_specified.all()) else scenarios.discrepancy,
        max_replicates=limits.max_replicates,
        max_runs=limits.max_runs,
    )


def _searched(alone: Experiment, decay_fraction: float | None, correlation: float) -> tuple[Experiment, Design]:
    """The best design, with shared prefixes where these may be shared and are worth more, and its experiment."""
    design = search(alone)
    if decay_fraction is None:
        return alone, design
    together = replace(alone, decay_fraction=decay_fraction, correlation=correlation)
    shared = search(together)
    return (together, shared) if shared.criterion < design.criterion else (alone, design)


def _noise(fit: Fit, question: Question, now: Estimate) -> Noise:
    """Noise of one run as a fraction of the loss, or in the unit of the exponent."""
    target = question.target
    unit = 1.0 if target.exponent is not None or fit.predictor.log_residuals else now.value
    reaching = noise_at_target(fit, target, flops_per_token=question.per_token, correlation=question.correlation)
    return Noise(at_target=reaching / unit, plain=noise_scale(fit) / unit)


def _planned(fit: Fit, cells: Cells, counts: Counts, limits: RunLimits, *, shared: bool) -> tuple[PlannedCell, ...]:
    """The chosen cells with their seeds, which go on after those of runs of the same size that exist.

    Runs of one size and seed have the same prefix whether or not it is trained once, so runs that are to be independent
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
            steps = limits.steps.count(size.params, tokens)
            out.append(PlannedCell(size=size, tokens=tokens, seeds=seeds, steps=steps))
    return tuple(sorted(out, key=lambda item: (item.size.params, item.tokens)))


def _now(fit: Fit, target: Target, ladder: Ladder) -> Estimate:
    """The target as the fit knows it."""
    if target.exponent is not None:
        per_token = None if ladder.per_token is six_n else ladder.per_token
        frontier = parametric_frontier(fit, flops_per_token=per_token)
        found = frontier.a if target.exponent == "a" else frontier.b
        assert found is not None
        return found
    if target.flops is not None:
        return compute_optimal(fit, target.flops, ladder).loss
    at = {"params": np.array([target.params]), "tokens": np.array([target.tokens])}
    row = fit.predict(at, interval="confidence").iloc[0]
    (unknown,) = why_no_interval(fit, at)
    if unknown is not None:
        return Estimate(value=float(row["loss"]), level=fit.level, reason=unknown)
    lo, hi = float(row["confidence_lo"]), float(row["confidence_hi"])
    return Estimate(value=float(row["loss"]), lo=lo, hi=hi, level=fit.level)
