"""What a report is about.

Runs, their roles and budgets, curves of training, the held-out prediction and the noise floor.

Owns the assembly of one `Study` from tables or a sweep manifest; everything in it is computed. It must not know
figures or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.frontiers.compare import compare_approaches
from analysis.frontiers.flops_per_token import Shapes
from analysis.frontiers.isoflop_fit import IsoflopFit, fit_isoflop
from analysis.runs.budgets import group_budgets
from analysis.runs.columns import as_columns
from analysis.runs.files import read_labelled
from analysis.runs.flags import outliers
from analysis.runs.noise import noise_floor, seed_weights
from analysis.runs.roles import ASIDE, assign_roles
from analysis.runs.table import RunTable, load_tables
from analysis.study.arms import multipliers_of, of_reference, set_aside
from analysis.study.collapse import collapse_of
from analysis.study.curves import training_curves
from analysis.study.heldout import held_out
from analysis.study.study import Choices, Study
from analysis.study.weighted import clusters_for, weigh_laws
from experiments.archives import archive_manifest, is_archive
from experiments.manifests import Manifest, read_manifest


def load_manifest(paths: Sequence[str | Path]) -> Manifest | None:
    """The sweep manifest when exactly one table is given and it is one."""
    if len(paths) == 1 and is_archive(Path(paths[0])):
        return archive_manifest(Path(paths[0]))
    if len(paths) != 1 or Path(paths[0]).suffix != ".json":
        return None
    return read_manifest(Path(paths[0]))


def build_study(
    paths: Sequence[str | Path],
    choices: Choices,
    *,
    columns: dict[str, str] | None = None,
    where: str | None = None,
    drop_largest_losses: int = 0,
) -> Study:
    """Read the runs, assign roles, fit, predict and compare.

    Parameters
    ----------
    paths : sequence of str or Path
        Tables, stores, or one sweep manifest.
    choices : Choices
        How it is fitted and what is held out.
    columns : dict, optional
        Our column names to the table's.
    where : str, optional
        An expression that keeps rows.
    drop_largest_losses : int
        How many of the largest losses are left out.

    Returns
    -------
    Study
        All that a report shows.

    Raises
    ------
    UserError
        Says what is missing and what to do.
    """
    manifest = load_manifest(paths)
    notes: list[str] = []
    asked = choices
    table, choices, budgets = _with_roles(
        load_tables(paths, columns, where, drop_largest_losses), choices, notes, manifest
    )
    frame, cluster = table.frame, choices.cluster
    fitted = table.subset(frame["role_shown"] == "fit")
    if len(fitted.frame) < 2:
        count = "one run is" if len(fitted.frame) else "no run is"
        mend = f"loosen --holdout {choices.holdout!r} or give more runs" if choices.holdout else "give more runs"
        raise UserError(f"{count} left to fit, and a report takes two at least: {mend}")
    grid = _grid(frame["flops"].to_numpy(dtype=float))
    noise, floor = noise_floor(frame[~frame["role_shown"].isin(ASIDE)], level=choices.level)
    weighting = seed_weights(
        fitted.frame["tokens"],
        group_tokens=noise["tokens"],
        group_variances=noise["sd_fraction"] ** 2,
        group_dof=noise["num_seeds"] - 1,
    )
    if len(noise):
        notes.append(weighting.explanation)
    needed = [name for name in ("params", "tokens", "flops", "loss", cluster) if name is not None]
    spec = FitSpec(bootstrap=choices.bootstrap, cluster=cluster, level=choices.level, seed=choices.seed)
    weighted = replace(spec, weights=weighting.weights if weighting.slope else None)
    held = frame[frame["role_shown"] == "heldout"]
    choices, auto = weigh_laws(choices, asked, fitted.frame, weighted, notes, num_held=len(held))
    law_fit = fit_law(choices.law, as_columns(fitted.frame, needed), weighted, conventions=table.conventions)
    comparison = compare_approaches(
        fitted, spec, law=law_fit, method=choices.method, flops=grid, simulations=choices.simulations
    )
    refit = None
    if len(held):
        both = frame[frame["role_shown"].isin(["fit", "heldout"])]
        names = [name for name in ("params", "tokens", "loss", cluster) if name is not None]
        refit = fit_law(choices.law, as_columns(both, names), spec)
    isoflop_all: IsoflopFit | None = None
    if comparison.isoflop is not None:
        drawn = table.subset(frame["role_shown"].isin(["fit", "heldout"]))
        isoflop_all = fit_isoflop(drawn, spec, method=choices.method)
    flags = _with_residual_flags(table, comparison.fit)
    multipliers = multipliers_of(manifest, table, level=choices.level, notes=notes, reference=choices.reference)
    curves = training_curves(paths, frame)
    name = manifest.name if manifest else Path(paths[0]).stem
    return Study(
        title=choices.title or (str(manifest.report.get("title") or name) if manifest else name),
        choices=choices,
        table=replace(table, flags=flags),
        budgets=budgets,
        isoflop_all=isoflop_all,
        comparison=comparison,
        refit=refit,
        heldout=held_out(comparison.fit, fitted.frame, held, choices, auto=auto) if len(held) else None,
        noise=noise,
        noise_floor=floor,
        shapes=Shapes.from_frame(frame),
        curves=curves,
        collapse=collapse_of(curves, _floor(law_fit), level=choices.level),
        notes=tuple(notes),
        manifest=manifest,
        auto=auto,
        multipliers=multipliers,
        records=tuple(pair for path in paths for pair in read_labelled(Path(path))),
    )


def _floor(fit: Fit) -> float:
    """The irreducible loss of the law where the runs identify it, else none."""
    return float(fit.params["E"]) if "E" in fit.params and fit.identified.get("E") is None else 0.0


def _with_roles(
    table: RunTable, choices: Choices, notes: list[str], manifest: Manifest | None
) -> tuple[RunTable, Choices, tuple[float, ...]]:
    """The table with budget groups and roles, the choices with the bootstrap's clusters, and the budgets.

    Budgets are in FLOPs; notes are added to.
    """
    frame = table.frame.copy()
    budget, warnings = group_budgets(frame)
    frame["budget_group"] = budget
    notes += [*table.notes, *warnings]
    first = of_reference(frame, manifest, choices.reference)
    frame["role_shown"] = assign_roles(frame, choices.holdout, notes, among=first)
    frame["role_shown"] = set_aside(frame, manifest, notes, reference=choices.reference)
    cluster = choices.cluster
    if cluster is not None and cluster not in frame.columns:
        raise UserError(f"--cluster {cluster} is no column of the table; leave it out or name one")
    if cluster is None:
        cluster, note = clusters_for(frame[frame["role_shown"] == "fit"], choices.law)
        notes += [] if note is None else [note]
    budgets = tuple(float(value) for value in budget.groupby(np.round(np.log(budget), 6)).first())
    return replace(table, frame=frame), replace(choices, cluster=cluster), budgets


def _grid(flops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute at which frontiers are drawn: half a decade beyond the runs on the left, one decade on the right."""
    return np.geomspace(flops.min() / 3, flops.max() * 10, 49)


def _with_residual_flags(table: RunTable, fit: Fit) -> pd.Series:
    """Flags with the residual added where a run lies far from the law."""
    frame = table.frame
    predicted = fit.predict(as_columns(frame, fit.law.inputs), interval="none")["loss"].to_numpy()
    residual = np.log(frame["loss"].to_numpy(dtype=float) / predicted)
    fitted = (frame["role_shown"] == "fit").to_numpy(dtype=bool)
    far = outliers(residual, fitted)
    flags = []
    for text, value, is_far in zip(table.flags, residual, far, strict=True):
        more = f"{100 * math.expm1(value):+.2g} % from the law" if is_far else ""
        flags.append("; ".join(part for part in (str(text), more) if part))
    return pd.Series(flags, index=frame.index, dtype=object)
