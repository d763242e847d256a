"""`isoflop arms sweeps/NAME.json --arm FIELD`: arms of a study compared by paired intervals."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import UserError
from analysis.files import json_ready
from analysis.formatting import format_percent, format_size
from analysis.paired.arms import Pair, arm_table, at_best_rates, gains, pooled
from analysis.runs.files import read_labelled
from analysis.verbs.arguments import add_json_argument, add_level_argument
from experiments.archives import archive_manifest, is_archive
from experiments.files import write_atomic
from experiments.records import RunRecord, RunStatus, flat_row

TUNED = (
    "Every arm stands at its own best rate: the least mean loss over seeds among the rates tried. It was chosen by the "
    "losses that are compared, so that each arm is flattered a little."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="sweeps/NAME.json, or an archive of it")
    parser.add_argument("--arm", required=True, metavar="FIELD", help="the varied field, e.g. model.positions")
    parser.add_argument("--reference", metavar="ARM", help="the arm that others are compared with (default: the first)")
    add_level_argument(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write README.md, arms.csv and the figure there")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the comparison; write the report with --out."""
    records, best = at_best_rates(read_labelled(args.manifest), args.arm)
    frame = arm_table(records, args.arm, reference=args.reference, level=args.level)
    summary = pooled(frame, level=args.level)
    more = gains(records, args.arm, level=args.level)
    worth = multiplier_text(records, args)
    if args.out:
        write(frame, best, [pooled_text(summary), worth, gains_text(more), cells_text(frame)], args)
        print(f"report: {args.out / 'README.md'}", file=sys.stderr)
    if args.json:
        print(
            json.dumps(
                json_ready(
                    {
                        "rows": frame.to_dict("records"),
                        "best_rates": best.to_dict("records"),
                        "pooled": summary.to_dict("records"),
                        "gains": more.to_dict("records"),
                    }
                )
            )
        )
    else:
        print(
            "\n".join(
                part
                for part in (rates_text(best), pooled_text(summary), worth, cells_text(frame), gains_text(more))
                if part
            ),
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


def rate_rows(records: Iterable[Pair], arm: str) -> pd.DataFrame:
    """Arm, params, tokens, lr, seed and loss of every finished run."""
    names = ("params", "tokens", "lr", "seed")
    return pd.DataFrame(
        [
            {"arm": str(labels[arm]), **{name: record.design[name] for name in names}, "loss": record.outcome["loss"]}
            for record, labels in records
            if arm in labels and record.status is RunStatus.DONE
        ]
    )


def rates_text(best: pd.DataFrame) -> str:
    """The best peak rate of every arm and cell as a Markdown table; empty where rates were not tried."""
    if best.empty:
        return ""
    lines = [
        "| arm | N | tokens | best peak rate | mean loss there | seeds | rates tried |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in best.to_dict("records"):
        size, tokens = format_size(row["params"]), format_size(row["tokens"])
        edge = f"; the best is the {'lowest' if row['edge'] == 'low' else 'highest'}" if row["edge"] else ""
        lines.append(
            f"| {row['arm']} | {size} | {tokens} | {row['lr']:.2e} | {row['loss']:.4f} | {row['num_seeds']} "
            f"| {row['num_rates']}{edge} |"
        )
    return "\n".join(lines) + "\n"


def write(frame: pd.DataFrame, best: pd.DataFrame, parts: Sequence[str], args: argparse.Namespace) -> None:
    """README.md, arms.csv and figure, best_rates.csv where rates were tried, and provenance.json with the command."""
    from analysis.figures.paired import save_arm_rates, save_arms

    write_atomic(args.out / "arms.csv", frame.to_csv(index=False))
    drawn = save_arms(frame, args.out)
    archive = is_archive(args.manifest)
    name = archive_manifest(args.manifest).name if archive else args.manifest.stem
    reference = f" --reference {args.reference}" if args.reference else ""
    source = args.manifest.as_posix() if archive else f"sweeps/{name}.json"
    command = f"isoflop arms {source} --arm {args.arm}{reference} --out {args.out.as_posix()}"
    text = [
        f"# {name}: arms of {args.arm}",
        "",
        *(["![difference of each arm from the reference](arms.png)", ""] if drawn else []),
        "Differences are arm minus reference in nats per token, on the same validation documents, after the same "
        "order of training tokens.",
        "",
        *([TUNED, "", "![loss by peak rate](rates.png)", "", rates_text(best)] if len(best) else []),
        *(part for part in parts if part),
        "Made by:",
        "```",
        f"isoflop run experiments/sweeps/{name}.yaml",
        *([f"isoflop archive sweeps/{name}.json --out {args.manifest.as_posix()}"] if archive else []),
        command,
        "```",
    ]
    if len(best):
        write_atomic(args.out / "best_rates.csv", best.to_csv(index=False))
        save_arm_rates(rate_rows(read_labelled(args.manifest), args.arm), args.out)
    write_atomic(args.out / "provenance.json", json.dumps({"commands": [command]}, indent=1) + "\n")
    write_atomic(args.out / "README.md", "\n".join(text) + "\n")
