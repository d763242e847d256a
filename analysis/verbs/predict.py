"""`python -m analysis predict`: losses from a saved fit, with confidence and prediction intervals."""

from __future__ import annotations

import argparse
import json

from analysis.errors import UserError
from analysis.estimate import format_number, json_ready
from analysis.fit import Fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("fit", metavar="FIT", help="fit.json, written by `fit --out`")
    parser.add_argument("--at", metavar="NAME=VALUE,...", help="one point, e.g. params=7e9,tokens=1.4e12")
    parser.add_argument("--table", metavar="TABLE", help="CSV or Parquet of points")
    parser.add_argument("--columns", metavar="NAME=COLUMN,...", help="our names = theirs; those of the fit by default")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def parse_point(text: str) -> dict[str, float]:
    """`params=7e9,tokens=1.4e12` -> numbers by name."""
    point = {}
    for piece in text.split(","):
        name, equals, value = (part.strip() for part in piece.partition("="))
        try:
            point[name] = float(value)
        except ValueError:
            raise UserError(f"cannot read {piece.strip()!r} in --at; write params=7e9,tokens=1.4e12") from None
        if not equals or not name:
            raise UserError(f"cannot read {piece.strip()!r} in --at; write params=7e9,tokens=1.4e12")
    return point


def run(args: argparse.Namespace) -> int:
    """Predict and print."""
    if (args.at is None) == (args.table is None):
        raise UserError("give either --at params=...,tokens=... or --table FILE")
    fit = Fit.load(args.fit)
    if args.at is not None:
        predicted = fit.predict(parse_point(args.at))
    else:
        from pathlib import Path

        from analysis.tablefiles import parse_columns, read_rows, rename_columns

        raw = read_rows(Path(args.table))
        known = dict(fit.columns) if args.columns is None else parse_columns(args.columns)
        columns = {ours: theirs for ours, theirs in known.items() if args.columns is not None or theirs in raw.columns}
        predicted = fit.predict(rename_columns(raw, columns, path=Path(args.table)))
    columns_of = {name: predicted[name].tolist() for name in predicted.columns}
    rows = [
        {"loss": loss, "confidence": [c_lo, c_hi], "prediction": [p_lo, p_hi]}
        for loss, c_lo, c_hi, p_lo, p_hi in zip(*columns_of.values(), strict=True)
    ]
    if args.json:
        print(json.dumps(json_ready(rows[0] if args.at is not None else {"rows": rows}), allow_nan=False))
        return 0
    percent = f"{100 * fit.level:g} %"
    for row in rows:
        confidence, prediction = (
            " to ".join(format_number(v, 4) for v in row[k]) for k in ("confidence", "prediction")
        )
        print(f"loss {format_number(row['loss'], 5)}  law {confidence}  one run {prediction}  ({percent})")
    return 0
