"""`isoflop isoflop TABLE...`: the compute-optimal size of each budget and its exponent."""

from __future__ import annotations

import argparse
import json
import sys

from analysis.errors import UserError
from analysis.formatting import format_compute, format_number, format_percent, format_size
from analysis.frontiers.curves import METHODS
from analysis.frontiers.isoflop_fit import IsoflopFit, fit_isoflop
from analysis.laws.registry import get_law
from analysis.verbs.arguments import (
    add_draws_arguments,
    add_heldout_argument,
    add_json_argument,
    add_method_argument,
    add_table_arguments,
    cluster_of,
    spec_of,
    table_from_args,
)

NUM_PARAMS = len(get_law("hoffmann").parameters)
"""Parameters of the law that other verbs fit to the same runs: with it one table has the same clusters everywhere."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_table_arguments(parser)
    add_heldout_argument(parser)
    add_method_argument(parser, METHODS)
    parser.add_argument("--loss-scale", choices=("raw", "log"), help="fit L or log L (default: log for akima)")
    add_draws_arguments(parser)
    add_json_argument(parser)


def check_bootstrap(args: argparse.Namespace) -> None:
    """UserError for draws, a level or a cluster column that cannot be."""
    if args.bootstrap < 0:
        raise UserError(f"--bootstrap {args.bootstrap} is negative; give a count of draws, or 0 for no intervals")
    if getattr(args, "simulations", 0) < 0:
        raise UserError(f"--simulations {args.simulations} is negative; give a count of tables, or 0 for no test")
    if not 0 < args.level < 1:
        raise UserError(f"--level {args.level:g} is not between 0 and 1; give a coverage such as .95")


def run(args: argparse.Namespace) -> int:
    """Read the tables, find the minima, print them."""
    check_bootstrap(args)
    positive = args.loss_scale == "log" or (args.loss_scale is None and args.method == "akima")
    table = table_from_args(args, allow_nonpositive_loss=not positive)
    notes = list(table.notes)
    spec = spec_of(args, cluster_of(args, table.frame, NUM_PARAMS, notes))
    log_loss = None if args.loss_scale is None else args.loss_scale == "log"
    fit = fit_isoflop(table, spec, method=args.method, log_loss=log_loss)
    for note in (*notes, *fit.frontier.warnings):
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(fit.to_dict(), allow_nan=False) if args.json else text(fit))
    return 0


def text(fit: IsoflopFit) -> str:
    """The minima and exponents as lines for people."""
    frontier = fit.frontier
    lines = [f"{frontier.method} on log N, {'log ' if fit.log_loss else ''}loss; compute {frontier.convention}"]
    lines.append(f"{'C':>9} {'runs':>5} {'N_opt':>8} {'interval':>19} {'D_opt':>8} {'loss':>7} {'bias':>8}")
    for _, row in frontier.points.iterrows():
        if row["bracketed"] and row["params_lo"] == row["params_lo"]:
            interval = f"{format_size(row['params_lo'])} .. {format_size(row['params_hi'])}"
        else:
            interval = "no interval" if row["bracketed"] else "not bracketed"
        lines.append(
            f"{format_compute(row['flops']):>9} {row['num_runs']:>5} {format_size(row['params']):>8} {interval:>19} "
            f"{format_size(row['tokens']):>8} {format_number(row['loss'], 4):>7} {format_percent(row['bias']):>8}"
        )
    lines.append(f"N_opt ~ C^a   a = {frontier.a}")
    if frontier.b is not None:
        lines.append(f"D_opt ~ C^b   b = {frontier.b}")
    return "\n".join(lines)
