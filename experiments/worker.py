"""One long-lived worker: claim the next run, train it in this process, publish its record; again, until none is left.

Owns claims, heartbeats, retries and what a record says of its execution. It must not know who started it: the local
driver, Slurm or a person at a shell.
"""

from __future__ import annotations

import contextlib
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
from lightning.fabric import Fabric

from experiments.callbacks import peak_memory_bytes
from experiments.config import FABRIC_PRECISION, RunConfig, canonical
from experiments.data.corpus import TokenCorpus, bits_per_byte, check_budget, prepare
from experiments.describe import design_of
from experiments.devices import cpu_name
from experiments.errors import UserError
from experiments.hardware import current_memory_bytes, peak_flops_per_second, tune_allocator, versions
from experiments.liveness import (
    EXPIRY_SECONDS,
    HEARTBEAT_SECONDS,
    HeartbeatWatch,
    alive,
    end_with_parent,
    identify,
    parent_lost,
)
from experiments.records import RunRecord
from experiments.store import RunState, RunStore, write_atomic
from experiments.training import Diverged, Interrupted, Outcome, TrainingJob, save_weights
from models.attention import attention_backend

EXIT_STOPPED = 4
"""Exit status of a worker that was told to stop."""
EXIT_REFUSED = 3
"""Exit status after a problem that no other run would escape: disk, store, changed data. Its message is one
sentence."""
EXIT_RESTART = 75
"""Exit status that asks for a fresh process: many runs done, memory grown, or a CUDA error."""


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
    run_ids: Sequence[str]
    """Runs in the order in which they are to be taken."""
    options: WorkerOptions = field(default_factory=WorkerOptions)
    """Behaviour."""
    cache_dir: Path | None = None
    """Token cache."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._watch = HeartbeatWatch(self.options.expiry_seconds)
        self._corpora: dict[Any, TokenCorpus] = {}
        self._fabrics: dict[str, Fabric] = {}
        self._identity = identify()
        self._first_memory: int | None = None
        self._num_runs = 0
        self._changed = threading.Condition()

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
        try:
            while not self._stop.is_set():
                claimed, waiting = self._claim_next()
                if claimed is None:
                    if not (waiting and self.options.linger):
                        return 0
                    self._stop.wait(0.5)  # others train; look again for what they lose
                    self._end_without_parent()
                    continue
                status = self._execute(*claimed)
                if status is not None:
                    return status
            return EXIT_STOPPED
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            return EXIT_REFUSED

    def _end_without_parent(self) -> None:
        if self.options.parent is not None and parent_lost(self.options.parent):
            self._stop.set()

    # -- claims --------------------------------------------------------------------------------------------------------

    def _claim_next(self) -> tuple[tuple[str, int] | None, bool]:
        """Claim the first free run; (run and attempt or None, whether some run is still being trained by others)."""
        states, waiting = self.store.states(), False
        for run_id in self.run_ids:
            state = states.get(run_id, RunState())
            if state.published:
                continue
            if state.running and not give_up_if_lost(self.store, run_id, state, self._watch):
                waiting = True
                continue
            if state.exhausted(**self._limits):
                self._record_exhausted(run_id, state)
                continue
            attempt = state.attempts + 1
            if self.store.claim(run_id, attempt, self._identity):
                return (run_id, attempt), waiting
            waiting = True
        return None, waiting

    @property
    def _limits(self) -> dict[str, int]:
        return {"max_failures": self.options.max_failures, "max_losses": self.options.max_losses}

    def _record_exhausted(self, run_id: str, state: RunState) -> None:
        """Publish as failed a run whose retries are used up, unless that was done."""
        if not self.store.record_path(run_id).exists():
            counts = ", ".join(
                f"{state.endings.count(name)} {name}" for name in ("failed", "lost") if name in state.endings
            )
            self._publish_failure(
                run_id, state.attempts, "failed", f"its retries are used up ({counts}); see error.txt"
            )

    @contextlib.contextmanager
    def _heartbeat(self, run_id: str, attempt: int) -> Iterator[None]:
        """Let the claim grow while the run is trained."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):  # a full disk is met, and told, by the training itself
                    self.store.beat(run_id, attempt)
                self._end_without_parent()

        thread = threading.Thread(target=beat, name=f"heartbeat {run_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # -- one run -------------------------------------------------------------------------------------------------------

    def _execute(self, run_id: str, attempt: int) -> int | None:
        """Train one claimed run and write down how it ended; an exit status when the worker is to end."""
        ending, reason, status = "done", None, None
        with self._heartbeat(run_id, attempt):
            try:
                if self.store.read_record(run_id) is None:
                    self._train(run_id, attempt)
            except Interrupted as stop:
                ending, reason, status = "interrupted", str(stop), EXIT_STOPPED
            except Diverged as stop:
                ending, reason = "diverged", str(stop)
                self._publish_failure(run_id, attempt, "diverged", reason)
            except UserError:
                self.store.end(run_id, attempt, "interrupted", "the worker stopped: see its message")
                raise
            except Exception as error:  # recorded with its traceback, counted, and tried again up to the limit
                ending, reason = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
                write_atomic(self.store.run_folder(run_id) / "error.txt", traceback.format_exc())
                if isinstance(error, torch.AcceleratorError if hasattr(torch, "AcceleratorError") else ()):
                    status = EXIT_RESTART
                failures = self.store.states()[run_id].endings.count("failed") + 1
                if failures >= self.options.max_failures:
                    self._publish_failure(run_id, attempt, "failed", f"{reason} ({failures} attempts; see error.txt)")
        self.store.end(run_id, attempt, ending, reason)
        return status if status is not None else self._wants_restart()

    def _wants_restart(self) -> int | None:
        self._num_runs += 1
        memory = current_memory_bytes()
        self._first_memory = self._first_memory or memory
        grown = memory - self._first_memory > self.options.max_growth_bytes
        return EXIT_RESTART if grown or self._num_runs >= self.options.max_runs else None

    def _train(self, run_id: str, attempt: int) -> None:
        began = time.time()
        config = self.store.read_config(run_id)
        corpus = self._corpus(config)
        check_budget(config.data, corpus, config.tokens)
        fabric = self._fabric(config.precision)
        job = TrainingJob(
            config=config,
            corpus=corpus,
            folder=self.store.run_folder(run_id),
            fabric=fabric,
            write_rows=lambda rows: self.store.append_metrics(run_id, rows),
            should_stop=self._stop.is_set,
            checkpoint_seconds=self.options.checkpoint_seconds,
            peak_flops_per_second=peak_flops_per_second(self.options.device, config.precision),
        )
        outcome, lit = job.run()
        if self.options.keep_weights:
            save_weights(job.folder / "weights.safetensors", lit)
        record = RunRecord(
            run_id=run_id,
            status="done",
            config=canonical(config),
            design=design_of(config, num_train_tokens=corpus.num_train_tokens),
            outcome=_measured(outcome, corpus, config),
            execution=self._execution(config, attempt, began),
        )
        self.store.publish(record)
        job.checkpoint_path.unlink(missing_ok=True)

    def _publish_failure(self, run_id: str, attempt: int, status: str, reason: str) -> None:
        config = self.store.read_config(run_id)
        corpus = self._corpus(config)
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
                execution=self._execution(config, attempt, time.time()),
            )
        )

    def _corpus(self, config: RunConfig) -> TokenCorpus:
        key = canonical(config)["data"]
        key = tuple(sorted((name, str(value)) for name, value in key.items()))
        if key not in self._corpora:
            if len(self._corpora) >= 8:
                self._corpora.clear()
            self._corpora[key] = prepare(config.data, self.cache_dir)
        return self._corpora[key]

    def _fabric(self, precision: str) -> Fabric:
        if precision not in self._fabrics:
            self._fabrics[precision] = Fabric(
                accelerator=self.options.device,
                devices=1,
                precision=FABRIC_PRECISION[precision],
            )
            self._fabrics[precision].launch()
        return self._fabrics[precision]

    def _execution(self, config: RunConfig, attempt: int, began: float) -> dict[str, Any]:
        device = self.options.device
        return {
            "device": device,
            "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
            "threads": torch.get_num_threads(),
            "precision": config.precision,
            "attention_backend": attention_backend(
                device, torch.bfloat16 if config.precision == "bf16" else torch.float32
            ),
            "micro_batch": config.batch_sequences,
            "world_size": 1,
            "trunk": None,
            "attempts": attempt,
            "began_unix_seconds": round(began, 3),
            "peak_flops_per_second": peak_flops_per_second(device, config.precision),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes(),
            "versions": versions(),
        }


def give_up_if_lost(store: RunStore, run_id: str, state: RunState, watch: HeartbeatWatch) -> bool:
    """Write down as lost the latest attempt of a run whose worker has vanished; whether it had.

    On this machine the process is asked for; on another one its heartbeat must have stood still for the watch's expiry.
    """
    if state.heartbeat is None:
        return False
    owner = store.owner(run_id, state.attempts)
    living = None if owner is None else alive(owner)
    key = f"{run_id}.{state.attempts}"
    lost = living is False or (living is None and watch.stalled(key, state.heartbeat))
    if lost:
        store.end(
            run_id, state.attempts, "lost", "the worker vanished (killed, out of memory, or its machine went down)"
        )
    return lost


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
