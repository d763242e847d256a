"""`run SWEEP.yaml`: train what is missing, here or by a Slurm array; the same command starts, resumes and extends."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.cluster import launch as slurm
from experiments.config.designs import ExpandedSweep
from experiments.config.kinds import prefix_id
from experiments.config.tuning.sweep import FinetuneSweep
from experiments.data.cache import Cache
from experiments.distributed.place import STRATEGIES
from experiments.errors import UserError
from experiments.execution.launcher import Launcher
from experiments.execution.local_workers import LocalWorkers
from experiments.machine.devices import DeviceKind, find_devices, gpu_memory_bytes
from experiments.manifests import Segment
from experiments.planning.chosen import chosen_runs
from experiments.planning.costs import learned_costs
from experiments.planning.packing import workers_per_gpu
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import compile_sweep, expand_file
from experiments.records import RunStatus
from experiments.status.next_command import next_command
from experiments.status.progress import ProgressReader, SweepProgress
from experiments.store.checkpoints import forget_failures
from experiments.store.store import RunStore
from experiments.verbs.planning.plan import measure_corpus
from models.command_line import own_command
from models.formatting import counted, format_compute

MIRROR_GRACE_SECONDS = 60.0
"""How long the end of a sweep waits for its mirror; training is done by then."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `run`; other `--dotted.field=value` options override the file's fields."""
    parser.add_argument("sweep", type=Path, help="sweep file (YAML)")
    parser.add_argument(
        "--store", type=Path, default=Path(), help="folder for runs/ and sweeps/ (default: the current folder)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to train (default: on every GPU, else on every core)",
    )
    parser.add_argument(
        "--workers", type=int, help="number of workers (default: one per core or GPU; Slurm: one per run, up to 32)"
    )
    parser.add_argument(
        "--launcher", choices=("local", "slurm"), default="local", help="start workers here, or as a Slurm job array"
    )
    parser.add_argument(
        "--devices-per-run",
        type=int,
        help="GPUs that train one run together, for runs larger than a GPU (default: 1)",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help="how several GPUs train a run: ddp, all of the model each (default); fsdp, a shard",
    )
    parser.add_argument(
        "--no-sharing",
        action="store_true",
        help="train every run separately, even if runs could share their first steps",
    )
    parser.add_argument("--no-weights", action="store_true", help="do not keep the weights of finished runs")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, help="time between mid-run checkpoints")
    parser.add_argument("--retry-failed", action="store_true", help="train failed and diverged runs again")
    parser.add_argument(
        "-k",
        dest="pattern",
        metavar="PATTERN",
        help="train only runs that match all these words, such as 'heldout', 'width=64 seed=0' or the start of an id",
    )
    parser.add_argument(
        "-x", "--stop-at-failure", action="store_true", help="stop all workers when a run fails or diverges"
    )
    parser.add_argument(
        "--wandb",
        choices=("offline", "online", "off"),
        default="offline",
        help="copy the records to W&B (default: into offline files)",
    )
    slurm.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train what is missing; 0 when every run is done, 1 when some failed or diverged. Slurm: 0 when it is queued."""
    if not args.checkpoint_seconds >= 0:
        raise UserError(f"--checkpoint-seconds is {args.checkpoint_seconds:g}; give seconds of at least 0, such as 60")
    if args.launcher == "slurm":
        return _submit(args)
    slurm.refuse_options(args)
    return _train_here(args)


def _train_here(args: argparse.Namespace) -> int:
    """Train by workers on this machine."""
    together = _group_arguments(args)
    devices = find_devices(args.device, args.workers, args.devices_per_run or 1)
    cache, store = Cache(), RunStore(args.store)
    measure = partial(measure_corpus, cache=cache)
    expanded = expand_file(args.sweep, args.overrides, kind=devices[0].kind, cache=cache, measure=measure, store=store)
    part = None if args.pattern is None else chosen_runs(expanded, args.pattern)
    sweep, _ = _write(args, expanded, args.sweep, store, devices[0].kind)
    wanted = sweep
    if part is not None:
        wanted = sweep.part(part, kind=devices[0].kind, share=not args.no_sharing)
        print(f"-k {args.pattern!r}: {len(part.runs)} of {len(expanded.runs)} runs")
    small = args.workers is None and not together
    memory = gpu_memory_bytes() if devices[0].kind == "cuda" and small else None
    if memory is not None:  # several small runs to one GPU where they fit
        devices = find_devices(args.device, len(devices) * workers_per_gpu(wanted.segments(), memory))
    arguments = [*worker_arguments(args), *together, "--workers", str(len(devices))]
    workers = LocalWorkers(manifest=wanted.path, logs=store.root / "logs", arguments=arguments)
    reader = ProgressReader(wanted, wanted.costs(devices[0].kind), len(devices))
    launcher = Launcher(
        store=store, reader=reader, workers=workers, devices=devices, stop_at_failure=args.stop_at_failure
    )
    mirror = None if args.wandb == "off" else _start_mirror(sweep.path, args.wandb, reader.read())
    try:
        progress = launcher.run()
        while wanted is sweep and (longer := _planned_again(args, sweep, devices[0].kind)) is not None:
            sweep = wanted = longer
            launcher.reader = ProgressReader(sweep, sweep.costs(devices[0].kind), len(devices))
            progress = launcher.run()
    finally:
        if mirror is not None:
            _end_mirror(mirror)
    stopped = args.stop_at_failure and progress.settled < len(progress.runs)
    if stopped:
        print("stopped at the first run that failed or diverged (-x); the same command without -x trains the others")
    status = _say_end(progress, sweep)
    whole = progress if wanted is sweep else ProgressReader(sweep, sweep.costs(devices[0].kind), len(devices)).read()
    print(next_command(sweep, whole))
    return status


def _write(
    args: argparse.Namespace,
    expanded: ExpandedSweep,
    source: Path,
    store: RunStore,
    kind: DeviceKind,
    *,
    measured: bool = True,
) -> tuple[PlannedSweep, int]:
    """Write the sweep to the store and say what it changed; also the number of runs that it adds or tries again."""
    retried = 0
    if expanded.before is not None and isinstance(expanded.sweep, FinetuneSweep) and expanded.sweep.pretrained.file:
        _write(args, expanded.before, expanded.sweep.pretrained.file, store, kind, measured=measured)
    if args.retry_failed:
        for item in expanded.runs:
            retried += store.forget_failure(item.run_id)
        for prefix in {prefix_id(item.config) for item in expanded.runs} - {None}:
            forget_failures(store, str(prefix))
    sharing = not args.no_sharing
    sweep, changes = PlannedSweep.write(expanded, source, store, kind=kind, share=sharing, measured=measured)
    for problem in changes.damage:
        print(f"warning: {problem}", file=sys.stderr)
    if changes.corpus:
        print(
            f"the content of corpus {changes.corpus!r} has changed: its runs are trained again; those on the old "
            "content stay in the store"
        )
    for word, ids in (("adds", changes.added), ("no longer lists", changes.removed)):
        if ids:
            shown = f"{', '.join(ids[:6])}{' ...' if len(ids) > 6 else ''}"
            print(f"the sweep {word} {counted(len(ids), 'run')}: {shown}")
    return sweep, len(changes.added) + retried


def _planned_again(args: argparse.Namespace, sweep: PlannedSweep, kind: DeviceKind) -> PlannedSweep | None:
    """The sweep with what its finished runs ask for; None where they ask for nothing.

    The search for learning rates goes on from the losses of those tried.
    """
    if sweep.manifest.sweep["design"] != "finetune":
        return None
    expanded = expand_file(args.sweep, args.overrides, kind=kind, cache=Cache(), store=sweep.store)
    if {item.run_id: dict(item.labels) for item in expanded.runs} == dict(sweep.manifest.runs):
        return None
    return PlannedSweep.write(expanded, args.sweep, sweep.store, kind=kind)[0]


def _submit(args: argparse.Namespace) -> int:
    """The same by Slurm: 0 when the workers are queued, or nothing is left to do."""
    for option, given in (("-k", args.pattern is not None), ("-x", args.stop_at_failure)):
        if given:
            raise UserError(f"{option} is for workers on this machine; leave it out, or take --launcher local")
    options = slurm.options_of(args)
    store = RunStore(args.store)
    expanded = expand_file(args.sweep, args.overrides, kind=options.device, cache=Cache(), store=store)
    if args.dry_run:
        added, costs = 0, learned_costs(store, [item.run_id for item in expanded.runs], options.device)
        compiled = compile_sweep(expanded, store, costs, share=not args.no_sharing, profile={})
        segments: Sequence[Segment] = compiled.segments
    else:
        sweep, added = _write(args, expanded, args.sweep, store, options.device, measured=False)  # nodes are others
        segments = sweep.segments()
    demand = slurm.Demand(
        missing=sum(not store.is_published(item.run_id) for item in expanded.runs),
        added=added,
        workers=args.workers,
        all_stay=any(item.is_prefix for item in segments),
        arguments=[*worker_arguments(args), *slurm.worker_arguments(args)],
    )
    done = slurm.launch(options, store=store, sweep=expanded.sweep.name, demand=demand, dry_run=args.dry_run)
    print(done, end="")
    return 0


def worker_arguments(args: argparse.Namespace) -> list[str]:
    """Options that `run` hands to each worker."""
    flags = {"--no-weights": args.no_weights, "--stop-at-failure": args.stop_at_failure}
    return ["--checkpoint-seconds", str(args.checkpoint_seconds), *(flag for flag, given in flags.items() if given)]


def _group_arguments(args: argparse.Namespace) -> list[str]:
    """Options for workers of several processes on this machine; none for those of one."""
    if args.devices_per_run is not None and args.devices_per_run < 1:
        raise UserError(f"--devices-per-run is {args.devices_per_run}; give a number of at least 1")
    if (args.devices_per_run or 1) == 1:
        if args.strategy is not None:
            raise UserError(f"--strategy {args.strategy} is for several processes a run; add --devices-per-run 2")
        return []
    return ["--devices-per-run", str(args.devices_per_run), "--strategy", args.strategy or "ddp"]


def _start_mirror(manifest: Path, mode: str, progress: SweepProgress) -> subprocess.Popen[bytes] | None:
    """The W&B mirror in a process of its own, at low priority; none when everything is trained."""
    if progress.settled == len(progress.runs):
        return None
    logs = manifest.parent.parent / "logs"
    logs.mkdir(exist_ok=True)
    command = [*own_command(), "sync", str(manifest), "--follow", "--mode", mode]
    with (logs / "sync.log").open("ab") as stream:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )


def _end_mirror(mirror: subprocess.Popen[bytes]) -> None:
    """Closing its standard input tells the mirror to send what is left and end; a mirror that hangs is left behind."""
    assert mirror.stdin is not None
    mirror.stdin.close()
    remedy = "`isoflop sync` completes it at any time"
    try:
        if mirror.wait(timeout=MIRROR_GRACE_SECONDS) != 0:
            print(f"the W&B mirror is not complete, logs/sync.log says why; {remedy}", file=sys.stderr)
    except subprocess.TimeoutExpired:
        print(f"the W&B mirror is still sending; {remedy}", file=sys.stderr)


def _say_end(progress: SweepProgress, sweep: PlannedSweep) -> int:
    done, total = progress.count(RunStatus.DONE), len(progress.runs)
    print(f"{done} of {total} runs are done, {format_compute(progress.flops_done)} FLOPs; records: {sweep.path}")
    for item in progress.runs:
        if not item.published or item.status is not RunStatus.DONE:
            reason = f": {item.reason}" if item.reason else ""
            print(f"{item.run_id} (width {item.width}, depth {item.depth}) {item.status}{reason}", file=sys.stderr)
    return 0 if done == total else 1
