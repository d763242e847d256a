"""Train one claimed segment: the order to every rank, the training, and the record or checkpoint that comes of it.

It must not know loops over segments, heartbeats, or what becomes of an error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.config.counts import design_of
from experiments.config.kinds import AnyRun
from experiments.config.run import SEMANTICS_VERSION, RunConfig, canonical
from experiments.config.tuning.run import TUNING_VERSION
from experiments.digests import checked_row, file_digest
from experiments.errors import UserError
from experiments.execution.engine import Execution, Order, measured, settle
from experiments.execution.queue import Claimed
from experiments.execution.retries import micro_batch_of
from experiments.execution.tuning import TuningTrainer
from experiments.files import append_rows, remove
from experiments.manifests import Segment
from experiments.records import RunRecord, RunStatus
from experiments.store.checkpoints import checkpoint_path, drop_unneeded, own_checkpoint, prefix_folder, remove_own
from experiments.store.store import RunStore
from experiments.store.weights import UNPUBLISHED, place_weights
from experiments.training.job import TrainedRun
from experiments.training.state import Row, prefix_target


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
        MemoryError
            When the last attempt was killed for want of memory with a single sequence at a time.
        Interrupted, Diverged
            As `training.job.train_run`.
        """
        if claimed.segment.is_prefix:
            shared = self.store.read_config(claimed.segment.run_id)
            check_semantics(shared)
            self._train_prefix(claimed, shared)
            return
        record = self._record_of(claimed.segment.run_id)
        if record is None:
            config = self.store.read_any(claimed.segment.run_id)
            check_semantics(config)
            if isinstance(config, RunConfig):
                record = self._train_run(claimed, config)
            else:
                record = self.tuning.train(config, claimed)
        self._finish(claimed.segment, record)

    def train_stack(self, claims: Sequence[Claimed], ended: Callable[[Claimed, Exception | None], None]) -> None:
        """Train runs together that may be; each gets its own record as soon as it has ended.

        Parameters
        ----------
        claims : sequence of Claimed
            Runs whose segments name the same stack.
        ended : callable
            Told once of each that has ended, with its error, or None where it is published.

        Raises
        ------
        Exception
            What concerns all that were not ended.
        """
        began, orders, members = time.time(), [], []
        for claimed in claims:
            try:
                record = self._record_of(claimed.segment.run_id)
                if record is None:
                    config = self.store.read_config(claimed.segment.run_id)
                    check_semantics(config)
                    orders.append(self._order(claimed, config))
                    members.append(claimed)
                else:
                    self._finish(claimed.segment, record)
                    ended(claimed, None)
            except Exception as error:  # of this run alone
                ended(claimed, error)

        def report(number: int, result: TrainedRun | Exception) -> None:
            claimed, error = members[number], result if isinstance(result, Exception) else None
            if not isinstance(result, Exception):
                try:
                    more = {"stacked": len(members)}
                    record = self._publish(claimed, orders[number], result, began=began, more=more)
                    self._finish(claimed.segment, record)
                except Exception as failure:  # the others go on
                    error = failure
            ended(claimed, error)

        if orders:
            self.execution.train_stack(orders, _write_rows, report)

    def _record_of(self, run_id: str) -> RunRecord | None:
        """The record of a run that is published already; one that is damaged is set aside."""
        damage = self.store.set_aside_damage(run_id)
        if damage is not None:
            sys.stderr.write(f"warning: {damage}\n")
        return self.store.find_record(run_id)

    def _train_run(self, claimed: Claimed, config: RunConfig) -> RunRecord:
        """Train a run to its budget, from its shared prefix where it has one; its published record, whoever won."""
        began, order = time.time(), self._order(claimed, config)
        self.execution.ranks.broadcast(order)
        trained = self.execution.train_run(order, partial(_write_rows, order.folder))
        return self._publish(claimed, order, trained, began=began)

    def _order(self, claimed: Claimed, config: RunConfig) -> Order:
        """What to train of a claimed run, from where, and what to keep."""
        segment, folder = claimed.segment, self.store.run_folder(claimed.segment.run_id)
        keep = None
        if segment.prefix is not None and segment.keep_step is not None:
            keep = (segment.keep_step, checkpoint_path(self.store, segment.prefix, segment.keep_step))
        return Order(
            config=config,
            folder=folder,
            start=claimed.start,
            micro_batch=self._micro_batch(config, claimed),
            keep=keep,
            weights=folder / f"{UNPUBLISHED}{claimed.attempt}" if self.keep_weights else None,
        )

    def _publish(
        self,
        claimed: Claimed,
        order: Order,
        trained: TrainedRun,
        *,
        began: float,
        more: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Publish the record of a trained run, with more facts of its execution; the one that is there, whoever won."""
        config, run_id = order.config, claimed.segment.run_id
        corpus = self.execution.corpus(config)
        facts = self.execution.facts(config, attempt=claimed.attempt, began=began, micro_batch=order.micro_batch)
        facts |= {"shared_steps": trained.shared_steps, **(more or {})}
        if order.weights is not None:
            facts["weights_sha256"] = file_digest(order.weights)
        settle(order.folder, corpus)
        record = RunRecord(
            run_id=run_id,
            status=RunStatus.DONE,
            config=canonical(config),
            design=design_of(config, num_train_tokens=corpus.num_train_tokens),
            outcome=measured(trained.outcome, corpus, config),
            execution=facts,
        )
        if self.store.publish(record):
            return record
        return self.store.find_record(run_id) or record

    def _finish(self, segment: Segment, record: RunRecord) -> None:
        """Put the weights of the published record in their place, and remove what nobody goes on from."""
        folder = self.store.run_folder(segment.run_id)
        place_weights(folder, record)
        for path in folder.glob(f"{UNPUBLISHED}*"):
            remove(path)
        remove_own(own_checkpoint(self.store, segment.run_id))
        if segment.prefix is not None:
            drop_unneeded(self.store, segment.prefix)

    def _micro_batch(self, config: RunConfig, claimed: Claimed) -> int:
        """Sequences that a rank holds at a time; MemoryError when fewer than one would be needed."""
        size, chosen = self.execution.ranks.size, self.execution.choices_of(config).micro_batch
        if claimed.num_ooms and micro_batch_of(config, claimed.num_ooms - 1, size, chosen) == 1:
            raise MemoryError("the attempt before was killed for want of memory with one sequence at a time")
        return micro_batch_of(config, claimed.num_ooms, size, chosen)

    def _train_prefix(self, claimed: Claimed, config: RunConfig) -> None:
        """Train a segment of a shared prefix and leave its checkpoint behind."""
        segment = claimed.segment
        prefix = str(segment.prefix)
        folder = prefix_folder(self.store, prefix)
        folder.mkdir(parents=True, exist_ok=True)
        keep = (segment.end_step, checkpoint_path(self.store, prefix, segment.end_step))
        order = Order(
            config=config,
            folder=folder,
            start=claimed.start,
            micro_batch=self._micro_batch(config, claimed),
            keep=keep,
            is_prefix=True,
        )
        self.execution.ranks.broadcast(order)
        self.execution.train_prefix(order, partial(_write_rows, folder))
        remove_own(prefix_target(config, folder, keep).checkpoint)
        drop_unneeded(self.store, prefix)


def check_semantics(config: AnyRun) -> None:
    """Refuse a run that was planned for another meaning of its config than this code has.

    Parameters
    ----------
    config : RunConfig or FinetuneRun
        The run.

    Raises
    ------
    UserError
        When its semantics_version is not this code's.
    """
    current = SEMANTICS_VERSION if isinstance(config, RunConfig) else TUNING_VERSION
    if config.semantics_version != current:
        raise UserError(
            f"this sweep was planned by code of semantics_version {config.semantics_version} and this code has "
            f"{current}, which trains the same config to another result; run the sweep's YAML again to plan "
            "it for this code, or go back to the code that planned it"
        )


def _write_rows(folder: Path, rows: Sequence[Row]) -> None:
    append_rows(folder / "metrics.jsonl", [checked_row(row) for row in rows])
