"""`archive SWEEP --out records.parquet`: a sweep's published runs in one small file, from which its report is made."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.archives import write_archive
from experiments.errors import UserError
from experiments.planning.planned_sweep import PlannedSweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `archive`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument("--out", type=Path, required=True, help="NAME.parquet")


def run(args: argparse.Namespace) -> int:
    """Write the archive and say how large it is."""
    if args.out.suffix != ".parquet":
        raise UserError(f"--out is {args.out}; give a file that ends in .parquet")
    number = write_archive(PlannedSweep.find(args.sweep, args.store).path, args.out)
    print(f"{number} runs, {args.out.stat().st_size / 1e6:.2f} MB: {args.out}")
    print(f"next: isoflop report {args.out} --out {args.out.parent}")
    return 0
