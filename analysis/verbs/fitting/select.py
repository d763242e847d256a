"""`isoflop select TABLE...`: laws ranked by how they extrapolate, and the one to use."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import UserError
from analysis.files import json_ready, write_json
from analysis.fitting.spec import FitSpec
from analysis.formatting import format_number, format_percent
from analysis.laws.registry import get_law
from analysis.runs.columns import rename_columns, usable
from analysis.runs.expressions import nearest, select_rows
from analysis.runs.files import read_rows, row_names
from analysis.runs.roles import rows_to_fit
from analysis.runs.table import RowRules, RunTable, load_tables
from analysis.selection.choice import REFERENCE, SURE
from analysis.selection.select import SelectionResult, select_law
from analysis.selection.windows import NUM_WINDOWS, given_window, nested_windows
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_heldout_argument,
    add_json_argument,
    add_objective_arguments,
    add_table_arguments,
    cluster_of,
    parse_columns,
    parse_point,
    spec_of,
)
from experiments.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_table_arguments(parser)
    add_heldout_argument(parser)
    parser.add_argument("--laws", metavar="A,B,...", help="laws to choose from (default: all whose inputs are there)")
    parser.add_argument("--holdout", metavar="EXPR", help="score on these rows, fit on the others (default: cut-offs)")
    parser.add_argument("--windows", type=int, default=NUM_WINDOWS, metavar="K", help="most cut-offs in compute")
    sure = format_percent(SURE, 3).replace("%", "%%")  # argparse reads a single one as a placeholder
    parser.add_argument(
        "--reference",
        default=REFERENCE,
        metavar="LAW",
        help=f"law that is kept unless another beats it in {sure} of the redraws (default {REFERENCE}; 'none': none)",
    )
    parser.add_argument("--average", action="store_true", help="weigh the identified laws by their errors as well")
    parser.add_argument(
        "--at", metavar="NAME=VALUE,...", help="with --average: predict here, e.g. params=7e9,tokens=1e12"
    )
    add_objective_arguments(parser)
    add_draws_arguments(parser, draws=2000, what="redraws of runs and windows")
    parser.add_argument(
        "--out", metavar="DIR", help="write the figure, ranking.csv, predictions.csv and selection.json"
    )
    add_json_argument(parser)


def read_table(args: argparse.Namespace, wanted: list[str]) -> RunTable:
    """The table with params, tokens, flops and loss as far as it has them, and all inputs of the laws in `wanted`."""
    columns = parse_columns(args.columns)
    present = set.intersection(
        *(
            set(map(str, rename_columns(read_rows(Path(path)), columns, path=Path(path)).columns))
            for path in args.tables
        )
    )
    core = [name for name in ("params", "tokens", "flops") if name in present]
    if "params" in core and len(core) == 2:
        core = ["params", "tokens", "flops"]
    inputs = [name for law in wanted for name in get_law(law).inputs if name != "x" or "x" in columns]
    required = list(dict.fromkeys([*core, *inputs, "loss"]))
    return load_tables(
        args.tables,
        columns,
        args.where,
        args.drop_largest_losses,
        required=required,
        rules=RowRules(
            allow_nonpositive_loss=args.residuals == "raw",
            min_rows=4,
            keep_copies=args.keep_copies,
            include_heldout=args.include_heldout or args.holdout is not None,
        ),
    )


def run(args: argparse.Namespace) -> int:
    """Read, choose, write, print."""
    from analysis.runs.noise import noise_floor

    for value, name, low in ((args.windows, "--windows", 1), (args.bootstrap, "--bootstrap", 0)):
        if value < low:
            raise UserError(f"{name} is {value}; give {low} or more")
    if args.at is not None and not args.average:
        raise UserError("--at predicts with the average; add --average, or use predict with one law")
    if not 0 < args.level < 1:
        raise UserError(f"--level is {args.level}; give a coverage between 0 and 1, such as .95")
    laws = None if args.laws is None else [name.strip() for name in args.laws.split(",") if name.strip()]
    table = read_table(args, laws or [])
    notes = list(table.notes)
    _, noise = noise_floor(table.frame, level=args.level)
    table = rows_to_fit(table, notes)
    frame = table.frame
    data, more = usable(frame, ["params", "tokens", "flops", "loss"])
    if "x" not in parse_columns(args.columns):
        data.pop("x", None)  # some column of the file, not the one input of a law
    notes += more
    if args.weights is not None and args.weights not in data:
        raise UserError(f"--weights names {args.weights!r}, which the table lacks{nearest(args.weights, data)}")
    reference = None if args.reference == "none" else get_law(args.reference).name
    num_params = len(get_law(reference or REFERENCE).parameters)
    spec = spec_of(args, cluster_of(args, frame, num_params, notes))
    if args.holdout is None:
        windows = nested_windows(data, num=args.windows)
    else:
        windows = given_window(select_rows(args.holdout, frame).to_numpy(dtype=bool), name=args.holdout)
    selection = select_law(
        data, spec, laws=laws, holdout=windows, reference=reference, noise=noise, average=args.average
    )
    at = _at(args, selection, data, spec)
    return report(args, selection, table, notes, at)


def _at(
    args: argparse.Namespace, selection: SelectionResult, data: dict[str, Any], spec: FitSpec
) -> dict[str, Any] | None:
    """What the average predicts at --at; None when it was not asked for."""
    if args.at is None or selection.average is None:
        return None
    from analysis.selection.averaging import predict_average, refit_members
    from analysis.selection.candidates import inputs_of

    point = inputs_of({name: np.array([value]) for name, value in parse_point(args.at).items()})
    columns = inputs_of(data)
    fits = refit_members(selection.average, selection.candidates, columns, spec)
    return predict_average(selection.average.weights, fits, point, level=args.level)


def report(
    args: argparse.Namespace, selection: SelectionResult, table: RunTable, notes: list[str], at: dict[str, Any] | None
) -> int:
    """Write files and print what was found."""
    from analysis.selection.output import lines, outlier_lines, predictions, ranking_frame, to_dict

    frame = table.frame
    names = row_names(frame)
    several = len(args.tables) > 1
    rows = names if several or "run_id" in frame.columns else frame["row"].tolist()
    more: dict[str, Any] = {"columns": parse_columns(args.columns), "conventions": table.conventions}
    if at is not None:
        more["average_at"] = at
    result = to_dict(selection, rows, **more, notes=notes)
    r2 = {entry["law"]: entry["r2"] for entry in result["ranking"]}.get(selection.chosen)
    if r2 is not None and r2 < 0:
        notes.append(
            f"{selection.chosen} was chosen, but predicts the held-out losses worse than their mean would (R2 = "
            f"{r2:.2g}): no law of these extrapolates here"
        )
        result["notes"] = notes
    if args.out:
        from analysis.figures.selection import save_selection

        folder = Path(args.out)
        save_selection(selection, folder)
        write_atomic(folder / "ranking.csv", ranking_frame(selection).to_csv(index=False))
        write_atomic(folder / "predictions.csv", predictions(selection, rows).to_csv(index=False))
        write_json(folder / "selection.json", result)
        print(f"wrote selection.png, ranking.csv, predictions.csv and selection.json in {folder}", file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(json_ready(result), allow_nan=False))
        return 0
    print("\n".join([*lines(selection), *outlier_lines(selection, names)]))
    if at is not None:
        ends = [" to ".join(format_number(v, 4) for v in at[key]) for key in ("confidence", "prediction")]
        print(f"The average at {args.at}: loss {format_number(at['loss'], 5)}  law {ends[0]}  one run {ends[1]}")
    if selection.chosen is not None:
        words = ["isoflop", "fit", *args.tables, "--law", selection.chosen]
        given = {"columns": args.columns, "where": args.where, "cluster": args.cluster}
        words += [word for name, value in given.items() if value for word in (f"--{name}", value)]
        print(f"Fit it: {shlex.join(words)}")
    return 0
