"""`isoflop frontier TABLE...`: compute-optimal sizes, tokens and losses over a range of compute."""

from __future__ import annotations

import argparse
import json
import math
import sys

import numpy as np
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.files import json_ready
from analysis.formatting import format_compute, format_number, format_size
from analysis.frontiers.compare import compare_approaches
from analysis.verbs.fitting.compare import add_approach_arguments, table_and_spec

APPROACHES = ("parametric", "isoflop", "envelope")
"""What the frontier may come from; the first is the default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_approach_arguments(parser)
    parser.add_argument("--approach", choices=APPROACHES, default="parametric", help="default: parametric")
    parser.add_argument(
        "--flops", metavar="LO:HI[:COUNT] or C,C,...", help="compute (default: the table's range and ten times beyond)"
    )


def parse_flops(text: str | None, low: float, high: float) -> NDArray[np.float64]:
    """The grid of compute that `--flops` names; UserError for anything that is not positive numbers."""
    if text is None:
        return np.geomspace(low, 10 * high, 9)
    try:
        if ":" in text:
            ends = text.split(":")
            count = int(ends[2]) if len(ends) == 3 else 9
            first, last = float(ends[0]), float(ends[1])
            if len(ends) > 3 or not 0 < first < last or not math.isfinite(last) or not 2 <= count <= 10_000:
                raise ValueError
            return np.geomspace(first, last, count)
        grid = np.array([float(part) for part in text.split(",")])
        if not (np.isfinite(grid) & (grid > 0)).all():
            raise ValueError
    except ValueError as error:
        raise UserError(f"--flops {text!r} is no compute; write 1e18:1e22:9 or 1e18,1e19,1e20") from error
    return grid


def run(args: argparse.Namespace) -> int:
    """Find the frontier and print it."""
    table, spec, notes = table_and_spec(args)
    grid = parse_flops(args.flops, float(table.frame["flops"].min()), float(table.frame["flops"].max()))
    comparison = compare_approaches(
        table,
        spec,
        law=args.law,
        method=args.method,
        allow_undecayed=args.allow_undecayed,
        flops=grid,
        simulations=0,
    )
    chosen = next((one for one in comparison.frontiers if one.method.startswith(args.approach)), None)
    if chosen is None or (args.approach != "parametric" and chosen.line is None):
        why = comparison.missing.get(args.approach) or (chosen.a.reason if chosen is not None else "it gave nothing")
        raise UserError(f"no frontier by {args.approach}: {why}; use --approach parametric or add runs")
    points = chosen.points if args.approach == "parametric" else chosen.at(grid)
    for note in (*notes, *chosen.warnings):
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(json_ready({**chosen.to_dict(), "points": points.to_dict(orient="records")}), allow_nan=False))
        return 0
    inside = (float(table.frame["flops"].min()), float(table.frame["flops"].max()))
    print(f"{chosen.method}; compute {chosen.convention}; a = {chosen.a}" + (f"; b = {chosen.b}" if chosen.b else ""))
    print(f"{'C':>9} {'N_opt':>8} {'interval':>20} {'D_opt':>8} {'interval':>20} {'loss':>7} {'interval':>17}")
    for _, row in points.iterrows():
        cells = [f"{format_compute(row['flops']):>9}"]
        for name in ("params", "tokens"):
            cells += [f"{format_size(row[name]):>8}", f"{span(row[f'{name}_lo'], row[f'{name}_hi'], size=True):>20}"]
        if "loss" in points.columns:
            cells += [f"{format_number(row['loss'], 4):>7}", f"{span(row['loss_lo'], row['loss_hi'], size=False):>17}"]
        beyond = "" if inside[0] * 0.999 <= row["flops"] <= inside[1] * 1.001 else "  beyond the runs"
        print(" ".join(cells) + beyond)
    return 0


def span(low: float, high: float, *, size: bool) -> str:
    """An interval for a line of text, or `no interval`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    return f"{format_size(low)} .. {format_size(high)}" if size else f"{low:.4f} .. {high:.4f}"
