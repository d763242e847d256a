"""What a report shows of a study, as frozen results, and the choices that made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.frontiers.compare import SIMULATIONS, Comparison
from analysis.frontiers.curves import Method
from analysis.frontiers.flops_per_token import Shapes
from analysis.frontiers.isoflop_fit import IsoflopFit
from analysis.runs.conventions import loss_unit
from analysis.runs.roles import ASIDE
from analysis.runs.table import RunTable
from analysis.selection.auto import AutoFit
from analysis.study.collapse import Collapse
from experiments.manifests import Manifest
from experiments.records import RunRecord


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was asked of a report."""

    law: str = "hoffmann"
    """Law of the parametric fit; auto for a weighted set, whose heaviest law is then drawn."""
    weigh: bool = False
    """Predict the held-out runs by a weighted set of laws, though `law` is fitted and drawn."""
    holdout: str | None = None
    """Expression that picks the held-out rows; None: role, else the largest budget."""
    title: str | None = None
    """Title of the page."""
    reference: str | None = None
    """Arm of a sweep that the law is fitted to and others are compared with; None: the first recorded."""
    method: Method = "parabola"
    """Curve of the IsoFLOP minima."""
    bootstrap: int = 1000
    """Draws of every interval."""
    cluster: str | None = None
    """Column whose rows are drawn together."""
    level: float = 0.95
    """Nominal coverage."""
    seed: int = 0
    """Seed of the draws."""
    simulations: int = SIMULATIONS
    """Simulated tables of the test of disagreement; 0 for none."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The law, fitted without them, against the held-out runs."""

    rows: pd.DataFrame
    """row, run_id, budget, params, tokens, flops, predicted, lo, hi, measured, error_fraction, carried_forward,
    carried_error; of a weighted set also law_lo and law_hi, the interval of the fitted law alone."""
    mape: Estimate
    """Mean absolute error of the predictions, a fraction."""
    carried_mape: Estimate
    """The same of carrying the best smaller run's loss forward."""
    coverage: float
    """Fraction of the runs within their prediction interval."""
    half_width: float
    """Mean half-width of the prediction intervals, a fraction of the prediction."""
    reach: float
    """Largest held-out compute over the largest fitted."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that a report shows."""

    title: str
    """Title of the page."""
    choices: Choices
    """What was asked for, resolved."""
    table: RunTable
    """All runs that were kept, with `budget_group`, `role_shown` and flags."""
    budgets: tuple[float, ...]
    """Compute budgets ascending, over all runs: one colour each."""
    isoflop_all: IsoflopFit | None
    """IsoFLOP curves with the held-out budgets: for drawing, and as a test of the frontier; None without curves."""
    comparison: Comparison
    """The three approaches on the fitted runs; `comparison.fit` is the law of the headline."""
    refit: Fit | None
    """The same law fitted to the held-out runs too; None without held-out runs."""
    heldout: HeldOut | None
    """The held-out prediction; None when no run is held out."""
    noise: pd.DataFrame
    """Seed replicates: budget, params, tokens, num_seeds, mean_loss, sd_fraction."""
    noise_floor: Estimate | None
    """Pooled standard deviation between seeds, a fraction of the loss; None without replicates."""
    shapes: Shapes
    """FLOPs per token by size."""
    curves: dict[str, pd.DataFrame]
    """run_id -> tokens, train_loss of training; empty without a store."""
    notes: tuple[str, ...]
    """What the reader must know."""
    manifest: Manifest | None
    """The sweep, when the table is one."""
    auto: AutoFit | None = None
    """The weighted set of laws that predicts the held-out runs; None where one law does."""
    collapse: Collapse | None = None
    """Normalised training curves side by side; None with few curves."""
    multipliers: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Compute multipliers by arm and budget; empty for a sweep without arms."""
    registered: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Registered predictions whose runs have come, beside what was measured; empty without any."""

    records: tuple[tuple[RunRecord, Mapping[str, Any]], ...] = ()
    """The records behind the table with the sweep's labels; empty for tables without records."""

    @property
    def configs(self) -> dict[str, Mapping[str, Any]]:
        """run_id -> RunConfig as plain JSON, of the runs that the table holds."""
        if "run_id" not in self.table.frame.columns:
            return {}
        known = set(self.table.frame["run_id"].dropna().astype(str))
        return {record.run_id: record.config for record, _ in self.records if record.run_id in known}

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Rows that were fitted."""
        return (self.table.frame["role_shown"] == "fit").to_numpy(dtype=bool)

    @property
    def shown(self) -> pd.DataFrame:
        """Rows that figures show: all but points in mid-run, other arms and rates that were not the best."""
        return self.table.frame[~self.table.frame["role_shown"].isin(ASIDE)]

    @property
    def fitted_span(self) -> tuple[float, float]:
        """Smallest and largest compute of the fitted rows."""
        flops = self.table.frame.loc[self.fitted, "flops"]
        return float(flops.min()), float(flops.max())

    @property
    def flops_convention(self) -> str:
        """How C is counted: "counted", "6ND" or "as given"."""
        return self.table.conventions.get("flops", "as given")

    @property
    def loss_unit(self) -> str:
        """The unit of the losses: "nats per token", another that the table says, or "unit as given"."""
        return loss_unit(self.table.frame)

    def minima(self) -> list[tuple[pd.Series, bool]]:
        """Minima of the IsoFLOP curves, and whether their budget was held out.

        Returns
        -------
        list of (Series, bool)
            Points of the frontier: those of fitted budgets as they were fitted, those of held-out budgets from the
            curves that include them. Empty without curves.
        """
        fitted = self.comparison.isoflop
        if fitted is None or self.isoflop_all is None:
            return []
        out = [(point, False) for _, point in fitted.frontier.points.iterrows()]
        known = {self.colour_index(float(point["flops"])) for point, _ in out}
        every = self.isoflop_all.frontier.points
        return out + [(point, True) for _, point in every.iterrows() if self.colour_index(point["flops"]) not in known]

    def colour_index(self, budget: float) -> int:
        """Which of the budgets' colours a run has.

        Parameters
        ----------
        budget : float
            C of the run's budget.

        Returns
        -------
        int
            Index of the nearest of `budgets`, in logarithms.
        """
        return int(np.abs(np.log(np.array(self.budgets)) - math.log(budget)).argmin())
