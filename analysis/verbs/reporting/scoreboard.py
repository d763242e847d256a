"""`isoflop scoreboard reports/`: over all studies, how often prediction intervals covered."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from analysis.estimate import percent_text
from analysis.files import json_ready
from analysis.formatting import format_percent
from analysis.study.scoreboard import Scoreboard, scoreboard
from analysis.verbs.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder of reports, looked through with all below it"
    )
    parser.add_argument(
        "--level", type=float, default=0.95, help="coverage of the interval of the coverage (default .95)"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Read every report and print."""
    board = scoreboard(args.folder, level=args.level)
    print(json.dumps(json_ready(board.to_dict()), allow_nan=False) if args.json else text(board))
    return 0


def text(board: Scoreboard) -> str:
    """The table by study, and the coverage over all."""
    lines = ["| study | predictions | runs | covered | mean absolute error |", "|---|---|---|---|---|"]
    for row in board.by_study().to_dict("records"):
        covered = f"{row['num_covered']} of {row['num_runs']}"
        lines.append(
            f"| {row['study']} | {row['kind']} | {row['num_runs']} | {covered} | {format_percent(row['mape'])} |"
        )
    lines += [
        "",
        f"{int(board.rows['covered'].sum())} of {len(board.rows)} runs lie within their prediction intervals: "
        f"{percent_text(board.coverage)}, where {format_percent(board.expected)} are expected. "
        f"The mean absolute error is {format_percent(board.mape)}.",
    ]
    return "\n".join(lines)
