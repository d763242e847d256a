"""Measures what could be faster for a shape, within a bound of seconds: the rows of a store's execution profile.

Each field of the execution is compared with the defaults by itself. It must not know sweeps or stores: it is told how
much there is to train.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import time
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.config.run import RunConfig
from experiments.machine.choices import ExecutionChoices, default_threads
from experiments.machine.devices import DeviceKind, device_name, resolve_precision, usable_cores
from experiments.machine.hardware import tune_allocator
from experiments.planning.profile.choice import Load
from experiments.planning.profile.table import Measurement, Ratio, shape_in_words
from experiments.planning.stacks import MAX_MEMBERS, why_alone
from experiments.training.step_times import Arm, StepTimes, time_steps, with_precision
from models.config.transformer import ATTENTION_BACKENDS

DEFAULT = "default"
"""Name of the arm that takes the defaults."""
COMPILE_SECONDS, COMPILE_GAIN = 20.0, 1.3
"""The fastest compilation and the largest gain of benchmarks/compile.json, rounded up: what they cannot pay back within
the runs is not tried."""
PARTS = {"attention": 0.2, "stacked": 0.35, "micro_batch": 0.2, "threads": 0.1, "precision": 0.15}
"""Field -> its part of the seconds."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A shape to be measured."""

    config: RunConfig
    """A run of it."""
    kind: DeviceKind
    """cpu or cuda."""
    load: Load
    """What is left to train of it."""
    num_alike: int
    """Most runs left that may be trained together."""
    seconds: float
    """Bound of the wall time."""


@dataclass
class _Found:
    """What is known so far."""

    ratios: dict[str, dict[str, Ratio]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def take(self, name: str, times: StepTimes) -> None:
        self.step_seconds.append(times.median(DEFAULT))
        self.rounds.append(times.num_rounds)
        self.ratios[name] = {}
        for arm in (one for one in times.seconds if one != DEFAULT):
            median, lo, hi = (round(value, 4) for value in times.ratios(arm, DEFAULT))
            self.ratios[name][arm] = Ratio(median=median, lo=lo, hi=hi)


def measure_shape(task: Task) -> Measurement | None:
    """Measure a shape.

    Parameters
    ----------
    task : Task
        The shape, what is left to train of it, and the bound.

    Returns
    -------
    Measurement or None
        None where not one comparison was possible within the bound.
    """
    tune_allocator()
    began, found, compile_seconds = time.monotonic(), _Found(), None
    for name, part in PARTS.items():
        reason = _pointless(name, task)
        if reason is not None:
            found.skipped[name] = reason
            continue
        times = time_steps(_arms(name, task), task.kind, seconds=part * task.seconds)
        if times is None:
            found.skipped[name] = f"{part * task.seconds:.1f} s did not suffice (--seconds)"
        else:
            found.take(name, times)
    if not found.rounds:
        return None
    step_seconds = sorted(found.step_seconds)[len(found.step_seconds) // 2]
    could_save = task.load.num_steps * step_seconds * (1 - 1 / COMPILE_GAIN)
    left = task.seconds - (time.monotonic() - began)
    if could_save < COMPILE_SECONDS * task.load.workers:
        found.skipped["compile"] = f"{COMPILE_GAIN:g} times the speed would save {could_save:.0f} s of what is left"
    else:
        compiled = _compiled(task, max(left, 0.0))
        if isinstance(compiled, str):
            found.skipped["compile"] = compiled
        else:
            found.take("compile", compiled)
            compile_seconds = round(compiled.first_seconds["true"], 2)
    return Measurement(
        shape=shape_in_words(task.config),
        kind=task.kind,
        device=device_name(task.kind),
        torch=importlib.metadata.version("torch"),
        step_seconds=float(f"{step_seconds:.4g}"),
        num_rounds=min(found.rounds),
        ratios=found.ratios,
        compile_seconds=compile_seconds,
        skipped=found.skipped,
    )


def _pointless(name: str, task: Task) -> str | None:
    """Why a field is not measured; None where it is."""
    config = task.config
    if name == "stacked":
        if task.num_alike < 2:
            return "no two runs that are left have the same shape, batch and number of steps"
        return why_alone(config, ExecutionChoices(stacked=2), task.kind)
    if name == "micro_batch" and config.batch_sequences < 2:
        return "a batch is one sequence"
    if name == "threads":
        if task.kind == "cuda":
            return "threads beside a GPU wait for it"
        if task.load.num_runs >= usable_cores():
            return f"{task.load.num_runs} runs keep {usable_cores()} cores busy with one thread each"
    if name == "precision" and config.precision == "fp32" and resolve_precision("auto", task.kind) == "fp32":
        return "this processor does not multiply bfloat16 natively"
    return None


def _arms(name: str, task: Task) -> list[Arm]:
    """The defaults, and what a field could be instead."""
    config = task.config
    threads = default_threads(task.kind)
    base = Arm(name=DEFAULT, config=config, threads=threads)
    if name == "attention":
        values: list[Any] = list(ATTENTION_BACKENDS if task.kind == "cpu" else ("sdpa", "explicit"))
        others = [replace(base, name=value, choices=ExecutionChoices(attention=value)) for value in values]
    elif name == "stacked":
        sizes = [size for size in (2, 4, 8) if size <= min(task.num_alike, MAX_MEMBERS)]
        others = [replace(base, name=str(size), members=size) for size in sizes]
    elif name == "micro_batch":
        halves = sorted({max(1, config.batch_sequences // 2), max(1, config.batch_sequences // 4)})
        others = [replace(base, name=str(held), choices=ExecutionChoices(micro_batch=held)) for held in halves]
    elif name == "threads":
        counts = sorted({max(2, usable_cores() // 2), max(2, usable_cores())})
        others = [replace(base, name=str(count), threads=count) for count in counts]
    else:
        other = with_precision(config)
        others = [replace(base, name=other.precision, config=other)]
    return [base, *others]


def _compiled(task: Task, seconds: float) -> StepTimes | str:
    """Steps compiled and not, in a process of its own that is ended at the bound; or why there are no times."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_time_compiled, args=(task, seconds, there), daemon=False)
    child.start()
    there.close()
    try:
        if not here.poll(seconds):
            return f"compiling takes more than the {seconds:.0f} s that were left (--seconds)"
        told: StepTimes | str = here.recv()
        return told
    except EOFError:
        return "the process that compiled died"
    finally:
        child.terminate()
        child.join()


def _time_compiled(task: Task, seconds: float, told: Any) -> None:
    tune_allocator()
    base = Arm(name=DEFAULT, config=task.config, threads=default_threads(task.kind))
    arms = [base, replace(base, name="true", choices=ExecutionChoices(compile=True))]
    try:
        times = time_steps(arms, task.kind, seconds=max(1.0, seconds - 1.0))
    except Exception as error:  # of the compiler: it is what the plan says of this shape
        told.send(f"it failed: {type(error).__name__}")
        raise
    told.send("too few steps within the bound (--seconds)" if times is None else times)
