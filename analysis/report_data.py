"""What a report is about: runs, their roles and budgets, curves of training, the held-out prediction and the noise
floor.

Owns the assembly of one `Study` from tables or a sweep manifest; everything in it is computed. It must not know
figures or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.api import fit_law
from analysis.compare import SIMULATIONS, Comparison, as_columns, compare_approaches
from analysis.envelope import undecayed_rows
from analysis.errors import UserError
from analysis.estimate import Estimate, format_compute
from analysis.expressions import select_rows
from analysis.fit import Fit
from analysis.isoflop import IsoflopFit, fit_isoflop
from analysis.isoflop_budgets import group_budgets
from analysis.laws.registry import get_law
from analysis.noise import noise_floor, seed_weights
from analysis.outliers import far_runs
from analysis.report_curves import training_curves
from analysis.shapes import Shapes
from analysis.table import RunTable, load_tables
from experiments.records import Manifest, RecordError, read_manifest


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was asked of a report."""

    law: str = "hoffmann"
    """Law of the parametric fit."""
    holdout: str | None = None
    """Expression that picks the held-out rows; None: role, else the largest budget."""
    title: str | None = None
    """Title of the page."""
    method: str = "parabola"
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
    carried_error."""
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

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Rows that were fitted."""
        return (self.table.frame["role_shown"] == "fit").to_numpy(dtype=bool)

    def colour_index(self, budget: float) -> int:
        """Which of the budgets' colours a run has."""
        return int(np.abs(np.log(np.array(self.budgets)) - math.log(budget)).argmin())


def load_manifest(paths: Sequence[str | Path]) -> Manifest | None:
    """The sweep manifest when exactly one table is given and it is one."""
    if len(paths) != 1 or Path(paths[0]).suffix != ".json":
        return None
    try:
        return read_manifest(Path(paths[0]))
    except RecordError as error:
        raise UserError(str(error)) from error


def build_study(
    paths: Sequence[str | Path],
    choices: Choices,
    *,
    columns: dict[str, str] | None = None,
    where: str | None = None,
    drop_largest_losses: int = 0,
) -> Study:
    """Read the runs, assign roles, fit, predict and compare; UserError says what is missing and what to do."""
    table = load_tables(paths, columns, where, drop_largest_losses)
    manifest = load_manifest(paths)
    frame = table.frame.copy()
    notes = list(table.notes)
    budget, warnings = group_budgets(frame)
    frame["budget_group"] = budget
    notes += warnings
    frame["role_shown"] = _roles(frame, choices.holdout, notes)
    cluster = choices.cluster
    if cluster is not None and cluster not in frame.columns:
        raise UserError(f"--cluster {cluster} is no column of the table; leave it out or name one")
    if cluster is None and "trunk" in frame.columns and frame["trunk"].notna().all():
        fitted_rows = frame["role_shown"] == "fit"
        shared = int(fitted_rows.sum()) - frame.loc[fitted_rows, "trunk"].nunique()
        trunks, num_params = frame.loc[fitted_rows, "trunk"].nunique(), len(get_law(choices.law).parameters)
        if shared > 0 and trunks >= num_params:
            cluster = "trunk"
            notes.append(f"runs are drawn by trunk: {shared} fitted runs share training with another")
        elif shared > 0:
            notes.append(
                f"{trunks} trunks are too few to draw by for {num_params} parameters: intervals take runs of one trunk "
                "as independent and are likely too narrow"
            )
    choices = Choices(**{**choices.__dict__, "cluster": cluster})
    table = RunTable(
        frame=frame, excluded=table.excluded, flags=table.flags, conventions=table.conventions, notes=table.notes
    )
    fitted = table.subset(frame["role_shown"] == "fit")
    if len(fitted.frame) < 2:
        raise UserError(
            f"{len(fitted.frame)} run(s) left to fit; loosen --holdout {choices.holdout!r} or give more runs"
        )
    budgets = tuple(float(value) for value in budget.groupby(np.round(np.log(budget), 6)).first())
    grid = _grid(frame["flops"].to_numpy(dtype=float))
    noise, floor = noise_floor(frame[frame["role_shown"] != "mid-run"], level=choices.level)
    weighting = seed_weights(
        fitted.frame["tokens"],
        group_tokens=noise["tokens"],
        group_variances=noise["sd_fraction"] ** 2,
        group_dof=noise["num_seeds"] - 1,
    )
    if len(noise):
        notes.append(weighting.explanation)
    needed = [name for name in ("params", "tokens", "flops", "loss", cluster) if name is not None]
    law_fit = fit_law(
        choices.law,
        as_columns(fitted.frame, needed),
        weights=weighting.weights if weighting.slope else None,
        bootstrap=choices.bootstrap,
        cluster=cluster,
        level=choices.level,
        rng=np.random.default_rng(choices.seed),
        conventions=table.conventions,
    )
    comparison = compare_approaches(
        fitted,
        fit=law_fit,
        law=choices.law,
        method=choices.method,
        bootstrap=choices.bootstrap,
        cluster=cluster,
        level=choices.level,
        seed=choices.seed,
        flops=grid,
        simulations=choices.simulations,
    )
    held = frame[frame["role_shown"] == "heldout"]
    refit = None
    if len(held):
        both = frame[frame["role_shown"].isin(["fit", "heldout"])]
        names = [name for name in ("params", "tokens", "loss", cluster) if name is not None]
        refit = fit_law(
            choices.law,
            as_columns(both, names),
            bootstrap=choices.bootstrap,
            cluster=cluster,
            level=choices.level,
            rng=np.random.default_rng(choices.seed),
        )
    isoflop_all: IsoflopFit | None = None
    if comparison.isoflop is not None:
        drawn = table.subset(frame["role_shown"].isin(["fit", "heldout"]))
        options: dict[str, Any] = {"bootstrap": choices.bootstrap, "cluster": cluster, "level": choices.level}
        isoflop_all = fit_isoflop(drawn, method=choices.method, rng=np.random.default_rng(choices.seed), **options)
    flags = _with_residual_flags(table, comparison.fit)
    name = manifest.name if manifest else Path(paths[0]).stem
    return Study(
        title=choices.title or (str(manifest.report.get("title") or name) if manifest else name),
        choices=choices,
        table=RunTable(
            frame=frame, excluded=table.excluded, flags=flags, conventions=table.conventions, notes=table.notes
        ),
        budgets=budgets,
        isoflop_all=isoflop_all,
        comparison=comparison,
        refit=refit,
        heldout=held_out(comparison.fit, fitted.frame, held, choices) if len(held) else None,
        noise=noise,
        noise_floor=floor,
        shapes=Shapes.from_frame(frame),
        curves=training_curves(paths, frame),
        notes=tuple(notes),
        manifest=manifest,
    )


def _roles(frame: pd.DataFrame, holdout: str | None, notes: list[str]) -> pd.Series:
    """fit, heldout, replicate or mid-run for every row."""
    role = pd.Series("fit", index=frame.index, dtype=object)
    given = frame["role"].astype(str) if "role" in frame.columns else pd.Series("", index=frame.index)
    role[given == "replicate"] = "replicate"
    if holdout:
        held = select_rows(holdout, frame)
        if not bool(held.any()):
            largest = format_compute(frame["flops"].max())
            raise UserError(f"--holdout {holdout!r} holds out no run; mend it (the largest C is {largest})")
    elif bool((given == "heldout").any()):
        held = given == "heldout"
    else:
        budget = frame["budget_group"]
        held = budget == budget.max()
        if budget.nunique() >= 3:
            notes.append(f"no --holdout was given: the largest budget, {format_compute(budget.max())}, is held out")
        else:
            held &= False
            notes.append("no run is held out: fewer than three compute budgets and no --holdout")
    role[held & (role == "fit")] = "heldout"
    mid = undecayed_rows(frame)
    if bool(mid.any()):
        role[mid] = "mid-run"
        notes.append(f"{int(mid.sum())} points in mid-run are not fitted: their learning rate was not decayed")
    return role


def _grid(flops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute at which frontiers are drawn: half a decade beyond the runs on the left, one decade on the right."""
    return np.geomspace(flops.min() / 3, flops.max() * 10, 49)


def _with_residual_flags(table: RunTable, fit: Fit) -> pd.Series:
    """Flags with the residual added where a run lies far from the law."""
    frame = table.frame
    predicted = fit.predict(as_columns(frame, fit.law.inputs), interval="none")["loss"].to_numpy()
    residual = np.log(frame["loss"].to_numpy(dtype=float) / predicted)
    fitted = (frame["role_shown"] == "fit").to_numpy(dtype=bool)
    far = far_runs(residual, fitted)
    flags = []
    for text, value, is_far in zip(table.flags, residual, far, strict=True):
        more = f"{100 * math.expm1(value):+.2g} % from the law" if is_far else ""
        flags.append("; ".join(part for part in (str(text), more) if part))
    return pd.Series(flags, index=frame.index, dtype=object)


def held_out(fit: Fit, fitted: pd.DataFrame, held: pd.DataFrame, choices: Choices) -> HeldOut:
    """Predict the held-out runs, and carry the best fitted loss forward beside it.

    Intervals of the two mean errors are percentiles over draws of the law and of the held-out runs together.
    """
    inputs = as_columns(held, fit.law.inputs)
    predicted = fit.predict(inputs)
    measured = held["loss"].to_numpy(dtype=float)
    best = float(fitted["loss"].min())
    value = predicted["loss"].to_numpy(dtype=float)
    rows = pd.DataFrame(
        {
            "row": held["row"].to_numpy(),
            "run_id": held["run_id"].to_numpy() if "run_id" in held.columns else [None] * len(held),
            "budget": held["budget_group"].to_numpy(),
            **{name: held[name].to_numpy() for name in ("params", "tokens", "flops")},
            "predicted": value,
            "lo": predicted["prediction_lo"].to_numpy(),
            "hi": predicted["prediction_hi"].to_numpy(),
            "measured": measured,
            "error_fraction": (value - measured) / measured,
            "carried_forward": best,
            "carried_error": (best - measured) / measured,
        }
    )
    rng = np.random.default_rng([choices.seed, 2])
    draws = fit.draws
    if draws is None or len(held) < 2:
        why = "no draws were asked for" if draws is None else "one held-out run"
        mape = Estimate(value=float(rows["error_fraction"].abs().mean()), level=fit.level, reason=why)
        carried = Estimate(value=float(rows["carried_error"].abs().mean()), level=fit.level, reason=why)
    else:
        law_draws = np.array([fit.law(theta, inputs) for theta in draws])
        picks = rng.integers(0, len(held), size=(len(draws), len(held)))
        errors = np.abs(np.take_along_axis(law_draws, picks, axis=1) / measured[picks] - 1).mean(axis=1)
        carried_errors = np.abs(best / measured[picks] - 1).mean(axis=1)
        mape = Estimate.from_draws(float(rows["error_fraction"].abs().mean()), errors, level=fit.level)
        carried = Estimate.from_draws(float(rows["carried_error"].abs().mean()), carried_errors, level=fit.level)
    return HeldOut(
        rows=rows.sort_values(["flops", "params"]).reset_index(drop=True),
        mape=mape,
        carried_mape=carried,
        coverage=float(((measured >= rows["lo"]) & (measured <= rows["hi"])).mean()),
        half_width=float(((rows["hi"] - rows["lo"]) / (2 * rows["predicted"])).mean()),
        reach=float(held["flops"].max() / fitted["flops"].max()),
    )
