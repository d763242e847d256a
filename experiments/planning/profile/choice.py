"""What a sweep makes of measured times: the execution of each of its shapes, with the reason. Torch-free.

A shape of which a run has begun keeps the choices that it began with, so that what is stopped goes on to the same last
digit. What a user forces stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.config.designs import PlannedRun
from experiments.config.run import RunConfig
from experiments.errors import UserError
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import DeviceKind, find_devices
from experiments.manifests import Manifest, Segment
from experiments.planning.costs import training_memory_bytes
from experiments.planning.profile.table import Measurement, Ratio, read_measurement, shape_in_words, shape_key
from experiments.store.store import RunStore
from models.formatting import format_bytes

MIN_GAIN = 1.05
"""Times faster from which a choice other than the default is taken; its lower quartile has to be above 1 as well."""
USABLE_MEMORY = 0.9
"""Part of a GPU's memory that training may hold; the context and libraries of its processes take some."""


@dataclass(frozen=True, kw_only=True)
class ShapeProfile:
    """How the runs of one shape are executed, and why."""

    key: str
    """Of `shape_key`."""
    shape: str
    """In words."""
    num_runs: int
    """Runs of the sweep that have it."""
    measured: bool
    """Whether this shape was measured on this device with this version of torch."""
    values: Mapping[str, Any]
    """Fields of the execution that the measurement decides."""
    execution: str
    """All choices in words: forced, measured, default."""
    why: tuple[str, ...] = ()
    """Reasons of what was chosen."""
    not_taken: tuple[str, ...] = ()
    """What was no faster or not measured, and why."""
    stacked: Mapping[int, float] = field(default_factory=dict)
    """Runs trained together -> how many times faster each step was, where that was measured."""
    problem: str | None = None
    """Why the file of the measurement cannot be believed, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is left to train of a shape, and on how many workers."""

    num_runs: int
    """Runs left."""
    num_steps: int
    """Steps left, shared ones counted once."""
    workers: int
    """Cores or GPUs of this machine."""


def profile_sweep(
    runs: Sequence[PlannedRun],
    segments: Sequence[Segment],
    store: RunStore,
    forced: ExecutionChoices,
    name: str,
    kind: DeviceKind,
    gpu_bytes: int | None = None,
) -> tuple[ShapeProfile, ...]:
    """Decide the execution of every shape of a sweep from what the store holds of it.

    Parameters
    ----------
    runs : sequence of PlannedRun
        Of the sweep.
    segments : sequence of Segment
        What is left to train.
    store : RunStore
        With the measurements, and with what has begun.
    forced : ExecutionChoices
        What the sweep file says.
    name : str
        Name of the sweep, which may have been planned before.
    kind : str
        cpu or cuda.
    gpu_bytes : int, optional
        Memory of the GPU on which they are trained; None: not known, or no GPU.

    Returns
    -------
    tuple of ShapeProfile
        One for each shape, in the order of the runs.
    """
    shapes: dict[str, list[PlannedRun]] = {}
    for run in runs:
        key = shape_key(run.config)
        if key is not None:
            shapes.setdefault(key, []).append(run)
    keys = {run.run_id: key for key, members in shapes.items() for run in members}
    found = {key: _measurement(store, key, kind) for key in shapes}
    any_measured = any(isinstance(one, Measurement) for one in found.values())
    before = store.read_manifest(name) if any_measured else None
    begun = frozenset[str]() if before is None else _begun(store, keys, before)
    workers = len(find_devices(kind)) if any_measured else 1
    by_shape: dict[str, list[Segment]] = {key: [] for key in shapes}
    for item in segments:
        by_shape[keys[item.run_id]].append(item)
    profiles = []
    for key, members in shapes.items():
        left = by_shape[key]
        load = Load(
            num_runs=sum(not item.is_prefix for item in left),
            num_steps=sum(item.end_step - item.start_step for item in left),
            workers=workers,
        )
        entry, values, why, not_taken = found[key], dict[str, Any](), tuple[str, ...](), tuple[str, ...]()
        if isinstance(entry, str):
            why = (entry,)
        elif entry is not None and not forced.profile:
            why = ("execution.profile is off: what was measured is not used",)
        elif key in begun and before is not None:
            values = dict(before.profile.get(key, {}))
            why = ("as its runs began",)
        elif entry is not None:
            values, why, not_taken = choose(entry, forced, load)
        config = members[0].config
        assert isinstance(config, RunConfig)
        excess = memory_excess(config, forced.completed(values), gpu_bytes)
        if excess is not None:
            values, why = values | {"recompute": True}, (*why, excess)
        profiles.append(
            ShapeProfile(
                key=key,
                shape=shape_in_words(config),
                num_runs=len(members),
                measured=isinstance(entry, Measurement),
                values=values,
                execution=forced.completed(values).in_words(),
                why=why,
                not_taken=not_taken,
                stacked=_medians(entry, "stacked"),
                problem=entry if isinstance(entry, str) else None,
            )
        )
    return tuple(profiles)


def _measurement(store: RunStore, key: str, kind: DeviceKind) -> Measurement | str | None:
    """What was measured of a shape; the sentence that says why a file of it cannot be believed; or None."""
    try:
        return read_measurement(store, key, kind)
    except UserError as error:
        return str(error)


def _begun(store: RunStore, keys: Mapping[str, str], before: Manifest) -> frozenset[str]:
    """Shapes of which a run, or a shared prefix, was published or claimed before."""
    claimed = store.claims.states()
    begun = {key for run_id, key in keys.items() if run_id in claimed or store.is_published(run_id)}
    begun |= {keys[item.run_id] for item in before.segments if item.segment_id in claimed and item.run_id in keys}
    return frozenset(begun)


def memory_excess(config: RunConfig, choices: ExecutionChoices, gpu_bytes: int | None) -> str | None:
    """Say why the layers of a run are computed again in the backward pass: what it holds otherwise does not fit.

    Parameters
    ----------
    config : RunConfig
        The run.
    choices : ExecutionChoices
        How it is executed, as far as that is decided.
    gpu_bytes : int or None
        Memory of the GPU; None: not known, or no GPU.

    Returns
    -------
    str or None
        The reason; None where it fits, by the estimate, where nothing would be saved, or where the field is decided.
    """
    if gpu_bytes is None or choices.recompute is not None or not choices.profile:
        return None
    whole = training_memory_bytes(config, choices)
    if whole <= USABLE_MEMORY * gpu_bytes:
        return None
    less = training_memory_bytes(config, replace(choices, recompute=True))
    if less >= whole:  # of one layer nothing is saved
        return None
    return (
        f"recompute: training holds about {format_bytes(whole)}, and {format_bytes(less)} with it; the GPU has "
        f"{format_bytes(gpu_bytes)}"
    )


def choose(
    entry: Measurement, forced: ExecutionChoices, load: Load
) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Choose the execution of a shape from its measured times.

    Parameters
    ----------
    entry : Measurement
        What was measured.
    forced : ExecutionChoices
        What the user decided, which is not looked at.
    load : Load
        What is left to train.

    Returns
    -------
    values : dict of str to object
        Fields of the execution that differ from the defaults.
    why : tuple of str
        A reason for each of them.
    not_taken : tuple of str
        A reason for each other field that was looked at.
    """
    values: dict[str, Any] = {}
    why, not_taken = list[str](), list[str]()
    for name in ("attention", "stacked", "micro_batch", "threads", "compile"):
        if getattr(forced, name) is not None:
            continue
        best = _best(entry.ratios.get(name, {}))
        if best is None:
            if name in entry.skipped:
                not_taken.append(f"{name}: not measured, {entry.skipped[name]}")
            continue
        value, ratio = best
        refusal = _refusal(name, value, ratio, entry, load, values)
        told = f"{name} {value}: {ratio.median:.2f} times as fast ({ratio.lo:.2f} to {ratio.hi:.2f})"
        if refusal is None:
            values[name] = _typed(name, value)
            why.append(told)
        else:
            not_taken.append(f"{told}: {refusal}")
    bf16 = _best(entry.ratios.get("precision", {}))
    if bf16 is not None:
        not_taken.append(
            f"precision {bf16[0]}: {bf16[1].median:.2f} times as fast, never chosen here, since it makes other runs"
        )
    return values, tuple(why), tuple(not_taken)


def _medians(entry: Measurement | str | None, name: str) -> dict[int, float]:
    """How many times faster a step was by each number of a field."""
    ratios = entry.ratios.get(name, {}) if isinstance(entry, Measurement) else {}
    return {int(value): ratio.median for value, ratio in ratios.items()}


def _best(ratios: Mapping[str, Ratio]) -> tuple[str, Ratio] | None:
    return max(ratios.items(), key=lambda item: item[1].median) if ratios else None


def _typed(name: str, value: str) -> Any:
    return value if name == "attention" else True if name == "compile" else int(value)


def _refusal(
    name: str, value: str, ratio: Ratio, entry: Measurement, load: Load, chosen: Mapping[str, Any]
) -> str | None:
    """Why the fastest value of a field is not taken; None where it is."""
    if ratio.median < MIN_GAIN or ratio.lo <= 1:
        return f"less than {MIN_GAIN:g} times, or not clear"
    if name == "stacked" and load.num_runs < 2:
        return "one run is left"
    if name in ("micro_batch", "compile") and "stacked" in chosen:
        return "with stacked runs it was not measured"
    if name == "threads" and load.num_runs * int(value) > load.workers:
        return f"{load.num_runs} runs are left for {load.workers} cores"
    if name == "compile":
        saved = load.num_steps * entry.step_seconds * (1 - 1 / ratio.median)
        cost = load.workers * (entry.compile_seconds or 0.0)
        if saved <= cost:
            return f"it saves {saved:.0f} s of what is left and costs {cost:.0f} s"
    return None
