"""How many optimiser steps a run takes, and how many a law needs.

A run of too few steps is still in the steep first part of its training, which no law of N and D describes
(docs/decisions/2026-11-22-quickstart.md). This file owns how many steps a size takes on its tokens: under the recipe
of a template, else with the batch of the runs at hand. It must not know shapes or designs.
N in parameters, D in tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.formatting import format_size
from experiments.config.designs import MIN_LAW_STEPS, MIN_STEPS

NUM_BUDGETS = 400
"""Token budgets among which the shortest that is long enough is looked for."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is known of the number of steps of a run."""

    batch: Callable[[float, float], float] | None = field(default=None, compare=False)
    """(N, D) -> tokens of a step; None when nothing says it."""
    source: str = ""
    """Where the batch is from, for the output."""
    least: int = MIN_LAW_STEPS
    """Steps below which no law is taken to hold."""

    def __post_init__(self) -> None:
        if self.least < MIN_STEPS:
            raise UserError(f"--min-steps is {self.least}; give {MIN_STEPS} or more: `plan` takes no shorter runs")

    @classmethod
    def of_runs(cls, runs: Mapping[str, Array] | None, least: int = MIN_LAW_STEPS) -> Steps:
        """Steps with the batch of the runs of a fit, where all have the same.

        Parameters
        ----------
        runs : mapping or None
            Of a fit.
        least : int
            Steps that a law needs.

        Returns
        -------
        Steps
            Without a batch where nothing says it.
        """
        batch = batch_of_runs(runs)
        if batch is None:
            return cls(least=least)
        return cls(batch=lambda params, tokens: batch, source="batch of the fit's runs", least=least)

    def count(self, params: float, tokens: float) -> int | None:
        """Steps of a run.

        Parameters
        ----------
        params : float
            N.
        tokens : float
            D.

        Returns
        -------
        int or None
            Whole steps; None when nothing says how many tokens a step has.
        """
        return None if self.batch is None else round(tokens / self.batch(params, tokens))

    def suffice(self, params: float, tokens: float) -> bool:
        """Whether a run is long enough for a law, as far as that is known."""
        steps = self.count(params, tokens)
        return steps is None or steps >= self.least

    def fewest_tokens(self, params: float, low: float, high: float) -> float:
        """The least D from `low` to `high` at which a run of N is long enough.

        Parameters
        ----------
        params : float
            N.
        low : float
            Fewest tokens.
        high : float
            Most tokens.

        Returns
        -------
        float
            Tokens; infinite when `high` is too few.
        """
        for tokens in np.geomspace(low, high, NUM_BUDGETS):
            if self.suffice(params, float(tokens)):
                return float(tokens)
        return float("inf")

    def complaint(self, params: float, tokens: float) -> str | None:
        """Why no law tells the loss of a run, as the end of a sentence; None when it is long enough.

        Parameters
        ----------
        params : float
            N.
        tokens : float
            D.

        Returns
        -------
        str or None
            How many steps of how many tokens it takes.
        """
        steps = self.count(params, tokens)
        if self.batch is None or steps is None or steps >= self.least:
            return None
        return (
            f"takes {steps:,} steps of {format_size(self.batch(params, tokens))} tokens ({self.source}); no law is "
            f"taken to hold below {self.least:,} (--min-steps)"
        )

    @property
    def clause(self) -> str:
        """The limit as the end of a clause, such as ` and at least 350 steps`; empty where steps are not known."""
        return "" if self.batch is None else f" and at least {self.least:,} steps ({self.source})"


def batch_of_runs(runs: Mapping[str, Array] | None) -> int | None:
    """Tokens of a step where all runs of a fit have the same.

    Parameters
    ----------
    runs : mapping or None
        Of a fit.

    Returns
    -------
    int or None
        None when they differ or nothing says it.
    """
    if runs is None or "batch" not in runs or np.unique(runs["batch"]).size != 1 or not runs["batch"][0] > 0:
        return None
    return int(runs["batch"][0])


def short_runs(runs: Mapping[str, Array] | None, least: int) -> str | None:
    """Which runs of a fit were too short for its law, in a sentence.

    Parameters
    ----------
    runs : mapping or None
        Of a fit.
    least : int
        Steps that a law needs.

    Returns
    -------
    str or None
        None when all were long enough, or nothing says their batch.
    """
    if runs is None or "batch" not in runs:
        return None
    short = int((runs["tokens"] < least * runs["batch"]).sum())
    if not short:
        return None
    return (
        f"{short} of the fit's {runs['tokens'].size} runs took fewer than {least} steps, where no law is taken to "
        f"hold: leave them out with `fit --where 'tokens >= {least} * batch'`"
    )
