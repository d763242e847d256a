"""`isoflop tasks TABLE...`: errors on tasks straight from scale beside those by way of the loss, on larger runs."""

from __future__ import annotations

import argparse
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from analysis.errors import UserError
from analysis.files import json_ready
from analysis.formatting import format_number
from analysis.runs.expressions import nearest, select_rows
from analysis.selection.tasks import Route, TaskComparison, compare_tasks
from analysis.verbs.arguments import (
    add_json_argument,
    add_law_argument,
    add_seed_argument,
    add_table_arguments,
    table_from_args,
)
from experiments.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_table_arguments(parser)
    parser.add_argument(
        "--errors", required=True, metavar="A,B,...", help="columns of errors, fractions; * stands for any letters"
    )
    parser.add_argument("--holdout", required=True, metavar="EXPR", help="the larger runs, which no fit sees")
    add_law_argument(parser, "law of the loss in the two steps")
    add_seed_argument(parser, "the chains and of the test of the trend")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table as CSV")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, write, print."""
    frame = table_from_args(args, min_rows=4).frame
    held = select_rows(args.holdout, frame)
    if not bool(held.any()):
        raise UserError(f"--holdout {args.holdout!r} holds out no run; name the larger ones, such as 'params > 1e9'")
    found = compare_tasks(frame, columns_of(args.errors, frame), held, loss_law=args.law, seed=args.seed)
    if args.out:
        write_atomic(args.out, found.to_frame().to_csv(index=False))
        print(f"table: {args.out}", file=sys.stderr)
    if args.json:
        rows = json_ready(found.to_frame().to_dict("records"))
        summary = {"loss_law": found.loss_law, "num_predictable": found.num_predictable, "verdict": found.verdict}
        print(json.dumps({**summary, "tasks": rows}, allow_nan=False))
    else:
        print(text(found))
    return 0


def columns_of(names: str, frame: pd.DataFrame) -> list[str]:
    """The columns that a list of names and patterns means, each once.

    Parameters
    ----------
    names : str
        Names with commas between; * stands for any letters.
    frame : DataFrame
        The table.

    Returns
    -------
    list of str
        In the order of the table for a pattern.

    Raises
    ------
    UserError
        For a name or pattern that meets no column.
    """
    out: list[str] = []
    for name in (piece.strip() for piece in names.split(",") if piece.strip()):
        met = [str(column) for column in frame.columns if fnmatchcase(str(column), name)]
        if not met:
            raise UserError(f"--errors names {name!r}, which is no column of the table{nearest(name, frame.columns)}")
        out += [column for column in met if column not in out]
    return out


def text(found: TaskComparison) -> str:
    """The comparison for people."""
    width = max(len(task.task) for task in found.tasks)
    lines = [f"{'task':{width}}  {'direct':>18}  {'two steps':>18}  {'trivial':>8}  verdict"]
    for task in found.tasks:
        direct, two_step = (_cell(route, task.num_held) for route in (task.direct, task.two_step))
        trivial = format_number(task.trivial, 3)
        lines.append(f"{task.task:{width}}  {direct:>18}  {two_step:>18}  {trivial:>8}  {task.verdict}")
        lines += [f"{'':{width}}  {note}" for note in task.notes]
    return "\n".join(
        [
            *lines,
            "",
            "mean absolute difference of predicted and measured error on held-out runs; in brackets, runs in which the "
            "law is closer than the trivial prediction, and runs within the 95 % prediction interval",
            found.verdict,
        ]
    )


def _cell(route: Route | None, num_held: int) -> str:
    if route is None:
        return "none"
    covered = "-" if route.covered is None else str(route.covered)
    return f"{format_number(route.error, 3)} ({route.closer}, {covered} of {num_held})"
