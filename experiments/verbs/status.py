"""`status SWEEP`: how far a sweep is, as a table, live, or as JSON, and what Slurm says of its jobs. Imports neither
torch nor pandas."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.cluster import scheduler
from experiments.errors import UserError
from experiments.machine.devices import find_devices
from experiments.planning.manifests import facts_of, find_manifest, segments_of
from experiments.planning.plans import cost_model
from experiments.records import RunStatus
from experiments.status.progress import ProgressReader, SweepProgress
from experiments.status.tables import jobs_table, progress_table, wide_console
from experiments.store.store import RunStore

NO_JOBS = "Slurm: no job of this sweep is queued or running"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `status`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--watch", action="store_true", help="stay and show the live table until every run is settled")


def run(args: argparse.Namespace) -> int:
    """Print the status; 0 when every run is done, else 1."""
    from rich.live import Live

    store, manifest = find_manifest(args.sweep, args.store)
    facts = facts_of(store, manifest)
    devices = find_devices("auto")
    costs = cost_model(store, [], devices[0].kind)
    segments = segments_of(store, manifest)
    jobs = _jobs(store, manifest.name, [item.segment_id for item in segments])
    workers = len(devices) if jobs is None else max(1, jobs.num_running)
    reader = ProgressReader(manifest.name, store, facts, costs, workers, segments)
    progress = reader.read()
    if args.json:
        told = progress.to_dict() | ({} if jobs is None else {"scheduler": jobs.to_dict()})
        print(json.dumps(told, indent=1, allow_nan=False))
    elif args.watch:
        with Live(progress_table(progress), refresh_per_second=2) as live:
            while progress.settled < len(progress.runs):
                time.sleep(1.0)  # the screen's refresh, no waiting for a condition
                progress = reader.read()
                live.update(progress_table(progress, max_rows=live.console.height - 6))
    else:
        console = wide_console()
        console.print(progress_table(progress, max_rows=1000))
        if jobs is not None:
            console.print(jobs_table(jobs) if jobs.elements or jobs.vanished or jobs.ended else NO_JOBS)
    return 0 if progress.count(RunStatus.DONE) == len(progress.runs) else 1


def progress_of(sweep: str, root: Path | None) -> SweepProgress:
    """How far a sweep is, by its manifest, file or name and its store.

    Raises
    ------
    UserError
        When no such sweep is in the store.
    """
    store, manifest = find_manifest(sweep, root)
    devices = find_devices("auto")
    costs, segments = cost_model(store, [], devices[0].kind), segments_of(store, manifest)
    return ProgressReader(manifest.name, store, facts_of(store, manifest), costs, len(devices), segments).read()


def _jobs(store: RunStore, sweep: str, names: Sequence[str]) -> scheduler.SchedulerView | None:
    """The sweep's jobs; None without any, or where Slurm cannot be asked, which is said."""
    try:
        return scheduler.view(store, sweep, names)
    except UserError as error:
        print(f"the jobs of this sweep are left out: {error}", file=sys.stderr)
        return None
