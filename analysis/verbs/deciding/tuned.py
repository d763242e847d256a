"""`isoflop tuned TABLE...`: the best rate of every cell of a ladder, their law, and which rates to try next."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.arrays import Array
from analysis.design.sweep_file import read_template
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.files import json_ready
from analysis.formatting import format_number, format_size
from analysis.paired.best_rates import Tuned, tune
from analysis.paired.cells import make_cells, varying
from analysis.paired.rounds import wanted_rates
from analysis.verbs.arguments import add_json_argument, add_level_argument, add_table_arguments, table_from_args
from analysis.verbs.deciding.tuned_sweep import RateCell, next_round, with_rate_law
from experiments.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_table_arguments(parser)
    parser.add_argument(
        "--template", type=Path, metavar="SWEEP", help="sweep file whose data, model and recipe are kept"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the sweep of the next round (needs --template)")
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", help="write the template with the law of the best rate in its recipe"
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="write losses at the best rates with their weights, for `fit`"
    )
    add_level_argument(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate, write what was asked for, print."""
    if (args.out or args.recipe) and args.template is None:
        raise UserError("--out and --recipe need --template SWEEP, whose data, model and recipe they keep")
    table = table_from_args(args, required=("params", "tokens", "lr", "loss"), min_rows=4)
    names = varying({str(name): table.frame[name].to_numpy() for name in table.frame})
    columns = {name: table.frame[name].to_numpy(dtype=float) for name in ("lr", "loss", *names)}
    cells, values = make_cells(columns, names)
    found = tune(cells, level=args.level)
    tried = [cells.log_rate[cells.cell == c] for c in range(cells.num_cells)]
    wanted = wanted_rates(found, tried)
    for note in table.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.out:
        _write_round(args, table.frame, names, values, wanted)
    if args.recipe:
        law = {"coefficient": found.coefficient, **{name: e.value for name, e in found.exponents.items()}}
        notes = f"The peak rate follows the law that `isoflop tuned` fitted to {len(table.frame)} runs."
        write_atomic(args.recipe, with_rate_law(read_template(args.template), law, notes=notes))
        print(f"recipe: {args.recipe}", file=sys.stderr)
    if args.table:
        write_atomic(args.table, weighted(found, names, values, table.frame).to_csv(index=False))
        print(f"table: {args.table}; fit it with --weights weight", file=sys.stderr)
    if args.json:
        print(json.dumps(json_ready(to_dict(found, names, values, wanted)), allow_nan=False))
    else:
        print(text(found, names, values, wanted))
    return 0


def _members(frame: pd.DataFrame, names: Sequence[str], value: Array) -> pd.DataFrame:
    """The runs of a cell."""
    return frame[(frame[list(names)].to_numpy(dtype=float) == value).all(axis=1)]


def _write_round(
    args: argparse.Namespace, frame: pd.DataFrame, names: list[str], values: Array, wanted: list[Array]
) -> None:
    """The sweep of the next round, where a cell lacks a rate."""
    if not {"width", "depth"} <= set(frame):
        raise UserError("the table has no width and depth of its runs, so no sweep can be written; leave out --out")
    cells = []
    for value, rates in zip(values, wanted, strict=True):
        if len(rates):
            one = _members(frame, names, value).iloc[0]
            heads = int(one["heads"]) if "heads" in frame else None
            cells.append(
                RateCell(
                    width=int(one["width"]),
                    depth=int(one["depth"]),
                    num_heads=heads,
                    tokens=float(one["tokens"]),
                    rates=[math.exp(float(rate)) for rate in rates],
                )
            )
    if not cells:
        print(f"every cell has its best rate inside those tried; {args.out} is not written", file=sys.stderr)
        return
    count = sum(len(cell.rates) for cell in cells)
    notes = f"{count} further runs in {len(cells)} cells whose best rate is not bracketed by those tried."
    write_atomic(args.out, next_round(read_template(args.template), name=args.out.stem, cells=cells, notes=notes))
    print(f"next round: {args.out}, {count} runs in {len(cells)} cells", file=sys.stderr)


def weighted(found: Tuned, names: Sequence[str], values: Array, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell with its loss at the best rate and a weight of one over its variance, the mean weight one."""
    rows = []
    for cell, value in zip(found.cells, values, strict=True):
        if cell.loss.se is None:
            continue
        members = _members(frame, names, value)
        row: dict[str, Any] = {"params": members["params"].iloc[0], "tokens": members["tokens"].iloc[0]}
        row |= {"flops": members["flops"].iloc[0]} if "flops" in members else {}
        row |= {"lr": cell.rate.value, "loss": cell.loss.value, "loss_se": cell.loss.se, "runs": cell.num_runs}
        rows.append(row | {"edge": cell.edge or ""})
    out = pd.DataFrame(rows)
    precision = (out["loss"] / out["loss_se"]) ** 2
    return out.assign(weight=precision / precision.mean())


def to_dict(found: Tuned, names: Sequence[str], values: Array, wanted: list[Array]) -> dict[str, Any]:
    """The JSON object."""
    cells = [
        {
            **dict(zip(names, map(float, value), strict=True)),
            "runs": cell.num_runs,
            "rate": cell.rate.to_dict(),
            "loss": cell.loss.to_dict(),
            "edge": cell.edge,
            "next_rates": [math.exp(float(rate)) for rate in rates],
        }
        for cell, value, rates in zip(found.cells, values, wanted, strict=True)
    ]
    law = {"coefficient": found.coefficient, "exponents": {n: e.to_dict() for n, e in found.exponents.items()}}
    shared = {"spread": found.spread, "noise": found.noise, "curvature": found.curvature}
    return {"cells": cells, "law": law, **shared}


def text(found: Tuned, names: Sequence[str], values: Array, wanted: list[Array]) -> str:
    """The cells and the law for people."""
    head = ["".join(f"{name:>10}" for name in names), f"{'runs':>6}  {'best rate':28}{'loss there':26}"]
    lines = ["".join(head)]
    for cell, value, rates in zip(found.cells, values, wanted, strict=True):
        place = "".join(f"{format_size(float(one)):>10}" for one in value)
        note = f"best run has the {'lowest' if cell.edge == 'low' else 'highest'} rate tried" if cell.edge else ""
        more = f"; try {', '.join(f'{math.exp(float(rate)):.2e}' for rate in rates)}" if len(rates) else ""
        lines.append(f"{place}{cell.num_runs:>6}  {_span(cell.rate):28}{_span(cell.loss):26}{note}{more}".rstrip())
    powers = " ".join(f"{name}^{_span(exponent)}" for name, exponent in found.exponents.items())
    cost = 100 * found.curvature / 2 * math.log(2) ** 2
    return "\n".join(
        [
            *lines,
            "",
            f"best rate = {format_number(found.coefficient, 4)} {powers}",
            f"cells lie about the law by a factor of {math.exp(found.spread):.2f} (one standard deviation); a rate off "
            f"by a factor of two costs {cost:.2f} % of the loss",
        ]
    )


def _span(estimate: Estimate) -> str:
    if estimate.lo is None or estimate.hi is None:
        return f"none: {estimate.reason}"
    value, lo, hi = (format_number(part, 3) for part in (estimate.value, estimate.lo, estimate.hi))
    return f"{value} ({lo}, {hi})"
