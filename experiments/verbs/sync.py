"""`sync SWEEP [--follow]`: mirror local records to W&B, once or live."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from experiments.mirror.sending import MODES, Mirror, follow, lower_priority
from experiments.planning import find_manifest, planned_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `sync`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument(
        "--mode", choices=MODES, default="offline", help="offline writes files under STORE/wandb (default)"
    )
    parser.add_argument("--project", default="isoflop", help="W&B project")
    parser.add_argument(
        "--follow", action="store_true", help="stay until every run is finished, or standard input closes"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time between two looks when following")


def run(args: argparse.Namespace) -> int:
    """Send what is new; rows and runs are counted on standard output."""
    lower_priority()
    store, manifest = find_manifest(args.sweep, args.store)
    runs = planned_runs(store, manifest)
    mirror = Mirror(store=store, manifest=manifest, mode=args.mode, project=args.project)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    if not args.follow:
        over.set()
    elif not sys.stdin.isatty():
        threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
    try:
        rows = sum(follow(mirror, runs, until=over, seconds=args.seconds))
    finally:
        mirror.close()
    finished = sum(mirror.finished(item.run_id) for item in runs)
    print(f"{rows} rows sent, {finished} of {len(runs)} runs complete in W&B ({args.mode}, project {args.project})")
    return 0


def _wait_for_end(over: threading.Event) -> None:
    """The starter holds the other end of standard input: when it ends, for whatever reason, so does this."""
    sys.stdin.read()
    over.set()
