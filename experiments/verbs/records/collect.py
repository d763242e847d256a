"""`collect SWEEP... --out runs.parquet|csv`: the published records of sweeps as one tidy table.

Mixtures are flagged.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.errors import UserError
from experiments.files import write_atomic
from experiments.manifests import read_records
from experiments.planning.planned_sweep import PlannedSweep
from experiments.records import RecordError, flat_row
from models.command_line import next_step

MIXTURE_COLUMNS = (
    "device",
    "device_name",
    "attention_backend",
    "threads",
    "precision",
    "world_size",
    "strategy",
    "semantics_version",
    "commit",
    "version_torch",
    "version_isoflop",
)
"""Columns of execution that should not differ among runs that are compared to the last digit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `collect`."""
    parser.add_argument("sweeps", nargs="+", help="sweeps: their names, sweep files, or sweeps/NAME.json")
    parser.add_argument(
        "--store",
        type=Path,
        help="folder with runs/ and sweeps/ (default: that of sweeps/NAME.json, else the current folder)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the table to write: a .parquet or .csv file")


def run(args: argparse.Namespace) -> int:
    """Write the table and say what it mixes."""
    if args.out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out is {args.out}; give a file that ends in .csv or .parquet")
    rows, manifests, damage = [], [], list[RecordError]()
    for name in args.sweeps:
        sweep = PlannedSweep.find(name, args.store)
        manifests.append(sweep.path)
        rows += [flat_row(record, labels) for record, labels in read_records(sweep.path, on_damage=damage.append)]
    for error in damage:
        print(f"warning: a run is left out: {error}", file=sys.stderr)
    if not rows:
        raise UserError(f"{', '.join(args.sweeps)} has no published run yet; train some with `isoflop run`")
    for column, values in mixtures(rows).items():
        print(f"mixture: {column} differs among the runs: {', '.join(values)}", file=sys.stderr)
    import pandas as pd

    frame = pd.DataFrame(rows)
    content = frame.map(as_cell).to_csv(index=False) if args.out.suffix == ".csv" else frame.to_parquet(index=False)
    write_atomic(args.out, content, remedy="choose another --out")
    print(f"{len(frame)} runs: {args.out}")
    print(next_step("report", *manifests))
    return 0


def as_cell(value: object) -> object:
    """What a CSV holds of a value: text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def mixtures(rows: list[dict[str, object]]) -> dict[str, list[str]]:
    """Execution columns with more than one value, and the values."""
    values = {
        column: sorted({str(row[column]) for row in rows if row.get(column) is not None}) for column in MIXTURE_COLUMNS
    }
    return {column: found for column, found in values.items() if len(found) > 1}
