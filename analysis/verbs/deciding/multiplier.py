"""`isoflop multiplier TABLE...`: how many times the compute the reference needs for each arm's loss."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.files import json_ready
from analysis.formatting import format_compute, format_number, format_percent
from analysis.paired.gain import Multipliers
from analysis.paired.multiplier import compute_multiplier
from analysis.runs.columns import rename_columns
from analysis.runs.expressions import nearest
from analysis.runs.files import read_rows
from analysis.runs.table import DEFAULT_REQUIRED
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_heldout_argument,
    add_json_argument,
    add_table_arguments,
    parse_columns,
    table_from_args,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_table_arguments(parser)
    add_heldout_argument(parser)
    parser.add_argument("--arm", required=True, metavar="COLUMN", help="column with the arm of each run")
    parser.add_argument("--reference", metavar="NAME", help="arm to compare the others with (default: the first)")
    parser.add_argument(
        "--at",
        metavar="flops=C,...",
        help="budgets (default: the largest of all arms, a tenth of it, and ten times it)",
    )
    together = "join pairs that share a value (default: trunk where runs share one)"
    add_draws_arguments(parser, what="draws over pairs", cluster=together)
    add_json_argument(parser)


def parse_budgets(text: str | None) -> list[float] | None:
    """`flops=1e20,flops=1e21` or `flops=1e20,1e21` -> budgets; None stays None."""
    if text is None:
        return None
    out = []
    for piece in text.split(","):
        name, equals, value = (part.strip() for part in piece.rpartition("="))
        try:
            out.append(float(value))
        except ValueError:
            raise UserError(f"cannot read {piece.strip()!r} in --at; write flops=1e20,flops=1e21") from None
        if equals and name not in ("flops", "C"):
            raise UserError(f"--at names {name!r}, but multipliers are given at budgets; write flops=1e20,flops=1e21")
    return out


def run(args: argparse.Namespace) -> int:
    """Read, fit, print."""
    columns = parse_columns(args.columns)
    found = [set(rename_columns(read_rows(Path(p)), columns, path=Path(p)).columns) for p in args.tables]
    required = DEFAULT_REQUIRED if all("params" in names for names in found) else ("flops", "loss")
    table = table_from_args(args, required=required, min_rows=4)
    frame = table.frame
    for option in ("arm", "cluster"):
        name = getattr(args, option)
        if name is not None and name not in frame.columns:
            raise UserError(f"--{option} {name} is no column of the table{nearest(name, frame.columns)}")
    result = compute_multiplier(
        {str(name): frame[name].to_numpy() for name in frame.columns},
        arm=args.arm,
        reference=args.reference,
        at=parse_budgets(args.at),
        bootstrap=args.bootstrap,
        cluster=args.cluster,
        level=args.level,
        seed=args.seed,
    )
    for note in (*table.notes, *result.warnings):
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(json_ready(result.to_dict()), allow_nan=False))
    else:
        print(text(result), end="")
    return 0


def text(result: Multipliers) -> str:
    """What was found, as Markdown tables."""
    level = format_percent(result.level, 2)
    law = {
        "surface": "L = E + A / N^alpha + B / D^beta",
        "compute": "L = E + A / C^gamma",
        "power": "L = A / C^gamma",
    }[result.form]
    floor = {True: "one E for all arms", False: "an E for each arm"}[result.shared_floor]
    about = law if result.form == "power" else f"{law}, {floor}"
    lines = [
        f"How many times the compute of an arm the reference, {result.reference}, needs for the same loss "
        f"({level} intervals).",
        f"Laws: {about}; {result.num_blocks} pairs.",
        "",
        "| arm | compute | multiplier | in tokens | in seconds | best of all |",
        "|---|---|---|---|---|---|",
    ]
    reasons = []
    for name, arm in result.arms.items():
        for one, best in zip(arm.by_budget, result.p_best[name], strict=True):
            parts = [_cell(one.multiplier), _cell(one.tokens), _cell(one.seconds)]
            lines.append(f"| {name} | {format_compute(one.flops)} | {' | '.join(parts)} | {format_percent(best, 2)} |")
            if one.reason:
                reasons.append(f"* {name} at {format_compute(one.flops)}: {one.reason}.")
    lines += [
        "",
        "| arm | gain with scale | exponent of the reducible loss, arm minus reference |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {arm.verdict} | {arm.grows.text()} |" for name, arm in result.arms.items()]
    best = ", ".join(format_percent(float(p), 2) for p in result.p_best[result.reference])
    budgets = ", ".join(format_compute(float(c)) for c in result.flops)
    lines += ["", f"{result.reference} itself is the best arm in {best} of the draws at {budgets}.", *reasons]
    return "\n".join(lines) + "\n"


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or estimate.lo is None or estimate.hi is None:
        return "-" if estimate is None else estimate.text()
    return f"{format_number(estimate.value, 3)} ({format_number(estimate.lo, 3)}, {format_number(estimate.hi, 3)})"
