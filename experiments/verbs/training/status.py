"""`status SWEEP`: how far a sweep is, as a table, live, or as JSON, and what Slurm says of its jobs.

Imports neither torch nor pandas.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

from experiments.cluster import scheduler
from experiments.errors import UserError
from experiments.machine.devices import find_devices
from experiments.planning.costs import CostModel
from experiments.planning.planned_sweep import PlannedSweep
from experiments.records import RunStatus
from experiments.status.next_command import next_command
from experiments.status.progress import ProgressReader, SweepProgress
from experiments.status.tables import jobs_table, progress_table, wide_console
from experiments.verbs.training.list import list_sweeps

NO_JOBS = "Slurm: no job of this sweep is queued or running"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `status`."""
    parser.add_argument(
        "sweep", nargs="?", help="manifest (sweeps/NAME.json), sweep file or name (default: list the store's sweeps)"
    )
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--watch", action="store_true", help="stay and show the live table until every run is settled")


def run(args: argparse.Namespace) -> int:
    """Print the status; 0 when every run is done, else 1."""
    from rich.live import Live

    if args.sweep is None:
        return list_sweeps(args.store or Path(), as_json=args.json)
    sweep = PlannedSweep.find(args.sweep, args.store)
    devices = find_devices("auto")
    jobs = _jobs(sweep)
    workers = len(devices) if jobs is None else max(1, jobs.num_running)
    reader = ProgressReader(sweep, CostModel(kind=devices[0].kind), workers)
    progress = reader.read()
    if args.json:
        shown = progress.to_dict() | ({} if jobs is None else {"scheduler": jobs.to_dict()})
        print(json.dumps(shown, indent=1, allow_nan=False))
    elif args.watch:
        with Live(refresh_per_second=2) as live:
            size = live.console.size
            show = partial(progress_table, width=size.width, max_rows=size.height - 10)
            live.update(show(progress))
            while progress.settled < len(progress.runs):
                time.sleep(1.0)  # the screen's refresh, no waiting for a condition
                progress = reader.read()
                live.update(show(progress))
    else:
        console = wide_console()
        console.print(progress_table(progress, width=console.width, max_rows=1000))
        if jobs is not None:
            console.print(jobs_table(jobs) if jobs.elements or jobs.vanished or jobs.ended else NO_JOBS)
    if not args.json:
        print(next_command(sweep, progress))
    return 0 if progress.count(RunStatus.DONE) == len(progress.runs) else 1


def progress_of(sweep: str, root: Path | None) -> SweepProgress:
    """How far a sweep is, by its manifest, file or name and its store.

    Parameters
    ----------
    sweep : str
        Path of the manifest, path of the sweep file, or name of the sweep.
    root : Path, optional
        Folder of the store; None: as the manifest or the working folder says.

    Returns
    -------
    SweepProgress
        As the store holds it now.

    Raises
    ------
    UserError
        When no such sweep is in the store.
    """
    devices = find_devices("auto")
    return ProgressReader(PlannedSweep.find(sweep, root), CostModel(kind=devices[0].kind), len(devices)).read()


def _jobs(sweep: PlannedSweep) -> scheduler.SchedulerView | None:
    """The sweep's jobs; None without any, or where Slurm cannot be asked, which is said."""
    try:
        return scheduler.view(sweep.store, sweep.name, [item.segment_id for item in sweep.segments()])
    except UserError as error:
        print(f"the jobs of this sweep are left out: {error}", file=sys.stderr)
        return None
