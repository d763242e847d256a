"""Shared prefixes as a tree: runs -> segments that train every prefix once, in the order that keeps nobody waiting.

Runs that share a prefix form a tree: the parts of the prefix follow each other, and each run branches off at its own
step. Owns which segments there are, what each waits for, their order, and what sharing saves. Pure and torch-free:
what is done and which checkpoints exist is handed in. It must not know stores or workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.config.designs import PlannedRun
from experiments.config.kinds import AnyRun, prefix_id
from experiments.config.prefixes import SHAREABLE, branch_step, is_shareable, prefix_key, prefix_segment_id
from experiments.config.run import RunConfig
from experiments.manifests import Segment
from experiments.planning.profile.choice import ShapeProfile
from experiments.planning.stacks import StackPlan


@dataclass(frozen=True, kw_only=True)
class CompiledSweep:
    """What is left to train, and what sharing saves."""

    segments: tuple[Segment, ...]
    """In the order in which workers take them: the longest way to the end first."""
    prefixes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Shared prefix -> {run_id: branch step} of every run of the sweep that belongs to one, trained or not."""
    flops_alone: float = 0.0
    """FLOPs of the missing runs, each trained alone."""
    flops: float = 0.0
    """FLOPs of the segments."""
    critical_seconds: float = 0.0
    """Longest chain of segments: no number of workers is faster."""
    checkpoint_bytes: int = 0
    """Bytes of the prefixes' last checkpoints, which stay for longer budgets."""
    checkpoint_bytes_during: int = 0
    """Bytes of the prefixes' checkpoints if all of them were there at once."""
    why_not: tuple[str, ...] = ()
    """Why runs that look alike share nothing."""
    stacks: StackPlan | None = None
    """Which runs may be trained together; None where that is switched off."""
    profile: tuple[ShapeProfile, ...] = ()
    """How the runs of each shape are executed, and why; empty where it was decided before."""
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Shape -> what measured times decided of its execution."""

    @property
    def saved_fraction(self) -> float:
        """Share of the FLOPs that sharing saves."""
        return 1.0 - self.flops / self.flops_alone if self.flops_alone else 0.0


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What the tree asks of a run's config."""

    seconds: Callable[[AnyRun], float]
    """Time of the whole run on one worker."""
    flops: Callable[[AnyRun], float]
    """Counted training FLOPs of the whole run."""
    memory_bytes: Callable[[AnyRun], int]
    """Bytes held on the device."""
    checkpoint_bytes: Callable[[AnyRun], int]
    """Bytes of a checkpoint with the optimiser's state."""


def compile_runs(
    runs: Sequence[PlannedRun],
    estimates: Estimates,
    *,
    done: Collection[str] = (),
    available: Mapping[str, Collection[int]] | None = None,
    share: bool = True,
    keep_last: bool = True,
) -> CompiledSweep:
    """Arrange runs as a forest of segments.

    Parameters
    ----------
    runs : sequence of PlannedRun
        The sweep.
    estimates : Estimates
        Cost of a run by its config.
    done : collection of str
        Ids of runs that have a record; they are left out.
    available : mapping of str to collection of int, optional
        Shared prefix -> steps at which a checkpoint exists already.
    share : bool
        False: every run is trained alone.
    keep_last : bool
        Whether the run that leaves a prefix last leaves a checkpoint behind there, which a longer budget extends.

    Returns
    -------
    CompiledSweep
        A segment begins at the nearest checkpoint before it, one that exists or one that another segment makes.
    """
    available = available or {}
    trees = _trees(runs) if share else []
    segments: list[Segment] = []
    kept = during = 0
    for tree in trees:
        missing = [run for run in tree.runs if run.run_id not in done]
        if not missing:
            continue
        chain = _Chain(tree.prefix, missing, available.get(tree.prefix, ()), estimates).segments(keep_last)
        segments += chain
        size = estimates.checkpoint_bytes(missing[0].config)
        kept += size if keep_last or any(item.is_prefix for item in chain) else 0
        during += size * sum(item.is_prefix or item.keep_step is not None for item in chain)
    shared = {run.run_id for tree in trees for run in tree.runs}
    segments += [_alone(run, estimates) for run in runs if run.run_id not in shared and run.run_id not in done]
    urgent = _with_urgency(segments)
    return CompiledSweep(
        segments=tuple(sorted(urgent, key=lambda item: (-item.path_seconds, -item.seconds, item.segment_id))),
        prefixes={tree.prefix: {run.run_id: branch_step(run.config) for run in tree.runs} for tree in trees},
        flops_alone=sum(estimates.flops(run.config) for run in runs if run.run_id not in done),
        flops=sum(item.flops for item in segments),
        critical_seconds=max((item.path_seconds for item in urgent), default=0.0),
        checkpoint_bytes=kept,
        checkpoint_bytes_during=during,
        why_not=_why_not(runs) if share else ("sharing is switched off",),
    )


@dataclass(frozen=True)
class _Tree:
    """Runs that share a prefix."""

    prefix: str
    runs: list[PlannedRun]


def _trees(runs: Sequence[PlannedRun]) -> list[_Tree]:
    """Runs by shared prefix."""
    groups: dict[tuple[Any, ...], list[PlannedRun]] = {}
    data_keys = _DataKeys()
    for run in runs:
        if is_shareable(run.config):
            groups.setdefault(prefix_key(run.config, data_keys(run.config)), []).append(run)
    return [_Tree(str(prefix_id(members[0].config)), members) for members in groups.values()]


class _DataKeys:
    """A short key for each run's data; runs of one sweep mostly hold the same object."""

    def __init__(self) -> None:
        self._by_object: dict[int, str] = {}

    def __call__(self, config: RunConfig) -> str:
        name = id(config.data)
        if name not in self._by_object:
            self._by_object[name] = repr(sorted(config.data.identity().items()))
        return self._by_object[name]


class _Chain:
    """The segments of one prefix and of the runs that branch off from it.

    The run that leaves last trains the last part of the prefix itself, so that it needs no segment of its own.
    """

    def __init__(
        self, prefix: str, missing: Sequence[PlannedRun], available: Collection[int], estimates: Estimates
    ) -> None:
        self._prefix = prefix
        self._runs = sorted(missing, key=lambda run: (branch_step(run.config), run.config.tokens, run.run_id))
        self._made_by: dict[int, str | None] = dict.fromkeys(sorted(available))
        """Step of a checkpoint -> the segment that makes it; None: it is there."""
        longest = self._runs[-1].config
        self._seconds_per_step = estimates.seconds(longest) / longest.num_steps
        self._flops_per_step = estimates.flops(longest) / longest.num_steps
        self._memory_bytes = estimates.memory_bytes(longest)

    def segments(self, keep_last: bool) -> list[Segment]:
        """All of them, each after the one that it waits for."""
        longest, chain = self._runs[-1], []
        for step in sorted({branch_step(run.config) for run in self._runs[:-1]}):
            if step not in self._made_by:
                name = prefix_segment_id(self._prefix, step)
                chain.append(self._segment(name, longest.run_id, branch=step, end=step))
                self._made_by[step] = name
        last_step = branch_step(longest.config)
        keep = last_step if keep_last and last_step not in self._made_by else None
        for run in self._runs:
            item = self._segment(run.run_id, run.run_id, branch=branch_step(run.config), end=run.config.num_steps)
            chain.append(replace(item, keep_step=keep) if run is longest else item)
        return chain

    def _segment(self, name: str, run_id: str, *, branch: int, end: int) -> Segment:
        """A segment that ends at step `end`, from the nearest checkpoint at or before step `branch`."""
        start = max((step for step in self._made_by if step <= branch), default=0)
        return Segment(
            segment_id=name,
            run_id=run_id,
            prefix=self._prefix,
            start_step=start,
            end_step=end,
            after=self._made_by.get(start),
            seconds=(end - start) * self._seconds_per_step,
            flops=(end - start) * self._flops_per_step,
            memory_bytes=self._memory_bytes,
        )


def _alone(run: PlannedRun, estimates: Estimates) -> Segment:
    """A run that shares nothing."""
    seconds = estimates.seconds(run.config)
    return Segment(
        segment_id=run.run_id,
        run_id=run.run_id,
        end_step=run.config.num_steps,
        seconds=seconds,
        flops=estimates.flops(run.config),
        memory_bytes=estimates.memory_bytes(run.config),
    )


def _with_urgency(segments: Sequence[Segment]) -> list[Segment]:
    """Segments with the length of the longest way from their beginning to an end."""
    waiting: dict[str, float] = {}
    result = []
    for item in reversed(segments):  # what waits for a segment comes after it in the list
        path = item.seconds + waiting.get(item.segment_id, 0.0)
        if item.after is not None:
            waiting[item.after] = max(waiting.get(item.after, 0.0), path)
        result.append(replace(item, path_seconds=path))
    return result[::-1]


_FIELDS: tuple[tuple[str, Callable[[RunConfig], Any]], ...] = (
    ("learning rate", lambda config: config.optimizer.learning_rate),
    ("batch", lambda config: config.batch_tokens),
    ("warm-up", lambda config: config.schedule.warmup_tokens),
    ("weight decay", lambda config: config.optimizer.weight_decay),
    ("optimiser", lambda config: config.optimizer),
)


def _why_not(runs: Sequence[PlannedRun]) -> tuple[str, ...]:
    """One sentence for each reason why runs of the same size and seed, but other budgets, share nothing."""
    data_keys = _DataKeys()
    alike: dict[tuple[Any, ...], list[RunConfig]] = {}
    for config in (run.config for run in runs if isinstance(run.config, RunConfig)):
        key = (config.model, data_keys(config), config.objective, config.seed, config.precision)
        alike.setdefault(key, []).append(config)
    several = [configs for configs in alike.values() if len({config.tokens for config in configs}) > 1]
    if alike and not several:
        return ("every size has one token budget",)
    return tuple(dict.fromkeys(reason for configs in several for reason in _reasons(configs)))


def _reasons(configs: Sequence[RunConfig]) -> Iterator[str]:
    """Why these runs, which differ in their budgets, share nothing."""
    for schedule in sorted({config.schedule.name for config in configs} - set(SHAREABLE)):
        yield f"schedule {schedule!r} depends on the budget from the end of warm-up on; wsd and constant do not"
    shareable = [config for config in configs if config.schedule.name in SHAREABLE]
    if any(not is_shareable(config) for config in shareable):
        yield "the decay begins within the warm-up"
    for name, value in _FIELDS:
        by_tokens: dict[int, set[Any]] = {}
        for config in shareable:
            by_tokens.setdefault(config.tokens, set()).add(value(config))
        if len(by_tokens) > 1 and not set.intersection(*by_tokens.values()):
            yield f"{name} differs by tokens"
            return
