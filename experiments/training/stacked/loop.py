"""Runs that train together as one stack: the steps of all by one pass, everything else by each run's own state.

Owns the loop over a stack, and how a member leaves it. A member that has ended keeps its place in the products until
the stack ends, so that the sums of the others are the same to the last bit. It must not know claims or records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from experiments.distributed.ranks import Share
from experiments.training.job import TrainedRun, finish_run
from experiments.training.state import (
    Diverged,
    Interrupted,
    Superseded,
    Target,
    TrainSetup,
    TrainState,
    leave_prefix,
    make_state,
    run_target,
    save_state,
)
from experiments.training.step import finish_step, next_batch
from models.stack import Stack

Report = Callable[[int, TrainedRun | Exception], None]
"""Takes a member's number with what became of it: trained, or Diverged, Interrupted or Superseded."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run of a stack."""

    setup: TrainSetup
    """What to train with; all members have one shape, batch, device and precision."""
    keep: tuple[int, Path] | None = None
    """Step and path of a shared prefix's checkpoint to leave behind on the way."""


@dataclass(kw_only=True)
class _Running:
    """A member in training."""

    number: int
    setup: TrainSetup
    target: Target
    state: TrainState
    share: Share
    tokens: torch.Tensor
    """Of the last step; a member that has ended keeps them."""
    ended: bool = False


def train_stack(members: Sequence[Member], report: Report) -> None:
    """Train runs together, each to its budget, and evaluate each.

    Each goes on from its own newest checkpoint, writes its own rows and checkpoints, and counts an equal share of the
    stack's time as its own.

    Parameters
    ----------
    members : sequence of Member
        The runs.
    report : callable
        Told of every member as soon as it has ended, once.

    Raises
    ------
    Exception
        What concerns the stack as a whole, such as MemoryError; then members that were not reported have no result.
    """
    loop = _Loop(_begin(members, report), report)
    if loop.running:
        loop.run()


def _begin(members: Sequence[Member], report: Report) -> list[_Running]:
    """Bring every member to its newest checkpoint; one whose shared prefix says that it diverges is reported."""
    running = []
    for number, member in enumerate(members):
        setup = replace(member.setup, clock=partial(_shared_clock, len(members)))
        target = run_target(setup.config, setup.folder, member.keep)
        try:
            state = make_state(setup, target)
        except Diverged as error:
            report(number, error)
            continue
        share = setup.ranks.share(setup.config.batch_sequences, None)
        tokens = next_batch(setup, state, share)
        running.append(_Running(number=number, setup=setup, target=target, state=state, share=share, tokens=tokens))
    return running


def _shared_clock(num_members: int) -> float:
    """Seconds of which each member of a stack gets its share."""
    return time.monotonic() / num_members


class _Loop:
    """The steps of a stack."""

    def __init__(self, running: list[_Running], report: Report) -> None:
        self.running, self._report = running, report
        self._saved_at = time.monotonic()

    @property
    def live(self) -> list[_Running]:
        """Members that have not ended."""
        return [member for member in self.running if not member.ended]

    def run(self) -> None:
        """Take steps until all members have ended."""
        first = self.running[0].setup
        models = [member.state.lit.model for member in self.running]
        stack = Stack(models, first.config.objective, backend="inductor" if first.choices.compile else None)
        for member in self.running:
            member.state.recorder.resume_clock()
        while True:
            self._pass_marks()
            if not self.live or self._pause():
                return
            self._step(stack)

    def _step(self, stack: Stack) -> None:
        fabric = self.running[0].setup.fabric
        for member in self.live:
            member.tokens = next_batch(member.setup, member.state, member.share)
        batches, steps = [member.tokens for member in self.running], [member.state.step for member in self.running]
        with fabric.autocast():
            losses = stack.losses(batches, steps)
        fabric.backward(losses.sum())
        stack.hand_out_gradients()
        for loss, member in zip(losses.detach().unbind(), self.running, strict=True):
            if member.ended:
                continue
            try:
                finish_step(member.setup, member.state, loss)
            except Diverged as error:
                self._end(member, error)

    def _pass_marks(self) -> None:
        """Leave the checkpoints of shared prefixes that are due, and evaluate members after their last step."""
        for member in self.live:
            target, state = member.target, member.state
            leaves = target.keep is not None and state.step == target.keep[0] and state.pending.history is not None
            ends = state.step >= target.end_step
            if not leaves and not ends:
                continue
            self._stop_clocks()
            if leaves:
                leave_prefix(member.setup, target, state)
            if ends:
                self._end(member, finish_run(member.setup, state))
            self._resume_clocks()

    def _pause(self) -> bool:
        """Save every member where that is due or asked for; whether the training is to end."""
        stop = False
        for member in self.live:
            try:
                stop = member.setup.should_stop() or stop
            except Superseded as error:
                self._end(member, error)
        due = time.monotonic() - self._saved_at > self.running[0].setup.checkpoint_seconds
        if stop or due:
            self._stop_clocks()
            for member in self.live:
                save_state(member.setup, member.target, member.state)
            self._resume_clocks()
            self._saved_at = time.monotonic()
        for member in self.live if stop else ():
            step, end = member.state.step, member.target.end_step
            self._end(member, Interrupted(f"stopped after {step} of {end} steps; a checkpoint holds them"))
        return not self.live

    def _stop_clocks(self) -> None:
        for member in self.live:
            member.state.pending.fetch(member.state.step)

    def _resume_clocks(self) -> None:
        for member in self.live:
            member.state.recorder.resume_clock()

    def _end(self, member: _Running, result: TrainedRun | Exception) -> None:
        member.ended = True
        self._report(member.number, result)
