"""`isoflop fit`: a law fitted to tables of runs, as text or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.laws.registry import AUTO, LAWS, get_law
from analysis.runs.table import DEFAULT_REQUIRED, RunTable
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_heldout_argument,
    add_json_argument,
    add_objective_arguments,
    add_table_arguments,
    cluster_of,
    parse_columns,
    spec_of,
    table_from_args,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SINGLE_INPUTS = ("x", "flops", "tokens", "params", "step", "unique_tokens", "width", "depth", "lr", "batch", "vocab")
"""Columns that a law of one input may read, in the order in which they are looked for among --columns."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_table_arguments(parser)
    add_heldout_argument(parser)
    parser.add_argument(
        "--law",
        required=True,
        help=f"one of {', '.join(LAWS)}; see `laws`. auto: a weighted set of them, whose intervals admit "
        "that a law may be wrong",
    )
    parser.add_argument("--breaks", type=int, metavar="N", help="number of breaks of bnsl (default 1)")
    add_objective_arguments(parser)
    add_draws_arguments(parser)
    parser.add_argument("--strata", metavar="COLUMN", help="draw bootstrap samples within each value of COLUMN")
    parser.add_argument("--out", metavar="FILE", help="save the fit here, and its bootstrap draws beside it")
    add_json_argument(parser)


def single_input(law: Law, columns: dict[str, str]) -> str:
    """Which column a law of one input x reads: x if it is named, else the one that --columns names, else flops."""
    named = [name for name in SINGLE_INPUTS if name in columns]
    if "x" in named or not named:
        return "x" if "x" in named else "flops"
    if len(named) > 1:
        raise UserError(f"{law.name} reads one input and --columns names {', '.join(named)}; name it x=COLUMN")
    return named[0]


def whole_curves(table: RunTable) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The rows of every curve of which some are kept, those left out too, and which are kept: schedules need them all.

    Each file is a curve where there is no column `curve`.
    """
    import pandas as pd

    parts = [table.frame.assign(kept=True), table.excluded.assign(kept=False)]
    frame = pd.concat([part for part in parts if len(part)], ignore_index=True)
    if "curve" not in frame:
        frame["curve"] = frame["source"]
    for name in ("step", "lr"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    scheduled = frame["curve"].isin(frame.loc[frame["kept"], "curve"]) & frame[["step", "lr"]].notna().all(axis=1)
    frame = frame[scheduled].reset_index(drop=True)
    return frame.drop(columns="kept"), frame["kept"].to_numpy(dtype=bool)


def run_auto(args: argparse.Namespace) -> int:
    """Fit the set of laws, write, print."""
    from analysis.laws.size_and_data.hoffmann import HOFFMANN
    from analysis.runs.columns import as_columns
    from analysis.selection.auto import SPARE, fit_auto
    from analysis.selection.auto_saved import auto_to_dict, save_auto

    if args.breaks is not None:
        raise UserError("--breaks is an option of bnsl; name that law, or leave it out")
    columns = parse_columns(args.columns)
    table = table_from_args(args, required=("x", "loss") if "x" in columns else DEFAULT_REQUIRED)
    notes = list(table.notes)
    spec = spec_of(args, cluster_of(args, table.frame, len(HOFFMANN.parameters), notes, spare=SPARE))
    auto = fit_auto(as_columns(table.frame), spec, columns=columns, conventions=table.conventions)
    for note in notes:
        print(note, file=sys.stderr)
    if args.out:
        print(f"wrote {save_auto(auto, args.out)}", file=sys.stderr)
    print(json.dumps(auto_to_dict(auto), allow_nan=False) if args.json else auto.summary())
    return 0


def run(args: argparse.Namespace) -> int:
    """Fit, write, print."""
    if args.law == AUTO:
        return run_auto(args)
    from analysis.fitting.fit_law import fit_law
    from analysis.runs.replicates import replicates_note

    law = get_law(args.law, **({} if args.breaks is None else {"breaks": args.breaks}))
    columns = parse_columns(args.columns)
    inputs, aliases = tuple(name for name in law.inputs if name not in law.optional), {}
    if inputs == ("x",):
        name = single_input(law, columns)
        inputs = (name,)
        aliases = {} if name == "x" else {"x": name}
    required = (*inputs, *(("flops",) if {"params", "tokens"} <= set(inputs) else ()), law.target)
    table = table_from_args(args, required=required, allow_nonpositive_loss=args.residuals == "raw")
    frame, rows = (table.frame, None) if law.row_by_row else whole_curves(table)
    data = {str(name): frame[name].to_numpy() for name in frame.columns}
    for name, column in aliases.items():
        data[name] = data[column]
    for option in ("weights", "strata"):
        wanted = getattr(args, option)
        if wanted and wanted not in data and columns.get(wanted) is None:
            raise UserError(f"--{option} names {wanted!r}, which the table lacks; it has {', '.join(data)}")
    conventions: dict[str, Any] = {**table.conventions, **aliases}
    counts = {"params_total", "params_non_embedding", "tokens"}
    if counts <= set(data) and {"params", "tokens"} == set(law.inputs) and law.target == "loss":
        from analysis.frontiers.counting import side_by_side

        conventions["side_by_side"] = side_by_side(
            data, law=law.name, objective=args.objective, delta=args.delta, residuals=args.residuals
        )
    notes = list(table.notes)
    fitted = frame if rows is None else frame[rows]
    same = replicates_note(fitted, inputs, law.target) if law.row_by_row else None
    notes += [] if same is None else [same]
    spec = spec_of(args, cluster_of(args, fitted, len(law.parameters), notes))
    fit = fit_law(law, data, spec, rows=rows, columns=columns, conventions=conventions)
    if aliases:
        fit = replace(fit, predictor=replace(fit.predictor, aliases=aliases))
    for note in notes:
        print(note, file=sys.stderr)
    names = {}
    if args.out:
        path = fit.save(args.out)
        kept = {"draws": fit.draws, "runs": fit.runs}
        names = {kind: f"{path.stem}.{kind}.parquet" for kind, value in kept.items() if value is not None}
        print(f"wrote {path}", file=sys.stderr)
    if args.json:
        print(json.dumps(fit.to_dict(**names), allow_nan=False))
    else:
        print(fit.summary())
    return 0
