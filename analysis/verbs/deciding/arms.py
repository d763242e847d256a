"""`isoflop arms sweeps/NAME.json --arm FIELD`: arms of a study compared by paired intervals."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import UserError
from analysis.files import json_ready
from analysis.formatting import format_percent, format_size
from analysis.paired.arms import arm_table, gains, pooled
from analysis.runs.files import read_labelled
from analysis.verbs.arguments import add_json_argument, add_level_argument
from experiments.files import write_atomic
from experiments.records import RunRecord, RunStatus, flat_row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="sweeps/NAME.json")
    parser.add_argument("--arm", required=True, metavar="FIELD", help="the varied field, e.g. model.positions")
    parser.add_argument("--reference", metavar="ARM", help="the arm that others are compared with (default: the first)")
    add_level_argument(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write README.md, arms.csv and the figure there")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the comparison; write the report with --out."""
    records = list(read_labelled(args.manifest))
    frame = arm_table(records, args.arm, reference=args.reference, level=args.level)
    summary = pooled(frame, level=args.level)
    more = gains(records, args.arm, level=args.level)
    worth = multiplier_text(records, args)
    if args.out:
        write(frame, summary, more, worth, args)
        print(f"report: {args.out / 'README.md'}", file=sys.stderr)
    if args.json:
        print(
            json.dumps(
                json_ready(
                    {
                        "rows": frame.to_dict("records"),
                        "pooled": summary.to_dict("records"),
                        "gains": more.to_dict("records"),
                    }
                )
            )
        )
    else:
        print(
            "\n".join(part for part in (pooled_text(summary), worth, cells_text(frame), gains_text(more)) if part),
            end="",
        )
    return 0


def multiplier_text(records: Sequence[tuple[RunRecord, Mapping[str, Any]]], args: argparse.Namespace) -> str:
    """Compute multipliers of the arms as Markdown, or the sentence that says why there are none."""
    from analysis.paired.multiplier import compute_multiplier
    from analysis.verbs.deciding.multiplier import text

    rows = [
        {**flat_row(record, labels), "arm": str(labels[args.arm])}
        for record, labels in records
        if args.arm in labels and record.status is RunStatus.DONE
    ]
    frame = pd.DataFrame(rows)
    try:
        columns = {str(name): frame[name].to_numpy() for name in frame.columns}
        top = min(float(group["flops"].max()) for _, group in frame.groupby("arm"))
        found = compute_multiplier(
            columns, arm="arm", reference=args.reference, at=[top / 9, top / 3, top], level=args.level
        )
    except UserError as error:
        return f"No compute multiplier: {error}.\n"
    return "\n".join([text(found), *(f"* {warning}." for warning in found.warnings)]) + "\n"


def gains_text(more: pd.DataFrame) -> str:
    """What more tokens gain within each arm as a Markdown table; empty where every arm has one number of tokens."""
    if more.empty:
        return ""
    lines = ["| arm | N | tokens | change of loss (paired interval) |", "|---|---|---|---|"]
    for row in more.to_dict("records"):
        span = f"{format_size(row['tokens_from'])} to {format_size(row['tokens_to'])}"
        ends = f"({format_percent(row['lo'])}, {format_percent(row['hi'])})"
        lines.append(
            f"| {row['arm']} | {format_size(row['params'])} | {span} | {format_percent(row['change'])} {ends} |"
        )
    return "\n".join(lines) + "\n"


def pooled_text(summary: pd.DataFrame) -> str:
    """Mean differences over cells as a Markdown table; empty where nothing could be subtracted."""
    if summary.empty:
        return ""
    lines = [
        "| arm | cells | mean difference from the reference, nats per token (interval over cells) |",
        "|---|---|---|",
    ]
    for row in summary.to_dict("records"):
        lines.append(f"| {row['arm']} | {row['num_cells']} | {_ends(row)} |")
    return "\n".join(lines) + "\n"


def cells_text(frame: pd.DataFrame) -> str:
    """Every run with its paired difference as a Markdown table."""
    lines = [
        "| arm | N | tokens | seed | loss (standard error) | difference from the reference (paired interval) |",
        "|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        se = "no interval: one document" if row["loss_se"] is None else f"{row['loss_se']:.4f}"
        size, tokens = format_size(row["params"]), format_size(row["tokens"])
        lines.append(f"| {row['arm']} | {size} | {tokens} | {row['seed']} | {row['loss']:.4f} ({se}) | {_ends(row)} |")
    return "\n".join(lines) + "\n"


def _ends(row: dict[Hashable, Any]) -> str:
    if isinstance(row["reason"], str):
        value = float(str(row["difference"]))
        return row["reason"] if math.isnan(value) else f"{value:+.4f} (no interval: {row['reason']})"
    return f"{row['difference']:+.4f} ({row['lo']:+.4f}, {row['hi']:+.4f})"


def write(frame: pd.DataFrame, summary: pd.DataFrame, more: pd.DataFrame, worth: str, args: argparse.Namespace) -> None:
    """README.md, arms.csv, arms.png and arms.svg."""
    from analysis.figures.paired import save_arms

    write_atomic(args.out / "arms.csv", frame.to_csv(index=False))
    drawn = save_arms(frame, args.out)
    name = args.manifest.stem
    reference = f" --reference {args.reference}" if args.reference else ""
    text = [
        f"# {name}: arms of {args.arm}",
        "",
        *(["![difference of each arm from the reference](arms.png)", ""] if drawn else []),
        "Differences are arm minus reference in nats per token, on the same validation documents, after the same "
        "order of training tokens.",
        "",
        *(part for part in (pooled_text(summary), worth, gains_text(more), cells_text(frame)) if part),
        "Made by:",
        "```",
        f"isoflop run experiments/sweeps/{name}.yaml",
        f"isoflop arms sweeps/{name}.json --arm {args.arm}{reference} --out {args.out.as_posix()}",
        "```",
    ]
    write_atomic(args.out / "README.md", "\n".join(text) + "\n")
