"""`work SWEEP`: one worker, in this process. Any scheduler that can start this command K times trains the sweep.

With `--devices-per-run`, `--nodes` or `--strategy` one worker is several processes that train each run together: those
that srun or torchrun started, or some that are started here.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from experiments.config.codec import convert
from experiments.distributed.place import STRATEGIES, Place, check_place, place_of
from experiments.errors import UserError
from experiments.execution.group import supervise_group
from experiments.execution.supervisor import pass_user_signals, supervise
from experiments.machine.choices import ExecutionChoices
from experiments.machine.liveness import EXPIRY_SECONDS
from experiments.planning.planned_sweep import PlannedSweep
from models.command_line import own_command

FLAGS = ("no_weights", "no_linger", "stop_at_failure")
"""Options without a value that each process of a group takes too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `work`."""
    parser.add_argument("sweep", help="manifest (sweeps/NAME.json), sweep file or name")
    parser.add_argument("--store", type=Path, help="folder of runs/ and sweeps/ (default: the manifest's, or here)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="which GPU is decided by CUDA_VISIBLE_DEVICES"
    )
    parser.add_argument("--parent", type=int, help="process id with which this worker ends")
    parser.add_argument(
        "--workers", type=int, default=1, help="workers that share the sweep: a stack of runs leaves them their part"
    )
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
        "--stop-at-failure", action="store_true", help="end after a run that was recorded as failed or diverged"
    )
    parser.add_argument(
        "--expiry-seconds",
        type=float,
        default=EXPIRY_SECONDS,
        help="how long the heartbeat of a worker on another machine may stand still before its run is taken up",
    )
    parser.add_argument(
        "--stall-seconds",
        type=float,
        default=3600.0,
        help="how long a training may take no step before its worker is ended as hung (default: 3600)",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="several processes train each run together: ddp, the whole model in each (default); fsdp, a shard in each",
    )
    parser.add_argument(
        "--devices-per-run",
        type=int,
        metavar="N",
        help="processes of this worker on a machine, one a GPU; started here unless srun or torchrun did (default: 1)",
    )
    parser.add_argument("--nodes", type=int, metavar="M", help="machines of this worker; srun or torchrun starts them")


def run(args: argparse.Namespace) -> int:
    """Work until nothing is left; the worker's exit status."""
    if args.workers < 1:
        raise UserError(f"--workers is {args.workers}; give a number of at least 1")
    pass_user_signals()
    place = _place(args)
    if place is None and (args.devices_per_run or 1) > 1:
        command = [*own_command(), "work", *_words(args)]
        return supervise_group(command, size=args.devices_per_run, parent=args.parent)
    from experiments.distributed.ranks import Ranks
    from experiments.execution.worker import Worker, WorkerOptions
    from experiments.machine.hardware import commit

    commit()  # of the code that is loaded now: the checkout may change under a worker

    sweep = PlannedSweep.find(args.sweep, args.store)
    choices = convert(ExecutionChoices, dict(sweep.manifest.execution), where=str(sweep.path), prefix="execution")

    def work(parent: int | None) -> int:
        options = WorkerOptions(
            device=args.device,
            parent=parent,
            checkpoint_seconds=args.checkpoint_seconds,
            max_failures=args.max_failures,
            max_runs=args.max_runs,
            keep_weights=not args.no_weights,
            linger=not args.no_linger,
            stop_at_failure=args.stop_at_failure,
            expiry_seconds=args.expiry_seconds,
            stall_seconds=args.stall_seconds,
            execution=choices,
            profile=sweep.manifest.profile,
            num_workers=args.workers,
        )
        ranks = Ranks(place, args.strategy or "ddp")
        return Worker(store=sweep.store, segments=sweep.segments(), options=options, ranks=ranks).work()

    if place is not None:
        status = work(args.parent)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a group that broke may hang when it is taken down
    if sys.platform == "linux" and args.device == "cpu":
        return supervise(work, parent=args.parent)
    return work(args.parent)  # a fork after CUDA was looked at is not safe, and elsewhere neither is one at all


def _place(args: argparse.Namespace) -> Place | None:
    """The place of this process among several that a starter made.

    None for a worker that is one process, or that has yet to start several.
    """
    wanted = {name: getattr(args, name) for name in ("devices_per_run", "nodes")}
    for name, value in wanted.items():
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; give a number of at least 1")
    if args.strategy is None and max(value or 1 for value in wanted.values()) == 1:
        return None
    place = place_of(os.environ)
    if place is not None:
        check_place(place, **wanted)
        return place if place.size > 1 else None
    if (args.nodes or 1) > 1:
        raise UserError(
            f"--nodes {args.nodes} needs a starter on every machine; start this by srun or torchrun, or use "
            "`run --launcher slurm`"
        )
    if (args.devices_per_run or 1) == 1:
        raise UserError(
            f"--strategy {args.strategy} is for several processes that train a run together; add --devices-per-run 2, "
            "or start this by srun or torchrun"
        )
    return None


def _words(args: argparse.Namespace) -> list[str]:
    """The command line of each process of a group, but for what it ends with."""
    words = [str(args.sweep)]
    for name in (
        "store",
        "device",
        "checkpoint_seconds",
        "max_failures",
        "max_runs",
        "expiry_seconds",
        "stall_seconds",
        "strategy",
        "devices_per_run",
    ):
        if getattr(args, name) is not None:
            words += ["--" + name.replace("_", "-"), str(getattr(args, name))]
    return words + [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(args, name)]
