"""`isoflop conventions TABLE...`: how a, N_opt and tokens per parameter move with the way of counting."""

from __future__ import annotations

import argparse
import json
import sys

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.files import json_ready
from analysis.formatting import format_compute, format_number, format_size
from analysis.frontiers.recounted import CountedTable, compare_conventions
from analysis.laws.registry import get_law
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_heldout_argument,
    add_json_argument,
    add_law_argument,
    add_table_arguments,
    cluster_of,
    table_from_args,
)
from models.config.assignments import parse_assignment
from models.config.published_counts import CONVENTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_table_arguments(parser)
    add_heldout_argument(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of all models that the table lacks, such as activation=swiglu",
    )
    add_law_argument(parser)
    add_draws_arguments(parser, draws=200)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Count, fit and print."""
    law = get_law(args.law)
    if set(law.inputs) != {"params", "tokens"} or law.target != "loss":
        raise UserError(f"--law {args.law} is no law of params and tokens; take hoffmann")
    table = table_from_args(args, required=("tokens", "loss"))
    notes = list(table.notes)
    found = compare_conventions(
        {str(name): table.frame[name].to_numpy() for name in table.frame.columns},
        law=args.law,
        model=dict(parse_assignment(assignment) for assignment in args.set),
        bootstrap=args.bootstrap,
        cluster=cluster_of(args, table.frame, len(law.parameters), notes),
        level=args.level,
        seed=args.seed,
    )
    for note in (*notes, *found.notes):
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(json_ready(found.to_dict()), allow_nan=False) if args.json else text(found))
    return 0


def text(found: CountedTable) -> str:
    """The table for people, and why the rows differ."""
    head = f"{'':12}{'C / 6ND':>13}  {'a':26}{'C':>9}  {'N_opt':24}{'tokens per N':22}{'N as isoflop':>12}"
    lines = [f"law {found.law}; at the budget of the largest run, each as it counts", "", head]
    for row in found.rows:
        low, high = row.flops_over_6n
        sizes, ratios = _span(row.params, sizes=True), _span(row.tokens_per_param, sizes=False)
        lines.append(
            f"{row.convention:12}{f'{low:.2f}..{high:.2f}':>13}  {_span(row.a, sizes=False):26}"
            f"{format_compute(row.flops):>9}  {sizes:24}{ratios:22}{format_size(row.params_own):>12}"
        )
    return "\n".join([*lines, "", *(f"{row.convention}: {CONVENTIONS[row.convention].differs}" for row in found.rows)])


def _span(estimate: Estimate, *, sizes: bool) -> str:
    if estimate.lo is None or estimate.hi is None:
        return f"{format_size(estimate.value) if sizes else format_number(estimate.value, 3)} (no interval)"
    parts = (estimate.value, estimate.lo, estimate.hi)
    value, lo, hi = (format_size(part) if sizes else format_number(part, 3) for part in parts)
    return f"{value} ({lo}, {hi})"
