"""`cancel SWEEP`: end the Slurm jobs of a sweep.

Workers save and let go of their runs; imports neither torch nor pandas.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.cluster.scheduler import cancel
from experiments.planning.planned_sweep import PlannedSweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `cancel`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")


def run(args: argparse.Namespace) -> int:
    """Cancel what is queued or running; 0 also when nothing is."""
    sweep = PlannedSweep.find(args.sweep, args.store)
    ended = cancel(sweep.store, sweep.name)
    if not ended:
        print(f"no job of {sweep.name} is queued or running")
        return 0
    jobs = sorted({element.job for element in ended}, key=int)
    print(
        f"cancelled {len(ended)} workers of {sweep.name}, job{'s' * (len(jobs) > 1)} {', '.join(jobs)}; finished "
        "runs and checkpoints are kept: `run` goes on from here"
    )
    return 0
