"""Which runs of a sweep may be trained together as a stack, and why others are not. Pure and torch-free.

Runs of one model, corpus, objective, batch and number of steps: seed, order of data, optimiser and schedule are each
run's own. Steps that runs of several budgets share come first: they are trained once, and their runs are stacked from
where they leave them. It must not know stores or workers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from experiments.config.codec import remove_path
from experiments.config.kinds import AnyRun
from experiments.config.run import NOT_IDENTITY, RunConfig, canonical
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import DeviceKind
from experiments.manifests import Segment

MAX_MEMBERS = 8
"""Members of a stack under `auto` at most; 16 were hardly faster (benchmarks/sweep.json)."""
MAX_NUMBERS = 1 << 19
"""Tokens of a step x width of all members together under `auto`: beyond, what a layer writes leaves the cache."""


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """What `plan` says of stacks."""

    num_runs: int
    """Missing runs that may be trained together with others."""
    num_alike: int
    """Groups of runs that are alike."""
    most_members: int
    """Members of the largest stack."""
    why_not: tuple[str, ...] = ()
    """Why others are trained alone."""
    gains: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of each group, how many times faster 1, 2, 3, ... runs of it are together than one after another."""


def stack_segments(
    segments: Sequence[Segment],
    configs: Mapping[str, AnyRun],
    choices_of: Callable[[AnyRun], ExecutionChoices],
    kind: DeviceKind,
    gain_of: Callable[[RunConfig, int], float] = lambda config, members: 1.0,
) -> tuple[tuple[Segment, ...], StackPlan | None]:
    """Mark the segments whose runs may be trained together.

    Parameters
    ----------
    segments : sequence of Segment
        What is left to train.
    configs : mapping of str to config
        Run id -> its config.
    choices_of : callable
        How a run is executed.
    kind : str
        Kind of device, cpu or cuda.
    gain_of : callable
        How many times faster so many runs like one are together than one after another, estimated.

    Returns
    -------
    segments : tuple of Segment
        In the same order, marked.
    plan : StackPlan or None
        None where stacking is switched off.
    """
    wanted = {item.run_id: choices_of(configs[item.run_id]) for item in segments}
    if not any(choices.stacks for choices in wanted.values()):
        return tuple(segments), None
    marked, reasons = [], []
    for item in segments:
        config, choices = configs[item.run_id], wanted[item.run_id]
        if item.is_prefix or not choices.stacks:
            marked.append(item)
            continue
        reason = why_alone(config, choices, kind)
        if reason is not None or not isinstance(config, RunConfig):
            reasons.append(str(reason))
            marked.append(item)
        else:
            marked.append(replace(item, stack=stack_key(config), stack_members=most_members(config, choices)))
    counts = Counter(item.stack for item in marked if item.stack is not None)
    alike = {name for name, count in counts.items() if count > 1}
    if any(count == 1 for count in counts.values()):
        reasons.append("no other run has the same shape, batch and number of steps")
    result = tuple(item if item.stack in alike else replace(item, stack=None, stack_members=0) for item in marked)
    sizes = {item.run_id: min(counts[item.stack], item.stack_members) for item in result if item.stack is not None}
    gains: dict[str, tuple[float, ...]] = {}
    for item in result:
        config = configs[item.run_id]
        if item.stack is not None and item.stack not in gains and isinstance(config, RunConfig):
            gains[item.stack] = tuple(gain_of(config, number) for number in range(1, sizes[item.run_id] + 1))
    plan = StackPlan(
        num_runs=len(sizes),
        num_alike=len(alike),
        most_members=max(sizes.values(), default=0),
        why_not=tuple(dict.fromkeys(reasons)),
        gains=gains,
    )
    return result, plan


def most_members(config: RunConfig, choices: ExecutionChoices) -> int:
    """Say how many runs like one are trained together at most.

    Parameters
    ----------
    config : RunConfig
        One of them.
    choices : ExecutionChoices
        A number, or auto.
    """
    if isinstance(choices.stacked, int):
        return choices.stacked
    return min(MAX_MEMBERS, MAX_NUMBERS // (config.batch_tokens * config.model.width))


def why_alone(config: AnyRun, choices: ExecutionChoices, kind: DeviceKind) -> str | None:
    """Why a run is never trained together with others; None where it may be."""
    if not isinstance(config, RunConfig):
        return "fine-tuning runs are trained alone"
    if config.model.dropout:
        return "dropout draws the numbers of each run from one generator"
    if config.model.positions == "t5":
        return "t5 positions add a bias of each run to attention, where runs are not told apart"
    if choices.micro_batch is not None and choices.micro_batch < config.batch_sequences:
        return "execution.micro_batch cuts batches into pieces"
    if choices.stacked == "auto" and kind == "cuda":
        return "nothing was measured on a GPU; give execution.stacked a number to try"
    if most_members(config, choices) < 2:
        return "steps of that many tokens and that width are as fast alone"
    return None


def stack_key(config: RunConfig) -> str:
    """What runs of a stack have in common, as 12 hex digits."""
    raw = canonical(config) | {"data": config.data.identity()}
    for path in (*NOT_IDENTITY, "seed", "optimizer", "schedule"):
        remove_path(raw, path)
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:12]
