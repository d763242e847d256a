"""A sweep so small that it is trained hundreds of times: two budgets of one size that share their first steps.

What `benchmarks.faults` and `benchmarks.bitflips` train in forked processes, so that torch is imported once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from experiments.data.cache import Cache
from experiments.execution.worker import Worker, WorkerOptions
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from experiments.training import job
from experiments.training.state import Target, TrainSetup, TrainState, save_state

SWEEP = """
name: tiny
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 16384}, context: 32, val_size: 1024}
design: {kind: ladder, tokens: [3200, 3840], shapes: [{width: 8, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 64, warmup_tokens: 640}
precision: fp32
"""
MEASURED = ("loss", "loss_se", "val_sums", "val_counts", "train_loss", "bpb")
TIMING = ("tokens_per_second", "mfu", "memory_bytes")


def write_sweep(folder: Path) -> Path:
    """The sweep's file."""
    path = folder / "tiny.yaml"
    path.write_text(SWEEP)
    return path


def _save_now_and_then(setup: TrainSetup, target: Target, state: TrainState) -> None:
    """A checkpoint after every tenth step: as many as time allows would be most of the work."""
    if state.step % 10 == 0:
        save_state(setup, target, state)


def train(sweep: Path, root: Path, cache: Cache) -> int:
    """What `run` does with one worker, in this process: the worker's exit status."""
    store = RunStore(root)
    planned, _ = PlannedSweep.write(expand_file(sweep, cache=cache), sweep, store)
    options = WorkerOptions(checkpoint_seconds=0.0, expiry_seconds=3.0)  # a claim that says no owner is soon given up
    with mock.patch.object(job, "save_state", _save_now_and_then):
        return Worker(store=store, segments=planned.segments(), options=options, cache=cache).work()


def warm_up(sweep: Path, root: Path, cache: Cache) -> None:
    """Train the sweep once in this process, so that forked ones import and measure nothing of their own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if train(sweep, root, cache) != 0:
        raise SystemExit(f"the undisturbed sweep in {root} did not end")
    for number, handler in before.items():
        signal.signal(number, handler)


def in_child(work: Callable[[], int], log: Path) -> int:
    """Run a function in a forked process: its exit status, negative for a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with log.open("ab", buffering=0) as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(sweep: Path, root: Path, cache: Cache, log: Path, *, tries: int = 6) -> int:
    """Train until a worker says that all is done: how often it was started. SystemExit where it never does."""
    for number in range(1, tries + 1):
        if in_child(lambda: train(sweep, root, cache), log) == 0:
            return number
    raise SystemExit(f"the sweep in {root} does not end: {log.read_text()[-2000:]}")


def outcomes(root: Path) -> dict[str, Any]:
    """run_id -> what was measured, and the rows of its metrics without times."""
    store, found = RunStore(root), {}
    for folder in sorted(store.runs.glob("*")):
        record = store.read_record(folder.name)
        if record is None:
            continue
        rows = [
            {key: value for key, value in row.items() if key not in TIMING} for row in store.read_metrics(folder.name)
        ]
        found[folder.name] = [record.status.value, [record.outcome.get(name) for name in MEASURED], rows]
    return found


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two sweeps measured the same to the last digit; rows that are there are right, whether all are or not."""
    if json.dumps([one[:2] for one in found.values()]) != json.dumps([one[:2] for one in wanted.values()]):
        return False
    return list(found) == list(wanted) and all(
        row in wanted[name][2] for name, (_, _, rows) in found.items() for row in rows
    )
