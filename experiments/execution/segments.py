"""Train one claimed segment: the order to every rank, the training, and the record or checkpoint that comes of it.

It must not know loops over segments, heartbeats, or what becomes of an error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from experiments.config.counts import design_of
from experiments.config.run import RunConfig, canonical
from experiments.execution.engine import Execution, Order, measured
from experiments.execution.micro_batch import micro_batch_of
from experiments.execution.queue import Claimed
from experiments.execution.tuning import TuningTrainer
from experiments.files import append_rows
from experiments.records import RunRecord, RunStatus
from experiments.store.checkpoints import checkpoint_path, drop_unneeded, prefix_folder
from experiments.store.store import RunStore
from experiments.training.state import prefix_target, run_target


@dataclass(frozen=True, kw_only=True)
class SegmentTrainer:
    """Trains claimed segments on one store."""

    store: RunStore
    """Where configs, records and checkpoints are."""
    execution: Execution
    """This rank's means to train."""
    keep_weights: bool
    """Whether the weights of finished runs are kept."""
    tuning: TuningTrainer
    """Trains fine-tuning runs."""

    def train(self, claimed: Claimed) -> None:
        """Train a segment; a run that is published already is left as it is.

        Parameters
        ----------
        claimed : Claimed
            The segment, and where to start.

        Raises
        ------
        UserError
            When the store or the corpus refuses.
        Interrupted, Diverged
            As `training.job.train_run`.
        """
        if claimed.segment.is_prefix:
            self._train_prefix(claimed)
        elif self.store.read_record(claimed.segment.run_id) is None:
            config = self.store.read_any(claimed.segment.run_id)
            if isinstance(config, RunConfig):
                self._train_run(config, claimed)
            else:
                self.tuning.train(config, claimed)

    def _train_run(self, config: RunConfig, claimed: Claimed) -> None:
        """Train a run to its budget, from its shared prefix where it has one, and publish its record."""
        began, segment = time.time(), claimed.segment
        folder = self.store.run_folder(segment.run_id)
        keep = None
        if segment.prefix is not None and segment.keep_step is not None:
            keep = (segment.keep_step, checkpoint_path(self.store, segment.prefix, segment.keep_step))
        order = Order(
            config=config,
            folder=folder,
            start=claimed.start,
            micro_batch=micro_batch_of(config, claimed.num_ooms, self.execution.ranks.size),
            keep=keep,
            weights=folder / "weights.safetensors" if self.keep_weights else None,
        )
        self.execution.ranks.broadcast(order)
        trained = self.execution.train_run(order, lambda rows: append_rows(folder / "metrics.jsonl", rows))
        corpus = self.execution.corpus(config)
        facts = self.execution.facts(config, attempt=claimed.attempt, began=began, micro_batch=order.micro_batch)
        self.store.publish(
            RunRecord(
                run_id=segment.run_id,
                status=RunStatus.DONE,
                config=canonical(config),
                design=design_of(config, num_train_tokens=corpus.num_train_tokens),
                outcome=measured(trained.outcome, corpus, config),
                execution=facts | {"shared_steps": trained.shared_steps},
            )
        )
        run_target(config, folder).checkpoint.unlink(missing_ok=True)
        if segment.prefix is not None:
            drop_unneeded(self.store, segment.prefix)

    def _train_prefix(self, claimed: Claimed) -> None:
        """Train a segment of a shared prefix and leave its checkpoint behind."""
        segment, config = claimed.segment, self.store.read_config(claimed.segment.run_id)
        prefix = str(segment.prefix)
        folder = prefix_folder(self.store, prefix)
        folder.mkdir(parents=True, exist_ok=True)
        keep = (segment.end_step, checkpoint_path(self.store, prefix, segment.end_step))
        order = Order(
            config=config,
            folder=folder,
            start=claimed.start,
            micro_batch=micro_batch_of(config, claimed.num_ooms, self.execution.ranks.size),
            keep=keep,
            is_prefix=True,
        )
        self.execution.ranks.broadcast(order)
        self.execution.train_prefix(order, lambda rows: append_rows(folder / "metrics.jsonl", rows))
        prefix_target(config, folder, keep).checkpoint.unlink(missing_ok=True)
        drop_unneeded(self.store, prefix)
