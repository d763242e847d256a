"""One long-lived worker: claim a segment, train it in this process, publish its record; again, until none is left.

Owns heartbeats and retries. Of several ranks that train together, rank 0 does all this and gives the others their
orders. It must not know who started it: the local driver, Slurm or a person at a shell.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiments.config.counts import design_of
from experiments.config.run import RunConfig, canonical
from experiments.data.cache import Cache
from experiments.data.corpus import TokenCorpus, bits_per_byte
from experiments.distributed.ranks import ALONE, Ranks, Trouble
from experiments.errors import UserError
from experiments.execution.engine import END, WAIT, Execution, Order, is_parting
from experiments.execution.exit_status import EXIT_REFUSED, EXIT_RESTART, EXIT_STOPPED
from experiments.execution.queue import Claimed, Limits, SegmentQueue
from experiments.files import append_rows, write_atomic
from experiments.machine.hardware import current_memory_bytes, tune_allocator
from experiments.machine.liveness import (
    EXPIRY_SECONDS,
    HEARTBEAT_SECONDS,
    HeartbeatWatch,
    end_with_parent,
    identify,
    parent_lost,
)
from experiments.manifests import Segment
from experiments.records import RunRecord, RunStatus
from experiments.store.checkpoints import checkpoint_path, drop_unneeded, prefix_folder
from experiments.store.claims import RunState
from experiments.store.store import RunStore
from experiments.training.checkpointing import save_weights
from experiments.training.job import Diverged, Interrupted, Outcome, TrainingJob


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker behaves; none of it changes a result."""

    device: str = "cpu"
    """cpu or cuda; which GPU is decided by CUDA_VISIBLE_DEVICES."""
    parent: int | None = None
    """Process id that this worker ends with; None: nobody's."""
    checkpoint_seconds: float = 60.0
    """Time between mid-run checkpoints."""
    max_failures: int = 3
    """Errors after which a run is recorded as failed."""
    max_losses: int = 20
    """Vanished workers (kill -9, out of memory) after which a run is recorded as failed."""
    max_runs: int = 500
    """Runs after which a fresh process takes over."""
    max_growth_bytes: int = 1 << 30
    """Growth of resident memory since the first run after which a fresh process takes over."""
    expiry_seconds: float = EXPIRY_SECONDS
    """How long a heartbeat on another machine may stand still."""
    keep_weights: bool = True
    """Keep the weights of finished runs as weights.safetensors."""
    linger: bool = True
    """Wait while others train, to take up what they lose; without it, end when nothing is free."""


@dataclass
class Worker:
    """One worker over one list of runs."""

    store: RunStore
    """Where everything is."""
    segments: Sequence[Segment]
    """What there is to train, in the order in which it is to be taken."""
    options: WorkerOptions = field(default_factory=WorkerOptions)
    """Behaviour."""
    cache: Cache = field(default_factory=Cache)
    """Token cache."""
    ranks: Ranks = ALONE
    """Who trains with it; rank 0 is the worker, and the others do what it says."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._queue = SegmentQueue(
            store=self.store,
            segments=self.segments,
            limits=Limits(max_failures=self.options.max_failures, max_losses=self.options.max_losses),
            watch=HeartbeatWatch(self.options.expiry_seconds),
            owner=identify(),
            on_exhausted=self._record_exhausted,
            fits=self._fits,
        )
        self._execution = Execution(
            device=self.options.device,
            ranks=self.ranks,
            checkpoint_seconds=self.options.checkpoint_seconds,
            should_stop=self._stop.is_set,
            cache=self.cache,
        )
        self._others_train = False
        self._first_memory: int | None = None
        self._num_runs = 0

    def stop(self, *_: Any) -> None:
        """Ask the worker to checkpoint and end; a signal handler."""
        self._stop.set()

    def work(self) -> int:
        """Take runs until none is left; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        if self.options.parent is not None:
            end_with_parent(self.options.parent)
        tune_allocator()
        torch.set_num_threads(1 if self.options.device == "cpu" else 4)
        self.ranks.join(self.options.device)
        if self.ranks.rank:
            return self._follow()
        try:
            status = self._lead()
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            status = EXIT_REFUSED
        except RuntimeError as error:
            if not is_parting(error):
                raise
            return EXIT_RESTART  # a rank vanished while there was nothing to train
        if self._others_train:  # they wait for sums that will not come, and end when this process has
            return status
        self.ranks.broadcast(END)
        self.ranks.leave()
        return status

    def _lead(self) -> int:
        """Take what is free until nothing is left; the exit status."""
        while not self._stop.is_set():
            claimed, waiting = self._queue.take()
            if claimed is None:
                if not (waiting and self.options.linger):
                    return 0
                self._stop.wait(0.5)  # others train; look again for what they lose
                self._end_without_parent()
                self.ranks.broadcast(WAIT)
                continue
            status = self._execute(claimed)
            if status is not None:
                return status
        return EXIT_STOPPED

    def _follow(self) -> int:
        """Do what rank 0 says; the exit status, which says nothing where all went well: the worker's is rank 0's."""
        if not self._execution.follow():
            return EXIT_RESTART
        self.ranks.leave()
        return 0

    def _end_without_parent(self) -> None:
        if self.options.parent is not None and parent_lost(self.options.parent):
            self._stop.set()

    def _fits(self, segment: Segment) -> bool:
        """Whether the device holds the segment now, beside what others have there; a CPU always tries."""
        if self.options.device != "cuda" or segment.memory_bytes == 0:
            return True
        free, whole = torch.cuda.mem_get_info()
        own = torch.cuda.memory_reserved()  # given back before anything is trained
        needed = segment.memory_bytes / (self.ranks.size if self.ranks.strategy == "fsdp" else 1)
        return needed <= free + own or free + own > 0.9 * whole

    def _record_exhausted(self, run_id: str, state: RunState) -> None:
        """Publish as failed a run whose retries are used up, unless that was done."""
        if not self.store.record_path(run_id).exists():
            counts = ", ".join(
                f"{state.endings.count(name)} {name}"
                for name in (RunStatus.FAILED, RunStatus.LOST)
                if name in state.endings
            )
            self._publish_failure(
                run_id, state.attempts, RunStatus.FAILED, f"its retries are used up ({counts}); see error.txt"
            )

    @contextlib.contextmanager
    def _heartbeat(self, claimed: Claimed) -> Iterator[None]:
        """Let the claim grow while the run is trained, and hear of trouble on other ranks."""
        over, run_id, attempt = threading.Event(), claimed.segment.segment_id, claimed.attempt

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):  # a full disk is met, and told, by the training itself
                    self.store.claims.beat(run_id, attempt)
                self._end_without_parent()
                if (trouble := self.ranks.trouble()) is not None:
                    self._abandon(claimed, trouble)

        thread = threading.Thread(target=beat, name=f"heartbeat {run_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # -- one run -------------------------------------------------------------------------------------------------------

    def _execute(self, claimed: Claimed) -> int | None:
        """Train one claimed segment and write down how it ended; an exit status when the worker is to end."""
        ending, reason, status = RunStatus.DONE, None, None
        name, attempt, segment = claimed.segment.segment_id, claimed.attempt, claimed.segment
        with self._heartbeat(claimed):
            try:
                if segment.is_prefix:
                    self._train_stretch(claimed)
                elif self.store.read_record(segment.run_id) is None:
                    self._train(claimed)
            except Interrupted as stop:
                ending, reason, status = RunStatus.INTERRUPTED, str(stop), EXIT_STOPPED
            except Diverged as stop:
                ending, reason = RunStatus.DIVERGED, str(stop)
                if not segment.is_prefix:
                    self._publish_failure(segment.run_id, attempt, RunStatus.DIVERGED, reason)
            except UserError:
                self.store.claims.end(name, attempt, RunStatus.INTERRUPTED, "the worker stopped: see its message")
                raise
            except (torch.OutOfMemoryError, MemoryError):
                ending, reason = self._out_of_memory(claimed, traceback.format_exc())
                if self.options.device == "cuda":
                    torch.cuda.empty_cache()
            except Exception as error:  # recorded with its traceback, counted, and tried again up to the limit
                if self.ranks.many and is_parting(error):
                    ending, reason = (
                        RunStatus.LOST,
                        "one of its processes vanished (killed, out of memory, or its machine went down)",
                    )
                else:
                    ending, reason = RunStatus.FAILED, f"{type(error).__name__}: {error}".splitlines()[0]
                    self._fail(claimed, reason, traceback.format_exc())
                if isinstance(error, torch.AcceleratorError if hasattr(torch, "AcceleratorError") else ()):
                    status = EXIT_RESTART
        self.store.claims.end(name, attempt, ending, reason)
        if self.ranks.many and ending in (RunStatus.OOM, RunStatus.FAILED, RunStatus.LOST):
            return EXIT_RESTART
        self._others_train = False
        return status if status is not None else self._wants_restart()

    def _abandon(self, claimed: Claimed, trouble: Trouble) -> None:
        """Write down what another rank cannot go on from, and end this process: its main thread may wait for ever."""
        ending, reason, status = RunStatus.INTERRUPTED, "the worker stopped: see its message", EXIT_REFUSED
        try:
            if trouble.ending == RunStatus.OOM:
                (ending, reason), status = self._out_of_memory(claimed, trouble.trace), EXIT_RESTART
            elif trouble.ending == RunStatus.FAILED:
                ending, reason, status = RunStatus.FAILED, f"rank {trouble.rank}: {trouble.reason}", EXIT_RESTART
                self._fail(claimed, reason, trouble.trace)
            self.store.claims.end(claimed.segment.segment_id, claimed.attempt, ending, reason)
            self.ranks.heard()
        except Exception:  # the process ends either way
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(status)

    def _fail(self, claimed: Claimed, reason: str, trace: str) -> None:
        """Keep the traceback of a failure; publish the run as failed when it was the last that is allowed."""
        segment, name = claimed.segment, claimed.segment.segment_id
        self._write_error(segment, trace)
        failures = self.store.claims.states()[name].endings.count(RunStatus.FAILED) + 1
        if failures >= self.options.max_failures and not segment.is_prefix:
            self._publish_failure(
                name, claimed.attempt, RunStatus.FAILED, f"{reason} ({failures} attempts; see error.txt)"
            )

    def _write_error(self, segment: Segment, trace: str) -> None:
        folder = prefix_folder(self.store, str(segment.prefix)) if segment.is_prefix else None
        write_atomic((folder or self.store.run_folder(segment.run_id)) / "error.txt", trace)

    def _out_of_memory(self, claimed: Claimed, trace: str) -> tuple[RunStatus, str]:
        """(ending, reason) of an attempt that memory did not suffice for; the next one takes half the micro-batch."""
        segment = claimed.segment
        self._write_error(segment, trace)
        held = self._micro_batch(self.store.read_config(segment.run_id), claimed.num_ooms)
        if held > 1:
            return RunStatus.OOM, f"out of memory with {held} sequences at a time; the next attempt takes {held // 2}"
        error = trace.strip().splitlines()[-1].partition(":")[0]
        reason = f"out of memory with one sequence at a time ({error}); see error.txt"
        if not segment.is_prefix:
            self._publish_failure(segment.run_id, claimed.attempt, RunStatus.FAILED, reason)
        return RunStatus.FAILED, reason

    def _micro_batch(self, config: RunConfig, num_ooms: int) -> int:
        """Sequences that a rank holds at a time after so many attempts that ran out of memory."""
        return max(1, -(-config.batch_sequences // self.ranks.size) >> num_ooms)

    def _wants_restart(self) -> int | None:
        self._num_runs += 1
        memory = current_memory_bytes()
        self._first_memory = self._first_memory or memory
        grown = memory - self._first_memory > self.options.max_growth_bytes
        return EXIT_RESTART if grown or self._num_runs >= self.options.max_runs else None

    def _job(self, claimed: Claimed, config: RunConfig, folder: Path, **more: Any) -> TrainingJob:
        """The training of one segment, ordered of every rank."""
        order = Order(
            config=config,
            folder=folder,
            start=claimed.start,
            micro_batch=self._micro_batch(config, claimed.num_ooms),
            **more,
        )
        self._others_train = self.ranks.many
        self.ranks.broadcast(order)
        return self._execution.job(order, lambda rows: append_rows(folder / "metrics.jsonl", rows))

    def _train_stretch(self, claimed: Claimed) -> None:
        """Train a stretch of a trunk and leave its checkpoint behind."""
        segment, config = claimed.segment, self.store.read_config(claimed.segment.run_id)
        trunk, step = str(segment.prefix), segment.end_step
        prefix_folder(self.store, trunk).mkdir(parents=True, exist_ok=True)
        path = checkpoint_path(self.store, trunk, step)
        job = self._job(claimed, config, prefix_folder(self.store, trunk), stretch=(step, path))
        job.run_stretch(path)
        job.checkpoint_path.unlink(missing_ok=True)
        drop_unneeded(self.store, trunk)

    def _train(self, claimed: Claimed) -> None:
        """Train a run to its budget, from its trunk where it has one, and publish its record."""
        began, segment, run_id = time.time(), claimed.segment, claimed.segment.run_id
        config = self.store.read_config(run_id)
        keep = None
        if segment.prefix is not None and segment.keep_step is not None:
            keep = (segment.keep_step, checkpoint_path(self.store, segment.prefix, segment.keep_step))
        folder = self.store.run_folder(run_id)
        weights = folder / "weights.safetensors" if self.options.keep_weights else None
        job = self._job(claimed, config, folder, keep=keep, weights=weights)
        outcome, lit = job.run()
        if weights is not None:
            save_weights(weights, lit, self.ranks)
        execution = self._execution.facts(config, attempt=claimed.attempt, began=began)
        execution |= {"shared_steps": job.shared_steps, "micro_batch": job.micro_batch}
        record = RunRecord(
            run_id=run_id,
            status=RunStatus.DONE,
            config=canonical(config),
            design=design_of(config, num_train_tokens=job.corpus.num_train_tokens),
            outcome=_measured(outcome, job.corpus, config),
            execution=execution,
        )
        self.store.publish(record)
        job.checkpoint_path.unlink(missing_ok=True)
        if segment.prefix is not None:
            drop_unneeded(self.store, segment.prefix)

    def _publish_failure(self, run_id: str, attempt: int, status: RunStatus, reason: str) -> None:
        config = self.store.read_config(run_id)
        corpus = self._execution.corpus(config)
        rows = self.store.read_metrics(run_id)
        last = {key: rows[-1][key] for key in ("step", "train_loss", "lr")} if rows else {}
        self.store.publish(
            RunRecord(
                run_id=run_id,
                status=status,
                reason=reason,
                config=canonical(config),
                design=design_of(config, num_train_tokens=corpus.num_train_tokens),
                outcome={f"last_{key}": value for key, value in last.items()},
                execution=self._execution.facts(config, attempt=attempt, began=time.time()),
            )
        )


def _measured(outcome: Outcome, corpus: TokenCorpus, config: RunConfig) -> dict[str, Any]:
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
