"""Train one RunConfig in this process, from its newest checkpoint or from nothing, and evaluate it.

Owns the Fabric loop, checkpoints and the validation sums. It must not know claims, sweeps or other workers: it is told
when to stop and where its files are.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from lightning.fabric import Fabric

from experiments.callbacks import Recorder
from experiments.config import RunConfig, run_id
from experiments.data.corpus import TokenCorpus
from experiments.describe import flops_of
from experiments.store import StoreError, write_atomic
from models.lit import LitTransformer

EVAL_BATCH_TOKENS = 8192
"""Tokens per validation batch; fixed, because sums may depend on it in the last digit."""


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
    """One run with what it needs from outside."""

    config: RunConfig
    """What to train."""
    corpus: TokenCorpus
    """Its tokens."""
    folder: Path
    """runs/<run_id>; checkpoints go below it."""
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
    clock: Callable[[], float] = time.monotonic
    """Seconds; what rates and the time between checkpoints are measured by."""

    @property
    def checkpoint_path(self) -> Path:
        """The newest mid-run checkpoint."""
        return self.folder / "checkpoints" / "latest.pt"

    def run(self) -> tuple[Outcome, LitTransformer]:
        """Train to the budget and evaluate.

        Raises
        ------
        Interrupted, Diverged
            After a checkpoint, or after the last row, was written.
        """
        config, fabric = self.config, self.fabric
        lit = LitTransformer(
            model=config.model,
            optimizer=config.optimizer,
            schedule=config.schedule,
            objective=config.objective,
            total_tokens=config.tokens,
            batch_tokens=config.batch_tokens,
            seed=config.seed,
        )
        torch.manual_seed(config.seed)  # dropout
        optimizer = lit.configure_optimizers()
        recorder = Recorder(
            num_steps=config.num_steps,
            batch_tokens=config.batch_tokens,
            flops_per_step=flops_of(config, tokens=config.batch_tokens),
            peak_flops_per_second=self.peak_flops_per_second,
            clock=self.clock,
        )
        module, wrapped = fabric.setup(lit, optimizer)
        for method in ("loss_per_token", "losses_and_mask"):
            module.mark_forward_method(method)
        first_step = self._resume(lit, optimizer, recorder)
        lit.train()
        train_loss = self._train(module, lit, wrapped, optimizer, recorder, first_step)
        sums, counts, seconds = self._evaluate(module, lit, recorder)
        loss, loss_se = clustered_mean(sums, counts)
        rate = config.tokens / recorder.trained_seconds if recorder.trained_seconds else None
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

    def _train(
        self,
        module: Any,
        lit: LitTransformer,
        wrapped: Any,
        optimizer: torch.optim.Optimizer,
        recorder: Recorder,
        first_step: int,
    ) -> float:
        config, corpus = self.config, self.corpus
        batch_sequences, device = config.batch_sequences, self.fabric.device
        stepper = (
            wrapped.optimizer
        )  # in fp32 and bf16 Fabric's wrapper adds time and nothing else: no gradients are scaled
        pending: list[torch.Tensor] = []
        train_loss = math.nan
        saved_at = recorder.clock()
        for step in range(first_step, config.num_steps):
            if self.should_stop():
                self._save(lit, optimizer, recorder, pending, step)
                raise Interrupted(f"stopped after {step} of {config.num_steps} steps; a checkpoint holds them")
            if recorder.clock() - saved_at > self.checkpoint_seconds:
                self._save(lit, optimizer, recorder, pending, step)
                recorder.resume_clock()
                saved_at = recorder.clock()
            tokens = torch.from_numpy(corpus.train_batch(step * batch_sequences, batch_sequences, seed=config.seed)).to(
                device
            )
            learning_rate = lit.set_learning_rate(optimizer, step * config.batch_tokens)
            with self.fabric.autocast():  # on a single device Fabric applies it to `forward` alone
                loss = module.training_step(tokens, step)
            self.fabric.backward(loss)
            grad_norm = lit.clip_gradients_()
            stepper.step()
            stepper.zero_grad(set_to_none=True)
            pending.append(loss.detach())
            if recorder.is_row(step + 1):
                self._fetch(recorder, pending, step + 1)
                norm = None if grad_norm is None else float(grad_norm)
                row, verdict = recorder.row(step=step + 1, learning_rate=learning_rate, grad_norm=norm)
                self.write_rows([row])
                if verdict is not None:
                    raise Diverged(verdict)
                train_loss = row["train_loss"]
        return train_loss

    @staticmethod
    def _fetch(recorder: Recorder, pending: list[torch.Tensor], step: int) -> None:
        recorder.fetch(torch.stack(pending).float().tolist() if pending else [], step=step)
        pending.clear()

    def _save(
        self,
        lit: LitTransformer,
        optimizer: torch.optim.Optimizer,
        recorder: Recorder,
        pending: list[torch.Tensor],
        step: int,
    ) -> None:
        """Replace the newest checkpoint atomically; a full disk leaves the one before."""
        self._fetch(recorder, pending, step)
        state = {
            "run_id": run_id(self.config),
            "step": step,
            "model": lit.state_dict(),
            "optimizer": optimizer.state_dict(),
            "recorder": recorder.state(),
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.fabric.device.type == "cuda" else [],
        }
        save_checkpoint(self.checkpoint_path, state)

    def _resume(self, lit: LitTransformer, optimizer: torch.optim.Optimizer, recorder: Recorder) -> int:
        """Load the newest checkpoint of this run; the step to go on from, zero without one."""
        if not self.checkpoint_path.exists():
            recorder.resume_clock()
            return 0
        state = torch.load(self.checkpoint_path, map_location=self.fabric.device, weights_only=True)
        if state["run_id"] != run_id(self.config):
            raise StoreError(
                f"{self.checkpoint_path} belongs to run {state['run_id']}; delete it and run the sweep again"
            )
        lit.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng_cpu"].cpu())
        if state["rng_cuda"]:
            torch.cuda.set_rng_state_all([item.cpu() for item in state["rng_cuda"]])
        saved = state["recorder"]
        recorder.window = list(saved["window"])
        recorder.guard.first = saved["guard_first"]
        recorder.trained_seconds = saved["trained_seconds"]
        recorder.resume_clock()
        return int(state["step"])

    def _evaluate(self, module: Any, lit: LitTransformer, recorder: Recorder) -> tuple[np.ndarray, np.ndarray, float]:
        """Summed nats and token counts per validation document, and the seconds that it took."""
        began = recorder.clock()
        lit.eval()
        device = self.fabric.device
        documents = self.corpus.num_val_documents
        sums = torch.zeros(documents, dtype=torch.float64, device=device)
        counts = np.zeros(documents, dtype=np.int64)
        batch = max(1, EVAL_BATCH_TOKENS // self.config.data.context)
        with torch.no_grad(), self.fabric.autocast():
            for tokens, document_ids, mask in self.corpus.val_batches(batch):
                if self.config.objective.name == "causal":
                    kept, losses = torch.from_numpy(mask), module.loss_per_token(torch.from_numpy(tokens).to(device))
                else:  # what is taken out is drawn per sequence, so that only whole ones mean the same
                    whole = mask.all(axis=1)
                    if not whole.any():
                        continue
                    losses, predicted = module.losses_and_mask(torch.from_numpy(tokens[whole]).to(device))
                    kept = predicted.cpu()
                    document_ids = np.repeat(document_ids[whole, :1], losses.shape[1], axis=1)
                ids = torch.from_numpy(document_ids)[kept]
                sums.index_add_(0, ids.to(device), losses[kept.to(device)].double())
                counts += np.bincount(ids.numpy(), minlength=documents)
        return sums.cpu().numpy(), counts, recorder.clock() - began


def clustered_mean(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float | None]:
    """Mean loss over tokens and its standard error clustered by document.

    The ratio estimator: L = sum s_d / sum c_d, se^2 = n / (n - 1) sum (s_d - L c_d)^2 / (sum c_d)^2 (Cochran 1977,
    section 6.4).

    Parameters
    ----------
    sums, counts
        Shape (n,): nats and tokens of each document.
    """
    total = counts.sum()
    loss = float(sums.sum() / total)
    num = int((counts > 0).sum())
    if num < 2:
        return loss, None
    residuals = sums - loss * counts
    return loss, float(math.sqrt(num / (num - 1) * float((residuals**2).sum())) / total)


def save_weights(path: Path, lit: LitTransformer) -> None:
    """The model's weights as safetensors, by the names of `models.transformer.Transformer`."""
    state = {name: value.contiguous().cpu() for name, value in lit.model.state_dict().items()}
    write_atomic(path, safetensors.torch.save(state))


def save_checkpoint(path: Path, state: Any) -> None:
    """A mid-run checkpoint of plain values and tensors."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())
