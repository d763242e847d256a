"""Train one RunConfig in this process, or as one rank of several, from its newest checkpoint, its trunk's, or nothing,
and evaluate it.

Owns the Fabric loop and the validation sums. It must not know claims, sweeps or other workers: it is told
when to stop and where its files are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from experiments.config.counts import flops_of
from experiments.config.prefixes import SHAREABLE, prefix_id
from experiments.config.run import RunConfig, run_id
from experiments.data.corpus import TokenCorpus
from experiments.distributed.ranks import ALONE, Ranks
from experiments.distributed.sharding import clip_gradients_, set_up
from experiments.training.checkpointing import (
    read_for_ranks,
    read_state,
    restore,
    restore_recorder,
    snapshot,
    write_state,
)
from experiments.training.history import History, Pending, replay
from experiments.training.recorder import Recorder
from experiments.training.validation import clustered_mean, evaluate
from models.lit import LitTransformer


class Diverged(Exception):
    """The divergence guard stopped the run; the message says why."""


class Interrupted(Exception):
    """The run was told to stop; a checkpoint was written."""


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


@dataclass(kw_only=True)
class TrainingJob:
    """One run, or a stretch of the trunk that it shares, with what it needs from outside."""

    config: RunConfig
    """What to train."""
    corpus: TokenCorpus
    """Its tokens."""
    folder: Path
    """runs/<run_id>, or the trunk's folder; checkpoints go below it."""
    fabric: Fabric
    """Device and precision."""
    write_rows: Callable[[list[dict[str, Any]]], None]
    """Takes finished metric rows."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked before every step."""
    checkpoint_seconds: float = 60.0
    """Time between mid-run checkpoints."""
    peak_flops_per_second: float | None = None
    """For model-FLOPs utilisation."""
    start: Path | None = None
    """The trunk's checkpoint to start from; None: from nothing."""
    keep: tuple[int, Path] | None = None
    """(step, path): the trunk's checkpoint to leave behind on the way."""
    end_step: int | None = None
    """For a stretch of a trunk: where it ends; None: the run is trained to its budget."""
    micro_batch: int | None = None
    """Sequences that a rank holds in memory at a time; None: all of its part of the batch."""
    ranks: Ranks = ALONE
    """Who trains it together; every rank runs the same job, and rank 0 alone writes."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; what rates and the time between checkpoints are measured by."""

    def __post_init__(self) -> None:
        stretch = self.end_step is not None
        self._identity = str(prefix_id(self.config)) if stretch else run_id(self.config)
        self.shared_steps = 0
        """Steps that were taken from a trunk's checkpoint."""
        self._share = self.ranks.share(self.config.batch_sequences, self.micro_batch)
        if self.ranks.rank:
            self.write_rows = lambda rows: None

    @property
    def checkpoint_path(self) -> Path:
        """The newest mid-run checkpoint."""
        name = "latest.pt" if self.end_step is None else f"latest-{self.end_step}.pt"
        return self.folder / "checkpoints" / name

    def run(self) -> tuple[Outcome, LitTransformer]:
        """Train to the budget and evaluate.

        Raises
        ------
        Interrupted, Diverged
            After a checkpoint, or after the last row, was written.
        """
        lit, recorder, train_loss = self._train_from_start(self.config.num_steps)
        began = recorder.clock()
        lit.eval()
        sums, counts = evaluate(lit, self.config, self.corpus, self.fabric, self.ranks)
        seconds = recorder.clock() - began
        loss, loss_se = clustered_mean(sums, counts)
        rate = self.config.tokens / recorder.trained_seconds if recorder.trained_seconds else None
        outcome = Outcome(
            loss=loss,
            loss_se=loss_se,
            val_sums=sums.tolist(),
            val_counts=counts.tolist(),
            train_loss=train_loss,
            seconds={"train_seconds": recorder.trained_seconds, "validation_seconds": seconds},
            rates={"tokens_per_second": rate, "mfu": recorder.utilisation(rate)},
        )
        return outcome, lit

    def run_stretch(self, path: Path) -> None:
        """Train the trunk to `end_step` and leave its checkpoint at `path`.

        Raises
        ------
        Interrupted, Diverged
            As `run`.
        """
        if self.end_step is None or self.config.schedule.name not in SHAREABLE:
            raise ValueError("a stretch needs end_step and a schedule that does not depend on the budget")
        self.keep = (self.end_step, path)
        self._train_from_start(self.end_step)

    def _train_from_start(self, end_step: int) -> tuple[LitTransformer, Recorder, float]:
        config = self.config
        lit = LitTransformer(
            model=config.model,
            optimizer=config.optimizer,
            schedule=config.schedule,
            objective=config.objective,
            total_tokens=config.tokens,
            batch_tokens=config.batch_tokens,
            seed=config.seed,
        )
        torch.manual_seed(self.ranks.seed(config.seed))  # dropout
        recorder = Recorder(
            num_steps=config.num_steps,
            batch_tokens=config.batch_tokens,
            flops_per_step=flops_of(config, tokens=config.batch_tokens),
            peak_flops_per_second=self.peak_flops_per_second,
            clock=self.clock,
        )
        module, optimizer = set_up(self.ranks, self.fabric, lit)
        history = History() if self.keep is not None else None
        first_step, train_loss, history = self._resume(lit, optimizer, recorder, history)
        lit.train()
        train_loss = self._train(module, lit, optimizer, recorder, history, (first_step, end_step), train_loss)
        return lit, recorder, train_loss

    def _train(
        self,
        module: Any,
        lit: LitTransformer,
        optimizer: torch.optim.Optimizer,
        recorder: Recorder,
        history: History | None,
        steps: tuple[int, int],
        train_loss: float,
    ) -> float:
        config, corpus, ranks, share, (first_step, end_step) = self.config, self.corpus, self.ranks, self._share, steps
        batch_sequences, device = config.batch_sequences, self.fabric.device
        pending = Pending(recorder, history, ranks.mean if ranks.many else None)
        agreement = ranks.agreement(first_step) if ranks.many else None
        saved_at = recorder.clock()
        for step in range(first_step, end_step + 1):
            if self.keep is not None and step == self.keep[0]:
                pending.fetch(step)
                self._keep(lit, optimizer, recorder, history)
                recorder.resume_clock()
                pending.history = history = None
            if step == end_step:
                break
            stop, save = self.should_stop(), recorder.clock() - saved_at > self.checkpoint_seconds
            if agreement is not None:
                stop, save = agreement.ask(step, stop, save)
            if stop:
                self._save(lit, optimizer, recorder, pending, step)
                raise Interrupted(f"stopped after {step} of {end_step} steps; a checkpoint holds them")
            if save:
                self._save(lit, optimizer, recorder, pending, step)
                recorder.resume_clock()
                saved_at = recorder.clock()
            first = step * batch_sequences + share.begin
            tokens = torch.from_numpy(corpus.train_batch(first, share.count, seed=config.seed)).to(device)
            learning_rate = lit.set_learning_rate(optimizer, step * config.batch_tokens)
            loss = self._backward(module, tokens, step)
            grad_norm = clip_gradients_(ranks, lit)
            optimizer.step()  # not Fabric's wrapper: no gradients are scaled in fp32 and bf16
            optimizer.zero_grad(set_to_none=True)
            pending.add(loss, grad_norm)
            if recorder.is_row(step + 1):
                pending.fetch(step + 1)
                norm = None if grad_norm is None else float(grad_norm)
                row, verdict = recorder.row(step=step + 1, learning_rate=learning_rate, grad_norm=norm)
                self.write_rows([row])
                if verdict is not None:
                    raise Diverged(verdict)
                train_loss = row["train_loss"]
        return train_loss

    def _backward(self, module: Any, tokens: torch.Tensor, step: int) -> torch.Tensor:
        """Gradients of one batch, piece by piece where it does not fit at once; the batch's mean loss, of which several
        ranks have parts whose mean it is.

        Every sequence of an objective has as many predicted tokens as any other, so that a piece's share of the mean
        is its share of the sequences.
        """
        pieces, total = self._share.pieces, None
        for number, (part, weight) in enumerate(pieces):
            with self._exchange(module, last=number == len(pieces) - 1):
                with self.fabric.autocast():  # on a single device Fabric applies it to `forward` alone
                    loss = module.training_step(tokens[part], step)
                if weight != 1:
                    loss = loss * weight
                self.fabric.backward(loss)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _exchange(self, module: Any, *, last: bool) -> AbstractContextManager[Any]:
        """Whether ranks exchange gradients after a piece: under ddp after the last one, once; shards after each, since
        whole gradients would take the memory that pieces save."""
        if last or self.ranks.strategy != "ddp":
            return nullcontext()
        return self.fabric.no_backward_sync(module)

    def _keep(
        self, lit: LitTransformer, optimizer: torch.optim.Optimizer, recorder: Recorder, history: History | None
    ) -> None:
        """Leave the trunk's checkpoint behind, unless somebody has."""
        assert self.keep is not None
        step, path = self.keep
        if history is None or self.ranks.broadcast(path.exists()):
            return
        state = snapshot(str(prefix_id(self.config)), step, lit, optimizer, self.ranks)
        if self.ranks.rank == 0:
            write_state(path, state | {"history": history.state(), "trained_seconds": recorder.trained_seconds})

    def _save(
        self,
        lit: LitTransformer,
        optimizer: torch.optim.Optimizer,
        recorder: Recorder,
        pending: Pending,
        step: int,
    ) -> None:
        """Replace the newest checkpoint of this run."""
        pending.fetch(step)
        state = snapshot(self._identity, step, lit, optimizer, self.ranks) | {
            "recorder": recorder.state(),
            "shared_steps": self.shared_steps,
        }
        if pending.history is not None:
            state["history"] = pending.history.state()
        if self.ranks.rank == 0:
            write_state(self.checkpoint_path, state)

    def _read(self, path: Path, identity: str, lit: LitTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        if self.ranks.many:
            return read_for_ranks(path, identity, lit, optimizer, self.ranks, seed=self.config.seed)
        return read_state(path, identity, self.fabric.device)

    def _resume(
        self, lit: LitTransformer, optimizer: torch.optim.Optimizer, recorder: Recorder, history: History | None
    ) -> tuple[int, float, History | None]:
        """Load this run's newest checkpoint, else the trunk's: (the step to go on from, the last row's loss, history).

        A run that has left its trunk writes the rows that it would have written there.
        """
        train_loss = math.nan
        if self.ranks.broadcast(self.checkpoint_path.exists()):
            state = self._read(self.checkpoint_path, self._identity, lit, optimizer)
            step = restore(state, lit, optimizer)
            restore_recorder(recorder, state["recorder"])
            self.shared_steps = state.get("shared_steps", 0)
            history = History.of(state["history"]) if history is not None and "history" in state else None
        elif self.start is not None:
            state = self._read(self.start, str(prefix_id(self.config)), lit, optimizer)
            step = self.shared_steps = restore(state, lit, optimizer)
            past = History.of(state["history"])
            rows, verdict = replay(recorder, past, lit, float(state["trained_seconds"]))
            if self.end_step is None:
                self.write_rows(rows)
                if verdict is not None:
                    raise Diverged(verdict)
            train_loss = rows[-1]["train_loss"] if rows else math.nan
            history = past if history is not None else None
        else:
            step = 0
        recorder.resume_clock()
        return step, train_loss, history
