"""One training step: the batch, its gradients piece by piece, the optimiser, and the row of a window that ends.

It must not know budgets, checkpoints or when to stop.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from experiments.distributed.ranks import Share
from experiments.distributed.sharding import clip_gradients_
from experiments.training.state import Diverged, TrainSetup, TrainState


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
    loss = backward(setup, state, next_batch(setup, state, share), share)
    finish_step(setup, state, loss)


def next_batch(setup: TrainSetup, state: TrainState, share: Share) -> torch.Tensor:
    """Read the tokens of the next step.

    Parameters
    ----------
    setup : TrainSetup
        What it is trained with.
    state : TrainState
        As it is before the step.
    share : Share
        This rank's part of the batch.

    Returns
    -------
    Tensor, shape (share.count, context + 1)
        On the device.
    """
    first = state.step * setup.config.batch_sequences + share.begin
    batch = setup.corpus.train_batch(first, share.count, seed=setup.config.seed)
    tokens, device = torch.from_numpy(batch), setup.fabric.device
    if device.type != "cuda":
        return tokens.to(device)
    return tokens.pin_memory().to(device, non_blocking=True)  # the GPU goes on with the step before meanwhile


def finish_step(setup: TrainSetup, state: TrainState, loss: torch.Tensor) -> None:
    """Move the weights by their gradients, and write the row of a window that ends with this step.

    Parameters
    ----------
    setup : TrainSetup
        What it is trained with.
    state : TrainState
        With the gradients of its batch; moved on by one step.
    loss : Tensor, scalar
        The batch's mean loss, nats per token.

    Raises
    ------
    Diverged
        When the divergence guard says so.
    """
    lit = state.lit
    learning_rate = lit.set_learning_rate(state.optimizer, state.step * setup.config.batch_tokens)
    grad_norm = clip_gradients_(setup.ranks, lit)
    state.optimizer.step()  # not Fabric's wrapper: no gradients are scaled in fp32 and bf16
    lit.update_average()
    state.optimizer.zero_grad(set_to_none=True)
    state.pending.add(loss, grad_norm)
    state.step += 1
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
    """Whether ranks exchange gradients after a piece.

    Under ddp they do after the last one; shards after each, since whole gradients would take the memory that pieces
    save.
    """
    if last or setup.ranks.strategy != "ddp":
        return nullcontext()
    no_exchange: AbstractContextManager[Any] = setup.fabric.no_backward_sync(module)
    return no_exchange
