"""`isoflop predict`: losses from a saved fit.

They have confidence and prediction intervals, and downstream errors that follow from them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import UserError
from analysis.files import json_ready
from analysis.fitting.fit import Fit
from analysis.formatting import counted, format_number
from analysis.selection.auto import AutoFit
from analysis.selection.auto_saved import load_any
from analysis.verbs.arguments import add_fit_argument, add_json_argument, parse_columns, parse_point

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_fit_argument(parser)
    parser.add_argument("--at", metavar="NAME=VALUE,...", help="one point, e.g. params=7e9,tokens=1.4e12")
    parser.add_argument(
        "--table",
        nargs="+",
        metavar="TABLE",
        help="CSV or Parquet files of points (one curve each for laws of a schedule)",
    )
    parser.add_argument(
        "--downstream", metavar="FIT", help="also predict the error on a task, from this fit of error against loss"
    )
    parser.add_argument(
        "--columns", metavar="NAME=COLUMN,...", help="names of the columns of TABLE (default: those of the fit)"
    )
    parser.add_argument(
        "--register",
        metavar="FILE",
        help="append the predictions to FILE before the runs exist, for `report` to score later",
    )
    add_json_argument(parser)


def read_points(paths: list[str], columns: dict[str, str] | None, fit: Fit | AutoFit) -> pd.DataFrame:
    """The rows of all tables under our names; each file is a curve where there is no column `curve`."""
    import pandas as pd

    from analysis.runs.columns import rename_columns
    from analysis.runs.files import read_rows

    parts = []
    for path in map(Path, paths):
        raw = read_rows(path)
        known = {o: t for o, t in fit.columns.items() if t in raw.columns} if columns is None else columns
        parts.append(rename_columns(raw, known, path=path))
    frame = pd.concat(parts, ignore_index=True)
    return frame if "curve" in frame or "curve" not in fit.law.optional else frame.assign(curve=frame["source"])


def as_rows(predicted: pd.DataFrame) -> list[dict[str, Any]]:
    """{"loss", "confidence", "prediction"} for every row, under the name of the target."""
    target = str(predicted.columns[0])
    return [
        {target: value, "confidence": [c_lo, c_hi], "prediction": [p_lo, p_hi]}
        for value, c_lo, c_hi, p_lo, p_hi in predicted.itertuples(index=False, name=None)
    ]


def follow(fit: Fit, path: str, data: Any, losses: pd.Series) -> list[dict[str, Any]]:
    """Rows of the error that follows; says so where losses lie below those that the error was fitted to."""
    from analysis.fitting.downstream import predict_error

    error_fit = Fit.load(path)
    rows = as_rows(predict_error(fit, error_fit, data))
    seen = (error_fit.runs or {}).get("loss")
    if seen is not None and (losses < seen.min()).any():
        count = int((losses < seen.min()).sum())
        print(
            f"{count} of {len(losses)} losses lie below {seen.min():.4g}, the lowest that {error_fit.law.name} was "
            "fitted to: their errors are extrapolated",
            file=sys.stderr,
        )
    return rows


def line(row: dict[str, Any], percent: str) -> str:
    """One row as text."""
    target, value = next(iter(row.items()))
    beyond = f"\n  extrapolated: {row['extrapolates']}" if row.get("extrapolates") else ""
    if row.get("reason"):
        return f"{target} {format_number(value, 5)}  (no interval: {row['reason']})"
    confidence, prediction = (" to ".join(format_number(v, 4) for v in row[k]) for k in ("confidence", "prediction"))
    return f"{target} {format_number(value, 5)}  law {confidence}  one run {prediction}  ({percent}){beyond}"


def register_all(fit: Fit, data: Any, path: Path) -> None:
    """Write the predictions down, with the version of the code."""
    from importlib.metadata import version

    from analysis.report.provenance import git_state
    from analysis.study.registered import predictions_of, register

    git = git_state()
    commit = "" if git["commit"] is None else f" {git['commit'][:12]}"
    changed = " with uncommitted changes" if git["uncommitted_changes"] else ""
    found = predictions_of(fit, data, code=f"isoflop {version('isoflop')}{commit}{changed}")
    register(path, found)
    print(f"registered {counted(len(found), 'prediction')} in {path}", file=sys.stderr)


def run(args: argparse.Namespace) -> int:
    """Predict and print."""
    if (args.at is None) == (args.table is None):
        raise UserError("give either --at params=...,tokens=... or --table FILE")
    fit = load_any(args.fit)
    if isinstance(fit, AutoFit) and (args.downstream or args.register):
        raise UserError("--downstream and --register take the fit of one law, and this is a weighted set of laws")
    if args.at is not None:
        data: Any = parse_point(args.at)
    else:
        data = read_points(args.table, None if args.columns is None else parse_columns(args.columns), fit)
    predicted = fit.predict(data)
    if isinstance(fit, AutoFit):
        print(fit.verdict, file=sys.stderr)
    elif fit.doubt is not None:
        print(f"warning: {fit.doubt}; the intervals hold if the law does", file=sys.stderr)
    rows = as_rows(predicted)
    for row, (extrapolates, reason) in zip(rows, fit.reach_notes(data), strict=True):
        row |= {"extrapolates": extrapolates, "reason": reason}
    if isinstance(fit, Fit) and args.downstream:
        for row, below in zip(rows, follow(fit, args.downstream, data, predicted[fit.law.target]), strict=True):
            row["downstream"] = below
    if isinstance(fit, Fit) and args.register:
        register_all(fit, data, Path(args.register))
    if args.json:
        print(json.dumps(json_ready(rows[0] if args.at is not None else {"rows": rows}), allow_nan=False))
        return 0
    percent = f"{100 * fit.level:g} %" + (", if the law holds" if isinstance(fit, Fit) else "")
    for row in rows:
        print(line(row, percent))
        if "downstream" in row:
            print("  " + line(row["downstream"], percent))
    return 0
