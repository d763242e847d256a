"""`profile SWEEP.yaml`: measure which execution of a sweep's shapes is fastest on this machine, within seconds.

What is found is kept in the store; `plan` says what it chooses, and `run` follows it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.run import RunConfig
from experiments.config.sweep import SweepConfig
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.machine.devices import DeviceKind, device_name, find_devices
from experiments.planning.costs import learned_costs
from experiments.planning.plans import compile_sweep, expand_file
from experiments.planning.profile.choice import Load
from experiments.planning.profile.table import Measurement, read_measurement, shape_key, write_measurement
from experiments.planning.stacks import stack_key
from experiments.store.store import RunStore
from models.command_line import next_step

if TYPE_CHECKING:
    from experiments.training.profiling import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `profile`; other `--dotted.field=value` options override the file's fields."""
    parser.add_argument("sweep", type=Path, help="sweep file (YAML)")
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to measure")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for all shapes together (default: 60)")
    parser.add_argument("--again", action="store_true", help="measure shapes again that were measured before")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Measure what was not measured, and print it."""
    if not 0 < args.seconds < float("inf"):
        raise UserError(f"--seconds is {args.seconds:g}; give a number above 0, such as 60")
    store, kind = RunStore(args.store), find_devices(args.device)[0].kind
    tasks = _tasks(args, store, kind)
    end, rows = time.monotonic() + args.seconds, []
    for number, (task, known) in enumerate(tasks):
        if known is None or args.again:
            left = (end - time.monotonic()) / (len(tasks) - number)
            rows.append(_measured(store, task, left))
        else:
            rows.append({**asdict(known), "state": "measured before"})
        if not args.json:
            _print(rows[-1])
    if args.json:
        print(json.dumps({"device": device_name(kind), "shapes": rows}, indent=1, allow_nan=False))
        return 0
    words: list[object] = [] if args.store == Path() else ["--store", args.store]
    print(next_step("plan", args.sweep, *words, *args.overrides))
    return 0


def _tasks(args: argparse.Namespace, store: RunStore, kind: DeviceKind) -> list[tuple[Task, Measurement | None]]:
    """The shapes of the sweep, those with the most left to train first, with what is known of each."""
    from experiments.training.profiling import Task  # torch

    expanded = expand_file(args.sweep, args.overrides, cache=Cache(), kind=kind, store=store)
    if not isinstance(expanded.sweep, SweepConfig):
        raise UserError(f"{args.sweep} fine-tunes; give the sweep that pre-trains its models, whose steps are measured")
    costs = learned_costs(store, [item.run_id for item in expanded.runs], kind)
    compiled = compile_sweep(expanded, store, costs, share=True, profile={})
    configs = {run.run_id: run.config for run in expanded.runs if isinstance(run.config, RunConfig)}
    by_shape: dict[str, list[str]] = {}
    for run_id, config in configs.items():
        by_shape.setdefault(str(shape_key(config)), []).append(run_id)
    workers, found = len(find_devices(kind)), []
    for key, members in by_shape.items():
        here = set(members)
        left = [item for item in compiled.segments if item.run_id in here]
        alike = Counter(stack_key(configs[item.run_id]) for item in left if not item.is_prefix)
        steps = sum(item.end_step - item.start_step for item in left)
        task = Task(
            config=configs[members[0]],
            kind=kind,
            load=Load(num_runs=sum(alike.values()), num_steps=steps, workers=workers),
            num_alike=max(alike.values(), default=0),
            seconds=0.0,
        )
        found.append((sum(item.seconds for item in left), task, read_measurement(store, key, kind)))
    return [(task, known) for _, task, known in sorted(found, key=lambda item: -item[0])]


def _measured(store: RunStore, task: Task, seconds: float) -> dict[str, Any]:
    """Measure a shape and keep it."""
    from dataclasses import replace

    from experiments.planning.profile.table import shape_in_words
    from experiments.training.profiling import measure_shape

    measured = measure_shape(replace(task, seconds=seconds))
    if measured is None:
        return {"shape": shape_in_words(task.config), "state": f"{seconds:.0f} s did not suffice; give more --seconds"}
    path = write_measurement(store, task.config, measured)
    return {**asdict(measured), "state": f"kept in {path}"}


def _print(row: dict[str, Any]) -> None:
    """One shape: the time of its step, and what is how many times as fast."""
    print(f"{row['shape']}: {row['state']}")
    if "step_seconds" not in row:
        return
    print(f"  a step takes {1e3 * row['step_seconds']:.3g} ms; times as fast, with quartiles:")
    for name, values in row["ratios"].items():
        told = ", ".join(
            f"{value} {ratio['median']:.2f} ({ratio['lo']:.2f} to {ratio['hi']:.2f})" for value, ratio in values.items()
        )
        print(f"  {name}: {told}")
    for name, reason in row["skipped"].items():
        print(f"  {name}: not measured, {reason}")
