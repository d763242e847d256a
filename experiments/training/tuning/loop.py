"""Fine-tuning of one body on one task: the steps, the evaluations on validation, and the test at the end.

A run is a function of its config: it is short, keeps no checkpoint, and begins anew after a kill, to the same digits.
It must not know stores, claims or command lines. Shapes: B batch, T tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from experiments.config.tuning.run import WARMUP_FRACTION, FinetuneRun
from experiments.data.corpus import clustered_mean
from experiments.data.tasks import Task
from experiments.errors import UserError
from experiments.training.state import Diverged, Interrupted
from experiments.training.state import Row as MetricsRow
from experiments.training.tuning.bootstrap import mean_interval
from experiments.training.tuning.model import learned, load_learned, make_body
from experiments.training.tuning.tasks import Measured, Row, TuningTask, first_of, measure

ROWS = 20
"""Rows of metrics that a run writes, at most."""
GRAD_CLIP = 1.0
"""Norm at which gradients are clipped."""


@dataclass(frozen=True, kw_only=True)
class TuningSetup:
    """What a fine-tuning run needs from outside."""

    run: FinetuneRun
    """What to train."""
    weights: Mapping[str, Tensor]
    """The pre-trained weights."""
    task: Task
    """Examples by split."""
    head: TuningTask
    """What the kind of task asks of the model."""
    fabric: Fabric
    """Device and precision."""
    write_rows: Callable[[list[MetricsRow]], None] = lambda rows: None
    """Takes finished metric rows."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked before every step."""
    micro_batch: int | None = None
    """Examples held in memory at a time; None: a whole batch."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A run after its last step."""

    model: nn.Module
    """In evaluation mode."""
    outcome: dict[str, Any]
    """Test loss in nats per target with its standard error and interval, measures, validation, counts, seconds."""
    tokens: int
    """Tokens that were read, padding included."""
    flops: float
    """Counted training FLOPs."""


@dataclass
class _Progress:
    """What the loop has counted and found so far."""

    tokens: int = 0
    flops: float = 0.0
    window: list[float] = field(default_factory=list)
    val_loss: float = math.nan
    best_val_loss: float = math.inf
    best_step: int = 0
    best: dict[str, Tensor] | None = None


def finetune(setup: TuningSetup) -> Tuned:
    """Train one run and measure it on the test split.

    Parameters
    ----------
    setup : TuningSetup
        What to train with.

    Returns
    -------
    Tuned
        The model after the last step, and what it measured.

    Raises
    ------
    UserError
        When the task has fewer training examples than the run asks for.
    Interrupted
        When it is asked to stop; what was trained is lost.
    Diverged
        When a loss is not finite.
    """
    run, task, device = setup.run, setup.task, setup.fabric.device
    splits = _rows(setup)
    began = time.perf_counter()
    torch.manual_seed(run.seed)  # dropout
    model = setup.head.model(make_body(run, setup.weights), run.seed).to(device)
    counted, there = sum(run.trainable.values()), sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted == there, f"{counted} parameters were counted and {there} learn"
    progress = _train(setup, model, splits["train"], splits["val"])
    trained = time.perf_counter() - began
    model.eval()
    with setup.fabric.autocast():
        tested = measure(setup.head, model, splits["test"], device)
    outcome = _outcome(setup, tested, splits) | {
        "train_loss": float(np.mean(progress.window)) if progress.window else None,
        "val_loss": progress.val_loss,
        "best_val_loss": progress.best_val_loss,
        "best_step": progress.best_step,
        "loss_at_best_step": _loss_at_best(setup, model, progress, splits["test"], tested),
        "train_seconds": trained,
        "tokens_per_second": run.tokens / (time.perf_counter() - began) if run.tokens else None,
        "finetune_tokens": sum(row.length for row in splits["train"]),
        "num_train_available": len(task.splits["train"]),
    }
    return Tuned(model=model, outcome=outcome, tokens=progress.tokens, flops=progress.flops)


def training_order(run: FinetuneRun, available: int) -> np.ndarray:
    """Which training examples a run has: the first of one order for each data seed, so that larger sets hold smaller.

    Parameters
    ----------
    run : FinetuneRun
        Says how many.
    available : int
        Training examples of the task.

    Returns
    -------
    array, shape (examples,)
        Indices of the training split.
    """
    return np.random.default_rng([run.data_seed, 1]).permutation(available)[: run.examples]


def _rows(setup: TuningSetup) -> dict[str, list[Row]]:
    """The rows of each split."""
    run, splits = setup.run, setup.task.splits
    available = len(splits["train"])
    if run.examples > available:
        raise UserError(f"{run.examples} examples are more than the {available} of {run.task.name}; lower examples")
    chosen = {
        "train": [splits["train"][i] for i in training_order(run, available)],
        "val": first_of(splits["val"], run.task.val_examples),
        "test": first_of(splits["test"], run.task.test_examples),
    }
    return {name: setup.head.rows(examples, run.longest) if examples else [] for name, examples in chosen.items()}


def _train(setup: TuningSetup, model: nn.Module, rows: Sequence[Row], val: Sequence[Row]) -> _Progress:
    """Take the steps of a run."""
    run, progress = setup.run, _Progress()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=run.learning_rate, weight_decay=run.weight_decay)
    rng = np.random.default_rng([run.data_seed, 2])
    at = {round(run.num_steps * k / run.evaluations) for k in range(1, run.evaluations + 1)} - {0}
    every, coming = max(1, run.num_steps // ROWS), list[list[int]]()
    model.train()
    for step in range(run.num_steps):
        if setup.should_stop():
            raise Interrupted(f"stopped after {step} of {run.num_steps} steps; the run begins anew")
        coming = coming or batches_of_pass([row.length for row in rows], run, rng)
        batch = [rows[i] for i in coming.pop(0)]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run, step)
        loss = _backward(setup, model, batch)
        nn.utils.clip_grad_norm_(parameters, GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        length, sequences = max(row.length for row in batch), sum(row.num_sequences for row in batch)
        progress.tokens += length * sequences
        written = max((row.written or 0 for row in batch), default=0)
        progress.flops += sequences * run.flops_of_sequence(length, written or None)
        progress.window.append(float(loss))
        if (step + 1) in at or (step + 1) % every == 0 or step + 1 == run.num_steps:
            _write_row(setup, progress, step + 1, model, val if (step + 1) in at else ())
    if not run.num_steps:
        progress.val_loss = progress.best_val_loss = _validate(setup, model, val)
    return progress


def batches_of_pass(lengths: Sequence[int], run: FinetuneRun, rng: np.random.Generator) -> list[list[int]]:
    """The batches of one pass over the examples.

    With `bucket_batches` so many batches are drawn together, sorted by length, cut, and put into a random order.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each example.
    run : FinetuneRun
        Says how many examples a batch has, and how many batches are sorted together.
    rng : Generator
        Draws the order; its state goes on.

    Returns
    -------
    list of list of int
        Each example once.
    """
    order = rng.permutation(len(lengths)).tolist()
    if run.bucket_batches is None:
        return _cut(order, run.batch)
    found = []
    for drawn in _cut(order, run.batch * run.bucket_batches):
        sorted_batches = _cut(sorted(drawn, key=lambda i: lengths[i]), run.batch)
        found += [sorted_batches[i] for i in rng.permutation(len(sorted_batches))]
    return found


def _cut(items: list[int], size: int) -> list[list[int]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def learning_rate(run: FinetuneRun, step: int) -> float:
    """Rate of a step: it rises in a straight line, then falls to zero in one."""
    warmup = max(1, round(WARMUP_FRACTION * run.num_steps))
    factor = min((step + 1) / warmup, (run.num_steps - step) / max(run.num_steps - warmup, 1), 1.0)
    return run.learning_rate * factor


def _backward(setup: TuningSetup, model: nn.Module, batch: Sequence[Row]) -> Tensor:
    """The gradients of one batch, piece by piece where it does not fit at once; its mean loss in nats per target."""
    size, targets = setup.micro_batch or len(batch), sum(row.num_targets for row in batch)
    means = []
    for begin in range(0, len(batch), size):
        with setup.fabric.autocast():
            mean = setup.head.losses(model, batch[begin : begin + size], setup.fabric.device).sum() / targets
        setup.fabric.backward(mean)
        means.append(mean.detach())
    return torch.stack(means).sum()


def _write_row(setup: TuningSetup, progress: _Progress, step: int, model: nn.Module, val: Sequence[Row]) -> None:
    """Write the row of a window, with the validation loss where it is measured, and keep the best state."""
    loss = math.fsum(progress.window) / len(progress.window)
    if not math.isfinite(loss):
        raise Diverged(
            f"the training loss is {loss} at step {step}; the rate {setup.run.learning_rate:.3g} is too high"
        )
    row: MetricsRow = {"step": step, "tokens": progress.tokens, "flops": progress.flops, "train_loss": loss}
    row["lr"] = learning_rate(setup.run, step - 1)
    progress.window = progress.window if step == setup.run.num_steps else []
    if val:
        row["val_loss"] = progress.val_loss = _validate(setup, model, val)
        if not math.isfinite(progress.val_loss):
            raise Diverged(f"the validation loss is {progress.val_loss} at step {step}; the rate is too high")
        if progress.val_loss < progress.best_val_loss:
            progress.best_val_loss, progress.best_step = progress.val_loss, step
            progress.best = learned(model)
    setup.write_rows([row])


def _validate(setup: TuningSetup, model: nn.Module, val: Sequence[Row]) -> float:
    model.eval()
    with setup.fabric.autocast():
        loss = measure(setup.head, model, val, setup.fabric.device, with_answers=False).loss
    model.train()
    return loss


def _loss_at_best(
    setup: TuningSetup, model: nn.Module, progress: _Progress, test: Sequence[Row], tested: Measured
) -> float:
    """Test loss of the state of least validation loss, reported apart from that of the last step."""
    if progress.best is None or progress.best_step == setup.run.num_steps:
        return tested.loss
    last = learned(model)
    load_learned(model, progress.best)
    with setup.fabric.autocast():
        loss = measure(setup.head, model, test, setup.fabric.device, with_answers=False).loss
    load_learned(model, last)
    return loss


def _outcome(setup: TuningSetup, tested: Measured, splits: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """What the test split says."""
    loss, loss_se = clustered_mean(tested.sums, tested.counts)
    low, high = mean_interval(tested.sums, tested.counts)
    return {
        "loss": loss,
        "loss_se": loss_se,
        "loss_lo": low,
        "loss_hi": high,
        "val_sums": tested.sums.tolist(),
        "val_counts": tested.counts.tolist(),
        "num_val_tokens": int(tested.counts.sum()),
        **setup.head.metrics(tested, splits["test"]),
        **{f"truncated_{name}": sum(row.is_cut for row in rows) for name, rows in splits.items()},
    }
