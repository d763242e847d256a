"""Which segment a worker takes next: the most urgent one whose prefix is trained and that nobody else has.

Judged from one listing of the claims, which may be a second old: a claim is an exclusive create and is never removed,
so that a stale view costs a failed attempt and nothing else. It must not know how segments are trained.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config.prefixes import prefix_segment_id
from experiments.machine.liveness import HeartbeatWatch
from experiments.machine.memory import memory_group
from experiments.manifests import Segment
from experiments.records import RunStatus
from experiments.store.checkpoints import available_steps, checkpoint_path, has_own, start_of
from experiments.store.claims import RunState
from experiments.store.store import RunStore

LISTING_SECONDS = 1.0
"""Age up to which a listing is used again."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A segment that this worker owns now."""

    segment: Segment
    """What to train."""
    attempt: int
    """Number of this execution."""
    start: Path | None
    """The checkpoint of the shared prefix to start from; None: from nothing."""
    num_ooms: int
    """Attempts that ended because memory did not suffice."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Retries."""

    max_failures: int
    """Errors after which nothing more is tried."""
    max_losses: int
    """Vanished workers after which nothing more is tried."""


@dataclass
class SegmentQueue:
    """The segments of a sweep as one worker sees them."""

    store: RunStore
    """Where claims and checkpoints are."""
    segments: Sequence[Segment]
    """In the order in which they are to be taken."""
    limits: Limits
    """Retries."""
    watch: HeartbeatWatch
    """Judges workers of other machines."""
    owner: Mapping[str, Any]
    """What identifies this worker."""
    on_exhausted: Callable[[str, RunState], None]
    """Called with a run whose retries are used up."""
    fits: Callable[[Segment], bool] = lambda segment: True
    """Whether this worker's device holds a segment now."""
    clock: Callable[[], float] = time.monotonic
    """Seconds."""
    _states: dict[str, RunState] = field(default_factory=dict, init=False)
    _listed: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._pending = list(self.segments)
        self._ends: dict[str, list[int]] = {}
        self._followers: dict[str, list[Segment]] = {}
        for item in self.segments:
            if item.is_prefix:
                self._ends.setdefault(str(item.prefix), []).append(item.end_step)
            if item.after is not None:
                self._followers.setdefault(item.after, []).append(item)

    def take(self) -> tuple[Claimed | None, bool]:
        """Claim the first free segment: (it or None, whether there is something to wait for)."""
        if self._listed is not None and self.clock() - self._listed < LISTING_SECONDS:
            claimed, _ = self._scan(fresh=False)
            if claimed is not None:
                return claimed, True
        self._states = self.store.claims.states()
        self._listed = self.clock()
        return self._scan(fresh=True)

    def take_alike(self, claimed: Claimed, num_workers: int) -> list[Claimed]:
        """Claim runs that may be trained together with one that was claimed, and leave other workers their part.

        Parameters
        ----------
        claimed : Claimed
            A run that was just taken.
        num_workers : int
            Workers that share the sweep.

        Returns
        -------
        list of Claimed
            None for a run that has failed before, or run out of memory: it is tried alone. All go on from checkpoints
            of their own, or none does, so that they end at about the same time.
        """
        first = claimed.segment
        if first.stack is None or self._has_failed(first):
            return []
        left = sum(item.seconds or 1.0 for item in self._pending if not self._state_of(item).published)
        fair = math.ceil(left / num_workers / (first.seconds or 1.0))
        taken: list[Claimed] = []
        for item in self._pending:
            if len(taken) + 1 >= min(first.stack_members, fair):
                break
            alike = item.stack == first.stack and item.segment_id != first.segment_id
            found = self._consider(item, fresh=True) if alike and self._may_join(item, first) else None
            if isinstance(found, Claimed):
                taken.append(found)
        return taken

    def _may_join(self, item: Segment, first: Segment) -> bool:
        """Whether a run has not failed, and begins where the first of a stack does."""
        if self._has_failed(item):
            return False
        return self._start(item)[1] is None and has_own(self.store, item.run_id) == has_own(self.store, first.run_id)

    def _state_of(self, item: Segment) -> RunState:
        return self._states.get(item.segment_id, RunState())

    def _has_failed(self, item: Segment) -> bool:
        endings = self._state_of(item).endings
        return RunStatus.FAILED in endings or RunStatus.OOM in endings

    def _scan(self, *, fresh: bool) -> tuple[Claimed | None, bool]:
        waiting = False
        left: list[Segment] = []
        for place, item in enumerate(self._pending):
            verdict = self._consider(item, fresh=fresh)
            if isinstance(verdict, Claimed):
                self._pending = left + self._pending[place:]
                return verdict, True
            if verdict is not None:  # not settled: look at it again
                left.append(item)
                waiting = True
        if fresh:
            self._pending = left
        return None, waiting

    def _consider(self, item: Segment, *, fresh: bool) -> Claimed | str | None:
        """A claim; or why the segment has to wait; or None when nothing is to be done for it any more."""
        state = self._state_of(item)
        if item.is_prefix:
            # Existence is asked before need: a checkpoint is dropped once nothing needs it, so that one that is missing
            # and still needed was never trained, or was removed too early.
            trained = checkpoint_path(self.store, str(item.prefix), item.end_step).exists()
            if self._is_over(item):
                return None
            if trained:
                return "is trained"  # looked at again, lest its checkpoint be removed before all have left it
        elif state.published and self.store.is_published(item.run_id):
            return None  # a record that is gone or damaged is believed over the claim: the run is trained again
        if state.running and not (fresh and self.store.claims.judge(item.segment_id, state, self.watch)):
            return "is being trained"
        if self._exhausted(state):
            if not item.is_prefix:
                self.on_exhausted(item.run_id, state)
            return None
        if item.prefix is None and item.after is not None:
            body = self.store.find_record(item.after)
            if body is None:
                return f"waits for {item.after}"
            if body.status is not RunStatus.DONE:
                return None  # it will never be tuned; the next plan says so
        start, reason = self._start(item)
        if reason is not None or not self.fits(item):
            return reason or "does not fit now"
        attempt = state.attempts + 1
        if self.store.claims.exists(item.segment_id, attempt):
            return "was claimed meanwhile"
        if not self.store.claims.take(item.segment_id, attempt, {**self.owner, **memory_group()}):
            return "was claimed meanwhile"
        return Claimed(segment=item, attempt=attempt, start=start, num_ooms=state.endings.count(RunStatus.OOM))

    def _is_over(self, item: Segment) -> bool:
        """Whether a segment of a prefix will never be trained, or nothing needs it any more."""
        return self._broken(str(item.prefix), item.end_step) or not self._needed(item)

    def _needed(self, item: Segment) -> bool:
        """Whether something would have to start before the end of a segment, were its checkpoint not there.

        Asked of the files now, not of the claims when they were listed.
        """
        steps = [step for step in available_steps(self.store, str(item.prefix)) if step != item.end_step]
        for follower in self._followers.get(item.segment_id, ()):
            if follower.is_prefix:
                if follower.end_step not in steps and self._needed(follower):
                    return True
            elif not has_own(self.store, follower.run_id):
                start = start_of(self.store, follower.run_id, branch_of(follower), steps)
                if start is not None and start < item.end_step:
                    return True
        return False

    def _start(self, item: Segment) -> tuple[Path | None, str | None]:
        """(checkpoint to start from, what it waits for); a run whose prefix is broken starts from nothing."""
        if item.prefix is None or item.start_step == 0:
            return None, None
        path = checkpoint_path(self.store, item.prefix, item.start_step)
        if path.exists():
            return path, None
        if not item.is_prefix:
            left = [step for step in available_steps(self.store, item.prefix) if step > item.start_step]
            start = start_of(self.store, item.run_id, branch_of(item), left)
            if start:  # the checkpoint that it left on its way, in an earlier attempt
                return checkpoint_path(self.store, item.prefix, start), None
            if has_own(self.store, item.run_id):
                return None, None
        if item.after is None:
            return None, None  # a checkpoint that was there when the plan was made is gone
        if self._broken(item.prefix, item.start_step):
            return None, None
        return None, f"waits for {item.after}"

    def _broken(self, prefix: str, step: int) -> bool:
        """Whether a segment will never be trained: it, or one before it, diverged or has used up its retries."""
        states = (
            self._states.get(prefix_segment_id(prefix, end), RunState())
            for end in self._ends.get(prefix, ())
            if end <= step and not checkpoint_path(self.store, prefix, end).exists()
        )
        return any(
            RunStatus.DIVERGED in state.endings or (self._exhausted(state) and not state.running) for state in states
        )

    def _exhausted(self, state: RunState) -> bool:
        return state.exhausted(max_failures=self.limits.max_failures, max_losses=self.limits.max_losses)


def branch_of(run: Segment) -> int:
    """Steps after which a run leaves its prefix, as far as its segment says."""
    return run.start_step if run.keep_step is None else run.keep_step
