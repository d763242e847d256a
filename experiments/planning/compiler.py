"""The compiler: a set of runs -> segments that train every shared prefix once, in the order that keeps nobody waiting.

A trunk's stretches follow each other; each run is a tail that leaves its trunk at its branch step. Owns which segments
there are, what each waits for, their order, and how they would be packed on devices. Pure and torch-free: what is done
and which checkpoints exist is handed in. It must not know stores or workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.config.designs import PlannedRun
from experiments.config.run import RunConfig
from experiments.config.trunks import SHAREABLE, branch_step, is_shareable, stretch_id, trunk_id, trunk_key


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One piece of work: a stretch of a trunk, or a run's way from its start to its record."""

    segment_id: str
    """The run's id, or a stretch's (`trunks.stretch_id`)."""
    run_id: str
    """The run that is trained; for a stretch one of those that share it, whose config says what to train."""
    trunk: str | None = None
    """The trunk that it belongs to."""
    start_step: int = 0
    """Steps of the trunk's checkpoint that it starts from; 0: it starts from nothing."""
    end_step: int
    """Steps at its end."""
    after: str | None = None
    """The stretch that has to be trained before."""
    keep_step: int | None = None
    """For a run: the step at which it leaves the trunk's checkpoint behind for later budgets."""
    seconds: float = 0.0
    """Estimated time on one worker."""
    flops: float = 0.0
    """Counted training FLOPs of these steps."""
    memory_bytes: int = 0
    """Estimated bytes held on its device."""
    path_seconds: float = 0.0
    """Estimated time from its beginning to the end of all that waits for it: its urgency."""

    @property
    def is_stretch(self) -> bool:
        """Whether this trains a trunk and not a run to its end."""
        return self.segment_id != self.run_id

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without what a worker does not need."""
        return {name: value for name, value in vars(self).items() if value not in (None, 0, 0.0)}


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """What is left to train, and what sharing saves."""

    segments: tuple[Segment, ...]
    """In the order in which workers take them: the longest way to the end first."""
    trunks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """trunk -> {run_id: branch step} of every run of the sweep that belongs to one, trained or not."""
    flops_alone: float = 0.0
    """FLOPs of the missing runs, each trained alone."""
    flops: float = 0.0
    """FLOPs of the segments."""
    critical_seconds: float = 0.0
    """Longest chain of segments: no number of workers is faster."""
    checkpoint_bytes: int = 0
    """Bytes of the trunks' last checkpoints, which stay for longer budgets."""
    checkpoint_bytes_during: int = 0
    """Bytes of trunk checkpoints if all of them were there at once."""
    why_not: tuple[str, ...] = ()
    """Why runs that look alike share nothing."""

    @property
    def saved_fraction(self) -> float:
        """Share of the FLOPs that sharing saves."""
        return 1.0 - self.flops / self.flops_alone if self.flops_alone else 0.0


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What the compiler asks of a run's config."""

    seconds: Callable[[RunConfig], float]
    """Time of the whole run on one worker."""
    flops: Callable[[RunConfig], float]
    """Counted training FLOPs of the whole run."""
    memory_bytes: Callable[[RunConfig], int]
    """Bytes held on the device."""
    checkpoint_bytes: Callable[[RunConfig], int]
    """Bytes of a checkpoint with the optimiser's state."""


def compile_runs(
    runs: Sequence[PlannedRun],
    estimates: Estimates,
    *,
    done: Collection[str] = (),
    available: Mapping[str, Collection[int]] | None = None,
    share: bool = True,
    keep_last: bool = True,
) -> ExecutionPlan:
    """Arrange runs as a forest of segments.

    Parameters
    ----------
    runs
        The sweep.
    estimates
        Cost of a run by its config.
    done
        Ids of runs that have a record; they are left out.
    available
        trunk -> steps at which a checkpoint exists already.
    share
        False: every run is trained alone.
    keep_last
        Whether the run that leaves a trunk last leaves a checkpoint behind there, which a longer budget extends.

    Returns
    -------
    ExecutionPlan
        A stretch begins at the nearest checkpoint before it, one that exists or one that another stretch makes.
    """
    available = available or {}
    groups = _groups(runs) if share else {}
    names = {key: trunk_id(members[0].config) for key, members in groups.items()}
    trunks = {
        str(names[key]): {run.run_id: branch_step(run.config) for run in members} for key, members in groups.items()
    }
    segments: list[Segment] = []
    kept = during = 0
    grouped: set[str] = set()
    for key, members in groups.items():
        grouped |= {run.run_id for run in members}
        missing = [run for run in members if run.run_id not in done]
        if not missing:
            continue
        trunk = str(names[key])
        chain = _chain(trunk, missing, sorted(available.get(trunk, ())), estimates, keep_last)
        segments += chain
        size = estimates.checkpoint_bytes(missing[0].config)
        kept += size if keep_last or any(item.is_stretch for item in chain) else 0
        during += size * sum(item.is_stretch or item.keep_step is not None for item in chain)
    alone = [run for run in runs if run.run_id not in grouped and run.run_id not in done]
    segments += [_alone(run, estimates) for run in alone]
    urgent = _with_urgency(segments)
    return ExecutionPlan(
        segments=tuple(sorted(urgent, key=lambda item: (-item.path_seconds, -item.seconds, item.segment_id))),
        trunks=trunks,
        flops_alone=sum(estimates.flops(run.config) for run in runs if run.run_id not in done),
        flops=sum(item.flops for item in segments),
        critical_seconds=max((item.path_seconds for item in urgent), default=0.0),
        checkpoint_bytes=kept,
        checkpoint_bytes_during=during,
        why_not=_why_not(runs) if share else ("sharing is switched off",),
    )


def _groups(runs: Sequence[PlannedRun]) -> dict[tuple[Any, ...], list[PlannedRun]]:
    """Runs by trunk."""
    groups: dict[tuple[Any, ...], list[PlannedRun]] = {}
    data_keys = _DataKeys()
    for run in runs:
        if is_shareable(run.config):
            groups.setdefault(trunk_key(run.config, data_keys(run.config)), []).append(run)
    return groups


class _DataKeys:
    """A short key for each run's data; runs of one sweep mostly hold the same object."""

    def __init__(self) -> None:
        self._by_object: dict[int, str] = {}

    def __call__(self, config: RunConfig) -> str:
        name = id(config.data)
        if name not in self._by_object:
            self._by_object[name] = repr(sorted(config.data.identity().items()))
        return self._by_object[name]


def _chain(
    trunk: str, missing: list[PlannedRun], available: list[int], estimates: Estimates, keep_last: bool
) -> list[Segment]:
    """The stretches and tails of one trunk; the run that leaves last needs no stretch of its own for its last part."""
    missing = sorted(missing, key=lambda run: (branch_step(run.config), run.config.tokens, run.run_id))
    longest = missing[-1]
    per_step = {
        "seconds": estimates.seconds(longest.config) / longest.config.num_steps,
        "flops": estimates.flops(longest.config) / longest.config.num_steps,
    }
    memory = estimates.memory_bytes(longest.config)
    there: dict[int, str | None] = dict.fromkeys(available)
    last_step = branch_step(longest.config)
    chain: list[Segment] = []

    def start_before(step: int) -> tuple[int, str | None]:
        start = max((known for known in there if known <= step), default=0)
        return start, there.get(start)

    def segment(name: str, run: PlannedRun, start: int, end: int, after: str | None, keep: int | None) -> Segment:
        return Segment(
            segment_id=name,
            run_id=run.run_id,
            trunk=trunk,
            start_step=start,
            end_step=end,
            after=after,
            keep_step=keep,
            seconds=(end - start) * per_step["seconds"],
            flops=(end - start) * per_step["flops"],
            memory_bytes=memory,
        )

    for step in sorted({branch_step(run.config) for run in missing[:-1]}):
        if step not in there:
            start, after = start_before(step)
            name = stretch_id(trunk, step)
            chain.append(segment(name, longest, start, step, after, None))
            there[step] = name
    for run in missing:
        start, after = start_before(branch_step(run.config))
        keep = last_step if run is longest and keep_last and last_step not in there else None
        chain.append(segment(run.run_id, run, start, run.config.num_steps, after, keep))
    return chain


def _alone(run: PlannedRun, estimates: Estimates) -> Segment:
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
    for run in runs:
        config = run.config
        alike.setdefault((config.model, data_keys(config), config.objective, config.seed, config.precision), []).append(
            config
        )
    reasons: dict[str, None] = {}
    several = False
    for configs in alike.values():
        if len({config.tokens for config in configs}) < 2:
            continue
        several = True
        for name in sorted({config.schedule.name for config in configs} - set(SHAREABLE)):
            reasons[f"schedule {name!r} depends on the budget from the end of warm-up on; wsd and constant do not"] = (
                None
            )
        shareable = [config for config in configs if config.schedule.name in SHAREABLE]
        if any(not is_shareable(config) for config in shareable):
            reasons["the decay begins within the warm-up"] = None
        for name, value in _FIELDS:
            by_tokens: dict[int, set[Any]] = {}
            for config in shareable:
                by_tokens.setdefault(config.tokens, set()).add(value(config))
            if len(by_tokens) > 1 and not set.intersection(*by_tokens.values()):
                reasons[f"{name} differs by tokens"] = None
                break
    if not several and runs:
        return ("every size has one token budget",)
    return tuple(reasons)
