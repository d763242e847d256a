"""What a worker trains with, rank by rank: corpora, Fabric, the job that an order asks for; and what records say of it.

Rank 0's worker gives the orders and the others carry them out. It must not know claims, retries or records' files.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from experiments.config.prefixes import prefix_id
from experiments.config.run import RunConfig, canonical
from experiments.data.cache import Cache
from experiments.data.corpus import TokenCorpus, check_budget, prepare
from experiments.distributed.ranks import Ranks, Trouble
from experiments.distributed.sharding import make_fabric
from experiments.errors import UserError
from experiments.machine.devices import cpu_name
from experiments.machine.hardware import peak_flops_per_second, versions
from experiments.training.checkpointing import save_weights
from experiments.training.job import Diverged, Interrupted, TrainingJob
from experiments.training.recorder import peak_memory_bytes
from models.modules.attention import attention_backend

WAIT, END = "wait", "end"
"""What rank 0 says where it has no order: there may be one later, or there will be none."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What all ranks of a worker train next."""

    config: RunConfig
    """The run, or one of those that share a trunk."""
    folder: Path
    """Where its files are."""
    start: Path | None
    """The trunk's checkpoint to start from."""
    micro_batch: int
    """Sequences that a rank holds in memory at a time."""
    keep: tuple[int, Path] | None = None
    """(step, path): the trunk's checkpoint to leave behind on the way."""
    stretch: tuple[int, Path] | None = None
    """(step, path): a stretch of the trunk that ends there; None: the run to its budget."""
    weights: Path | None = None
    """Where the weights of the run are kept; None: they are not."""


@dataclass(kw_only=True)
class Execution:
    """One rank's means to train."""

    device: str
    """cpu or cuda."""
    ranks: Ranks
    """Who trains together."""
    checkpoint_seconds: float
    """Time between mid-run checkpoints."""
    should_stop: Callable[[], bool]
    """Asked before every step."""
    cache: Cache = field(default_factory=Cache)
    """Token cache."""
    _corpora: dict[Any, TokenCorpus] = field(default_factory=dict, init=False)
    _fabrics: dict[str, Fabric] = field(default_factory=dict, init=False)

    def corpus(self, config: RunConfig) -> TokenCorpus:
        """The tokens of a run; the last few are kept."""
        key = canonical(config)["data"]
        key = tuple(sorted((name, str(value)) for name, value in key.items()))
        if key not in self._corpora:
            if len(self._corpora) >= 8:
                self._corpora.clear()
            self._corpora[key] = prepare(config.data, self.cache)
        return self._corpora[key]

    def fabric(self, precision: str) -> Fabric:
        """Fabric at a precision, made once."""
        if precision not in self._fabrics:
            self._fabrics[precision] = make_fabric(self.ranks, self.device, precision)
        return self._fabrics[precision]

    def job(self, order: Order, write_rows: Callable[[list[dict[str, Any]]], None]) -> TrainingJob:
        """The training of one order; UserError when the corpus does not have its tokens."""
        config = order.config
        corpus = self.corpus(config)
        check_budget(config.data, corpus, config.tokens)
        peak = peak_flops_per_second(self.device, config.precision)
        return TrainingJob(
            config=config,
            corpus=corpus,
            folder=order.folder,
            fabric=self.fabric(config.precision),
            write_rows=write_rows,
            should_stop=self.should_stop,
            checkpoint_seconds=self.checkpoint_seconds,
            peak_flops_per_second=None if peak is None else peak * self.ranks.size,
            start=order.start,
            keep=order.keep,
            end_step=None if order.stretch is None else order.stretch[0],
            micro_batch=order.micro_batch,
            ranks=self.ranks,
        )

    # -- the ranks that follow -----------------------------------------------------------------------------------------

    def follow(self) -> bool:
        """Carry out rank 0's orders until there are no more; whether it came to that without trouble, of which rank 0
        was told."""
        while True:
            try:
                order = self.ranks.broadcast()
                if order == END:
                    return True
                if order != WAIT:
                    self._carry_out(order)
            except (Interrupted, Diverged):
                continue  # rank 0 found the same and writes it down
            except Exception as error:
                if is_parting(error):
                    sys.stderr.write(f"rank {self.ranks.rank} ends, because another has vanished\n")
                    return False
                sys.stderr.write(f"error: {error}\n" if isinstance(error, UserError) else traceback.format_exc())
                self.ranks.report(trouble_of(error, self.ranks.rank))
                return False

    def _carry_out(self, order: Order) -> None:
        job = self.job(order, lambda rows: None)
        if order.stretch is not None:
            job.run_stretch(order.stretch[1])
            return
        _, lit = job.run()
        if order.weights is not None:
            save_weights(order.weights, lit, self.ranks)

    # -- records -------------------------------------------------------------------------------------------------------

    def facts(self, config: RunConfig, *, attempt: int, began: float) -> dict[str, Any]:
        """What a record says of how its run was executed."""
        device = self.device
        return {
            "device": device,
            "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
            "threads": torch.get_num_threads(),
            "precision": config.precision,
            "attention_backend": attention_backend(
                device, torch.bfloat16 if config.precision == "bf16" else torch.float32
            ),
            "micro_batch": -(-config.batch_sequences // self.ranks.size),
            "world_size": self.ranks.size,
            "strategy": self.ranks.strategy,
            "trunk": prefix_id(config),
            "attempts": attempt,
            "began_unix_seconds": round(began, 3),
            "peak_flops_per_second": peak_flops_per_second(device, config.precision),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes(),
            "versions": versions(),
        }


def trouble_of(error: BaseException, rank: int) -> Trouble:
    """What an exception is to the group: memory, a problem that no other run would escape, or a failure of this run."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        ending = "oom"
    else:
        ending = "refused" if isinstance(error, UserError) else "failed"
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return Trouble(rank=rank, ending=ending, reason=reason, trace="".join(traceback.format_exception(error)))


def is_parting(error: BaseException) -> bool:
    """Whether an exception says that another rank has vanished, as far as the exchanges between ranks tell."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("closed by peer", "reset by peer"))
    )
