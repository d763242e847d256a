"""The training loop: a run to its budget, or a shared prefix to one of its steps, over a `TrainState`.

Owns the steps and the order of saving, stopping and recording. It must not know claims, sweeps or other workers: it is
asked to stop and where its files are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiments.config.prefixes import SHAREABLE
from experiments.distributed.ranks import Share
from experiments.distributed.sharding import clip_gradients_
from experiments.training.state import (
    Diverged,
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
from experiments.training.validation import clustered_mean, evaluate
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
    recorder = state.recorder
    began = recorder.clock()
    state.lit.eval()
    sums, counts = evaluate(state.lit, setup.config, setup.corpus, setup.fabric, setup.ranks)
    seconds = recorder.clock() - began
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


def take_step(setup: TrainSetup, state: TrainState, share: Share) -> None:
    """Take one step, and write the row of a window that ends with it.

    Parameters
    ----------
    setup : TrainSetup
        What it is trained with.
    state : TrainState
        Moved on by one step.
    share : Share
        This rank's part of the batch.

    Raises
    ------
    Diverged
        When the divergence guard says so.
    """
    config, lit, step = setup.config, state.lit, state.step
    first = step * config.batch_sequences + share.begin
    batch = setup.corpus.train_batch(first, share.count, seed=config.seed)
    tokens = torch.from_numpy(batch).to(setup.fabric.device)
    learning_rate = lit.set_learning_rate(state.optimizer, step * config.batch_tokens)
    loss = backward(setup, state, tokens, share)
    grad_norm = clip_gradients_(setup.ranks, lit)
    state.optimizer.step()  # not Fabric's wrapper: no gradients are scaled in fp32 and bf16
    state.optimizer.zero_grad(set_to_none=True)
    state.pending.add(loss, grad_norm)
    state.step = step + 1
    if not state.recorder.is_row(state.step):
        return
    state.pending.fetch(state.step)
    norm = None if grad_norm is None else float(grad_norm)
    row, verdict = state.recorder.row(step=state.step, learning_rate=learning_rate, grad_norm=norm)
    setup.write([row])
    if verdict is not None:
        raise Diverged(verdict)
    state.train_loss = row["train_loss"]


def backward(setup: TrainSetup, state: TrainState, tokens: torch.Tensor, share: Share) -> torch.Tensor:
    """Compute the gradients of one batch, piece by piece where it does not fit at once.

    Every sequence of an objective has as many predicted tokens as any other, so that a piece's share of the mean is its
    share of the sequences.

    Parameters
    ----------
    setup : TrainSetup
        What it is trained with.
    state : TrainState
        Whose gradients are added to.
    tokens : Tensor, shape (share.count, context + 1)
        This rank's sequences.
    share : Share
        The pieces and their weights.

    Returns
    -------
    Tensor, scalar
        The batch's mean loss in nats per token; of several ranks each has a part, whose mean it is.
    """
    total: torch.Tensor | None = None
    for number, (part, weight) in enumerate(share.pieces):
        with _exchange(setup, state.module, last=number == len(share.pieces) - 1):
            with setup.fabric.autocast():  # on a single device Fabric applies it to `forward` alone
                loss: torch.Tensor = state.module.training_step(tokens[part], state.step)
            if weight != 1:
                loss = loss * weight
            setup.fabric.backward(loss)
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    return total


def _exchange(setup: TrainSetup, module: Any, *, last: bool) -> AbstractContextManager[Any]:
    """Whether ranks exchange gradients after a piece: under ddp after the last one; shards after each, since whole
    gradients would take the memory that pieces save."""
    if last or setup.ranks.strategy != "ddp":
        return nullcontext()
    no_exchange: AbstractContextManager[Any] = setup.fabric.no_backward_sync(module)
    return no_exchange
