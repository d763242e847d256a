"""`isoflop compare TABLE...`: the three approaches side by side, and whether they disagree."""

from __future__ import annotations

import argparse
import json
import sys

from analysis.fitting.spec import FitSpec
from analysis.frontiers.compare import SIMULATIONS, Comparison, compare_approaches
from analysis.frontiers.curves import METHODS
from analysis.laws.registry import get_law
from analysis.runs.table import RunTable
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_heldout_argument,
    add_json_argument,
    add_law_argument,
    add_method_argument,
    add_table_arguments,
    cluster_of,
    spec_of,
    table_from_args,
)
from analysis.verbs.fitting.isoflop import check_bootstrap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_approach_arguments(parser)
    parser.add_argument(
        "--simulations", type=int, default=SIMULATIONS, metavar="K", help=f"tables of the test (default: {SIMULATIONS})"
    )


def add_approach_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that compare and frontier share."""
    add_table_arguments(parser)
    add_heldout_argument(parser)
    add_law_argument(parser)
    add_method_argument(parser, METHODS)
    parser.add_argument("--allow-undecayed", action="store_true", help="let points in mid-run into the envelope")
    add_draws_arguments(parser)
    add_json_argument(parser)


def table_and_spec(args: argparse.Namespace) -> tuple[RunTable, FitSpec, list[str]]:
    """The table of `args`, how it is fitted, and what the reader should know about both."""
    check_bootstrap(args)
    num_params = len(get_law(args.law).parameters)
    table = table_from_args(args)
    notes = list(table.notes)
    return table, spec_of(args, cluster_of(args, table.frame, num_params, notes)), notes


def run(args: argparse.Namespace) -> int:
    """Apply the three approaches and print them."""
    table, spec, notes = table_and_spec(args)
    comparison = compare_approaches(
        table,
        spec,
        law=args.law,
        method=args.method,
        allow_undecayed=args.allow_undecayed,
        simulations=args.simulations,
    )
    for note in (*notes, *(text for one in comparison.frontiers for text in one.warnings)):
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(comparison.to_dict(), allow_nan=False) if args.json else text(comparison))
    return 0


def text(comparison: Comparison) -> str:
    """Exponents, differences and the verdict as lines for people."""
    lines = []
    for one in comparison.frontiers:
        b = f"   b = {one.b}" if one.b is not None else ""
        lines.append(f"{one.method:<22} ({one.convention})  a = {one.a}{b}")
    for name, why in comparison.missing.items():
        lines.append(f"{name:<22} gave nothing: {why}")
    for name, difference in comparison.differences.items():
        lines.append(f"a of {name} less a of {comparison.frontiers[-1].method}: {difference}")
    return "\n".join([*lines, comparison.verdict])
