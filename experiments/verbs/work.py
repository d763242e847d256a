"""`work SWEEP`: one worker, in this process. Any scheduler that can start this command K times trains the sweep."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.keeper import keep, pass_user_signals
from experiments.liveness import EXPIRY_SECONDS
from experiments.planning import find_manifest, segments_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `work`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="which GPU is decided by CUDA_VISIBLE_DEVICES"
    )
    parser.add_argument("--parent", type=int, help="process id with which this worker ends")
    parser.add_argument("--no-weights", action="store_true", help="do not keep the weights of finished runs")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, help="time between mid-run checkpoints")
    parser.add_argument("--max-failures", type=int, default=3, help="errors after which a run is recorded as failed")
    parser.add_argument(
        "--max-runs", type=int, default=500, help="runs after which the worker asks for a fresh process (status 75)"
    )
    parser.add_argument(
        "--no-linger", action="store_true", help="end when nothing is free instead of waiting for what others may lose"
    )
    parser.add_argument(
        "--expiry-seconds",
        type=float,
        default=EXPIRY_SECONDS,
        help="how long the heartbeat of a worker on another machine may stand still before its run is taken up",
    )


def run(args: argparse.Namespace) -> int:
    """Work until nothing is left; the worker's exit status."""
    pass_user_signals()
    from experiments.worker import Worker, WorkerOptions

    store, manifest = find_manifest(args.sweep, args.store)

    def work(parent: int | None) -> int:
        options = WorkerOptions(
            device=args.device,
            parent=parent,
            checkpoint_seconds=args.checkpoint_seconds,
            max_failures=args.max_failures,
            max_runs=args.max_runs,
            keep_weights=not args.no_weights,
            linger=not args.no_linger,
            expiry_seconds=args.expiry_seconds,
        )
        return Worker(store=store, segments=segments_of(store, manifest), options=options).work()

    if sys.platform == "linux" and args.device == "cpu":
        return keep(work, parent=args.parent)
    return work(args.parent)  # a fork after CUDA was looked at is not safe, and elsewhere neither is one at all
