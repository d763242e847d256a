"""What a worker trains with, rank by rank: corpora, Fabric, the job that an order asks for; and what records say of it.

Rank 0's worker gives the orders and the others carry them out. It must not know claims, retries or records' files.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from experiments.config.kinds import AnyRun, prefix_id
from experiments.config.run import RunConfig, canonical, run_id
from experiments.data.cache import Cache
from experiments.data.corpus import TokenCorpus, bits_per_byte, check_budget, prepare
from experiments.distributed.ranks import RankFailure, Ranks
from experiments.distributed.sharding import make_fabric
from experiments.errors import UserError
from experiments.files import sync_file
from experiments.machine.choices import ExecutionChoices, default_threads
from experiments.machine.devices import Precision, cpu_name
from experiments.machine.hardware import commit, is_out_of_memory, peak_flops_per_second, versions
from experiments.planning.profile.table import shape_key
from experiments.training.checkpointing import save_weights
from experiments.training.job import Outcome, TrainedRun, train_prefix, train_run
from experiments.training.recorder import peak_memory_bytes
from experiments.training.stacked.loop import Member, Report, train_stack
from experiments.training.state import Diverged, Interrupted, Row, TrainSetup
from models.modules.attention import attention_backend

WAIT, END = "wait", "end"
"""What rank 0 says where it has no order: there may be one later, or there will be none."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What all ranks of a worker train next."""

    config: RunConfig
    """The run, or one of those that share a prefix."""
    folder: Path
    """Where its files are."""
    start: Path | None
    """The checkpoint of a shared prefix to start from; None: from nothing."""
    micro_batch: int
    """Sequences that a rank holds in memory at a time."""
    keep: tuple[int, Path] | None = None
    """(step, path): the checkpoint of a shared prefix to leave behind, on the way or at the end."""
    is_prefix: bool = False
    """Whether the prefix is trained to `keep`; else the run to its budget."""
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
    should_stop: Callable[[str | None], bool]
    """Asked before every step, with the run's id where several are trained together."""
    cache: Cache = field(default_factory=Cache)
    """Token cache."""
    choices: ExecutionChoices = field(default_factory=ExecutionChoices)
    """What the user forces of how runs are executed."""
    profile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Shape -> what measured times decided of it."""
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

    def fabric(self, precision: Precision) -> Fabric:
        """Fabric at a precision, made once."""
        if precision not in self._fabrics:
            self._fabrics[precision] = make_fabric(self.ranks, self.device, precision)
        return self._fabrics[precision]

    def choices_of(self, config: AnyRun) -> ExecutionChoices:
        """How a run is executed: what the user forces, and what was measured of its shape."""
        return self.choices.completed(self.profile.get(shape_key(config) or "", {}))

    def train_run(self, order: Order, write_rows: Callable[[list[Row]], None]) -> TrainedRun:
        """Train the run of an order and keep its weights where they are wanted.

        Parameters
        ----------
        order : Order
            What to train, from where, and what to keep.
        write_rows : callable
            Takes rows of the history as they come.

        Returns
        -------
        TrainedRun
            Its outcome and its module.

        Raises
        ------
        UserError
            When the corpus does not have the run's tokens.
        Interrupted, Diverged
            As `training.job.train_run`.
        """
        with self._blaming_tokens(order.config):
            trained = train_run(self._setup(order, write_rows), order.keep)
        if order.weights is not None:
            save_weights(order.weights, trained.lit, self.ranks)
        return trained

    def train_stack(
        self, orders: Sequence[Order], write_rows: Callable[[Path, list[Row]], None], report: Report
    ) -> None:
        """Train the runs of several orders together and keep their weights where they are wanted.

        Parameters
        ----------
        orders : sequence of Order
            Runs of one shape, batch and corpus.
        write_rows : callable
            Takes the folder of a run and rows of its history as they come.
        report : callable
            As of `training.stacked.loop.train_stack`.

        Raises
        ------
        UserError
            When the corpus does not have the runs' tokens.
        """
        config = orders[0].config
        members = [
            Member(
                setup=replace(
                    self._setup(order, partial(write_rows, order.folder)),
                    should_stop=partial(self.should_stop, run_id(order.config)),
                ),
                keep=order.keep,
            )
            for order in orders
        ]

        def keep_weights(number: int, result: TrainedRun | Exception) -> None:
            weights = orders[number].weights
            if weights is not None and isinstance(result, TrainedRun):
                save_weights(weights, result.lit, self.ranks)
            report(number, result)

        with self._blaming_tokens(config):
            train_stack(members, keep_weights)

    def train_prefix(self, order: Order, write_rows: Callable[[list[Row]], None]) -> None:
        """Train the shared prefix of an order to the checkpoint that it leaves behind.

        Parameters
        ----------
        order : Order
            What to train, from where, and the checkpoint to keep.
        write_rows : callable
            Takes rows of the history as they come.

        Raises
        ------
        UserError
            When the corpus does not have the run's tokens.
        Interrupted, Diverged
            As `training.job.train_prefix`.
        """
        assert order.keep is not None
        with self._blaming_tokens(order.config):
            train_prefix(self._setup(order, write_rows), order.keep)

    @contextlib.contextmanager
    def _blaming_tokens(self, config: RunConfig) -> Iterator[None]:
        """Whatever went wrong on tokens that have changed meanwhile is no failure of the run: DamagedTokens."""
        try:
            yield
        except Exception:
            self.corpus(config).check_unchanged()
            raise

    def _setup(self, order: Order, write_rows: Callable[[list[Row]], None]) -> TrainSetup:
        config = order.config
        corpus = self.corpus(config)
        check_budget(config.data, corpus, config.tokens)
        choices = self.choices_of(config)
        torch.set_num_threads(choices.threads or default_threads(self.device))
        peak = peak_flops_per_second(self.device, config.precision)
        return TrainSetup(
            config=config,
            corpus=corpus,
            folder=order.folder,
            fabric=self.fabric(config.precision),
            write_rows=write_rows,
            settle=lambda: settle(order.folder, corpus),
            should_stop=partial(self.should_stop, None),
            checkpoint_seconds=self.checkpoint_seconds,
            peak_flops_per_second=None if peak is None else peak * self.ranks.size,
            start=order.start,
            micro_batch=order.micro_batch,
            ranks=self.ranks,
            choices=choices,
        )

    # -- the ranks that follow -----------------------------------------------------------------------------------------

    def follow(self) -> bool:
        """Carry out rank 0's orders until there are no more; False after a failure, which was reported to rank 0."""
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
                if is_peer_lost(error):
                    sys.stderr.write(f"rank {self.ranks.rank} ends, because another has vanished\n")
                    return False
                sys.stderr.write(f"error: {error}\n" if isinstance(error, UserError) else traceback.format_exc())
                self.ranks.report(failure_of(error, self.ranks.rank))
                return False

    def _carry_out(self, order: Order) -> None:
        if order.is_prefix:
            self.train_prefix(order, lambda rows: None)
        else:
            self.train_run(order, lambda rows: None)

    # -- records -------------------------------------------------------------------------------------------------------

    def num_train_tokens(self, config: AnyRun) -> int | None:
        """Tokens of one pass over the training split; None for a fine-tuning run, which has examples."""
        return self.corpus(config).num_train_tokens if isinstance(config, RunConfig) else None

    def facts(self, config: AnyRun, *, attempt: int, began: float, micro_batch: int) -> dict[str, Any]:
        """What a record says of how its run was executed.

        Parameters
        ----------
        config : AnyRun
            The run.
        attempt : int
            Number of the execution.
        began : float
            When it began, Unix seconds.
        micro_batch : int
            Sequences that a rank held in memory at a time.
        """
        device, choices = self.device, self.choices_of(config)
        replayed = isinstance(config, RunConfig) and choices.replays(config.batch_sequences, micro_batch)
        measured = sorted(choices.forced.keys() - self.choices.forced.keys())
        return {
            "device": device,
            "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
            "threads": torch.get_num_threads(),
            "precision": config.precision,
            "attention_backend": choices.attention
            or attention_backend(device, torch.bfloat16 if config.precision == "bf16" else torch.float32),
            "micro_batch": micro_batch,
            **({"compiled": True} if choices.compile else {}),
            **({"cuda_graphs": True} if replayed else {}),
            **({"recomputed": True} if choices.recompute else {}),
            **({"measured_choices": " ".join(measured)} if measured else {}),
            "world_size": self.ranks.size,
            "strategy": self.ranks.strategy,
            "trunk": prefix_id(config),
            "attempts": attempt,
            "began_unix_seconds": round(began, 3),
            "peak_flops_per_second": peak_flops_per_second(device, config.precision),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes(),
            "semantics_version": config.semantics_version,
            "commit": commit(),
            "versions": versions(),
        }


def settle(folder: Path, corpus: TokenCorpus) -> None:
    """Bring what was measured to the disk before something is written that rests on it.

    Parameters
    ----------
    folder : Path
        Of the run or of the shared prefix, with its metrics.jsonl.
    corpus : TokenCorpus
        What it is trained on.

    Raises
    ------
    StoreError
        When the disk refuses.
    DamagedTokens
        When the token files have changed since they were opened.
    """
    sync_file(folder / "metrics.jsonl")
    corpus.check_unchanged()


def failure_of(error: BaseException, rank: int) -> RankFailure:
    """What an exception means for the group: out of memory, a problem that no other run would escape, or a failure."""
    if is_out_of_memory(error):
        ending = "oom"
    else:
        ending = "refused" if isinstance(error, UserError) else "failed"
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return RankFailure(rank=rank, ending=ending, reason=reason, trace="".join(traceback.format_exception(error)))


def is_peer_lost(error: BaseException) -> bool:
    """Whether an exception says that another rank has vanished, as far as the exchanges between ranks tell."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("closed by peer", "reset by peer"))
    )


def measured(outcome: Outcome, corpus: TokenCorpus, config: RunConfig) -> dict[str, Any]:
    """What a record says of what a run measured.

    Parameters
    ----------
    outcome : Outcome
        Losses in nats per token, times and rates.
    corpus : TokenCorpus
        Its validation set.
    config : RunConfig
        The run.
    """
    tokens = sum(outcome.val_counts)
    num_bytes = corpus.num_val_bytes if config.objective.name == "causal" else None
    return {
        "loss": outcome.loss,
        "loss_se": outcome.loss_se,
        "bpb": None if num_bytes is None else bits_per_byte(outcome.loss, tokens, num_bytes),
        "train_loss": outcome.train_loss,
        "val_sums": outcome.val_sums,
        "val_counts": outcome.val_counts,
        "num_val_tokens": tokens,
        **outcome.seconds,
        **outcome.rates,
    }
