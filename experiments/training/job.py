"""The training loop: a run to its budget, or a shared prefix to one of its steps, over a `TrainState`.

Owns the steps and the order of saving, stopping and recording. It must not know claims, sweeps or other workers: it is
asked to stop and where its files are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.config.prefixes import SHAREABLE
from experiments.data.corpus import clustered_mean
from experiments.training.state import (
    Interrupted,
    Target,
    TrainSetup,
    TrainState,
    leave_prefix,
    make_state,
    prefix_target,
    run_target,
    save_state,
)
from experiments.training.step import take_step
from experiments.training.validation import evaluate
from models.lit import LitTransformer


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished run measured."""

    loss: float
    """Validation loss, nats per token."""
    loss_se: float | None
    """Its standard error, clustered by document; None with a single document."""
    val_sums: list[float]
    """Summed nats per validation document."""
    val_counts: list[int]
    """Tokens per validation document."""
    train_loss: float
    """Mean training loss of the last window, nats per token."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of training and of validation."""
    rates: dict[str, Any] = field(default_factory=dict)
    """tokens_per_second, mfu, memory_bytes."""


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run after its last step."""

    outcome: Outcome
    """What it measured."""
    lit: LitTransformer
    """The trained module."""
    shared_steps: int
    """Steps that were taken from the checkpoint of a shared prefix."""


def train_run(setup: TrainSetup, keep: tuple[int, Path] | None = None) -> TrainedRun:
    """Train a run to its budget and evaluate it.

    Parameters
    ----------
    setup : TrainSetup
        What to train with.
    keep : (int, Path), optional
        Step and path of a shared prefix's checkpoint to leave behind on the way.

    Returns
    -------
    TrainedRun
        The outcome and the module.

    Raises
    ------
    Interrupted, Diverged
        After a checkpoint, or after the last row, was written.
    """
    target = run_target(setup.config, setup.folder, keep)
    state = make_state(setup, target)
    _train(setup, target, state)
    return finish_run(setup, state)


def finish_run(setup: TrainSetup, state: TrainState) -> TrainedRun:
    """Evaluate a run after its last step.

    Parameters
    ----------
    setup : TrainSetup
        What it was trained with.
    state : TrainState
        As it is now.

    Returns
    -------
    TrainedRun
        The outcome and the module.
    """
    recorder, began = state.recorder, time.monotonic()
    state.lit.eval()
    sums, counts = evaluate(state.lit, setup.config, setup.corpus, setup.fabric, setup.ranks)
    seconds = time.monotonic() - began
    loss, loss_se = clustered_mean(sums, counts)
    rate = setup.config.tokens / recorder.trained_seconds if recorder.trained_seconds else None
    outcome = Outcome(
        loss=loss,
        loss_se=loss_se,
        val_sums=sums.tolist(),
        val_counts=counts.tolist(),
        train_loss=state.train_loss,
        seconds={"train_seconds": recorder.trained_seconds, "validation_seconds": seconds},
        rates={"tokens_per_second": rate, "mfu": recorder.utilisation(rate)},
    )
    return TrainedRun(outcome=outcome, lit=state.lit, shared_steps=state.shared_steps)


def train_prefix(setup: TrainSetup, keep: tuple[int, Path]) -> None:
    """Train a shared prefix to one of its steps and leave its checkpoint there.

    Parameters
    ----------
    setup : TrainSetup
        What to train with; its config is that of one of the runs that share the prefix.
    keep : (int, Path)
        The step, and the checkpoint's path.

    Raises
    ------
    Interrupted, Diverged
        After a checkpoint, or after the last row, was written.
    ValueError
        When the schedule depends on the budget, so that nothing is shared.
    """
    if setup.config.schedule.name not in SHAREABLE:
        raise ValueError(f"the schedule {setup.config.schedule.name} depends on the budget, so no prefix is shared")
    target = prefix_target(setup.config, setup.folder, keep)
    _train(setup, target, make_state(setup, target))


def _train(setup: TrainSetup, target: Target, state: TrainState) -> None:
    """Take steps until the target's last one."""
    agreement = setup.ranks.agreement(state.step) if setup.ranks.many else None
    share = setup.ranks.share(setup.config.batch_sequences, setup.micro_batch)
    saved_at = state.recorder.clock()
    while True:
        if target.keep is not None and state.step == target.keep[0]:
            leave_prefix(setup, target, state)
        if state.step >= target.end_step:
            return
        stop, save = setup.should_stop(), state.recorder.clock() - saved_at > setup.checkpoint_seconds
        if agreement is not None:
            stop, save = agreement.ask(state.step, stop, save)
        if stop or save:
            save_state(setup, target, state)
        if stop:
            raise Interrupted(f"stopped after {state.step} of {target.end_step} steps; a checkpoint holds them")
        if save:
            state.recorder.resume_clock()
            saved_at = state.recorder.clock()
        take_step(setup, state, share)
