"""`isoflop rates sweeps/NAME.json`: what the recipe's peak rate costs.

It is compared with the best of the rates tried, by size.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from analysis.files import json_ready
from analysis.formatting import format_percent, format_size
from analysis.paired.rates import chosen, rate_table
from analysis.verbs.arguments import add_json_argument
from experiments.files import write_atomic
from experiments.manifests import read_manifest, read_records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument(
        "manifests", nargs="+", type=Path, metavar="MANIFEST", help="sweeps/NAME.json of sweeps that vary the rate"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write README.md, rates.csv and the figure there")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; write the report with --out."""
    frames = []
    for path in args.manifests:
        records = [(record, dict(labels)) for record, labels in read_records(path)]
        frames.append(rate_table(records).assign(sweep=read_manifest(path).name))
    frame = pd.concat(frames, ignore_index=True)
    if args.out:
        write(frame, args.out, args.manifests)
        print(f"report: {args.out / 'README.md'}", file=sys.stderr)
    if args.json:
        print(json.dumps(json_ready({"rows": frame.to_dict("records")})))
    else:
        print(markdown(frame), end="")
    return 0


def markdown(frame: pd.DataFrame) -> str:
    """The losses by size and rate, and what the recipe's own rate costs."""
    lines = [
        "| N | tokens | peak rate | times the recipe's | seed | loss | excess over the best (95 % interval, paired) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        loss = f"{row['loss']:.4f}" if row["status"] == "done" else row["status"]
        if row["status"] != "done":
            excess = "no interval: it was stopped"
        elif row["lr"] == row["best_lr"]:
            excess = "the best"
        else:
            ends = f"({format_percent(row['excess_lo'])}, {format_percent(row['excess_hi'])})"
            excess = f"{format_percent(row['excess_fraction'])} {ends}"
        size, tokens = format_size(row["params"]), format_size(row["tokens"])
        lines.append(f"| {size} | {tokens} | {row['lr']:.2e} | {row['scale']:g} | {row['seed']} | {loss} | {excess} |")
    return "\n".join(lines) + "\n"


def sentence(name: str, frame: pd.DataFrame) -> str:
    """What the recipe's own rate costs in one sweep, at its worst."""
    worst = chosen(frame).sort_values("excess_fraction").to_dict("records")[-1]
    ends = f"({format_percent(worst['excess_lo'])}, {format_percent(worst['excess_hi'])})"
    interval = f" {ends}" if worst["lr"] != worst["best_lr"] else ""
    return (
        f"- `{name}`: the recipe's own rate is within {format_percent(worst['excess_fraction'])}{interval} of the best "
        f"rate tried at every size and seed; worst at N = {format_size(worst['params'])}, "
        f"{format_size(worst['tokens'])} tokens, seed {worst['seed']}."
    )


def write(frame: pd.DataFrame, folder: Path, manifests: list[Path]) -> None:
    """README.md, rates.csv, rates.png and rates.svg."""
    from analysis.figures.paired import save_rates

    write_atomic(folder / "rates.csv", frame.to_csv(index=False))
    save_rates(frame, folder)
    sweeps = " ".join(f"experiments/sweeps/{path.stem}.yaml" for path in manifests)
    commands = [f"isoflop run {sweep}" for sweep in sweeps.split()]
    tables = " ".join(f"sweeps/{path.stem}.json" for path in manifests)
    commands.append(f"isoflop rates {tables} --out {folder.as_posix()}")
    text = [
        "# Peak learning rate by size",
        "",
        *(sentence(str(name), group) for name, group in frame.groupby("sweep", sort=False)),
        "",
        "![loss over the best loss by peak rate](rates.png)",
        "",
        markdown(frame),
        "Made by:",
        "```",
        *commands,
        "```",
    ]
    write_atomic(folder / "README.md", "\n".join(text) + "\n")
