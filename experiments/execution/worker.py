"""One long-lived worker: claim a segment, train it in this process, publish its record; again, until none is left.

Owns the loop. Of several ranks that train together, rank 0 does all this and gives the others their
orders. It must not know who started it: the launcher, Slurm or a person at a shell.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from experiments.data.cache import Cache
from experiments.distributed.ranks import ALONE, Ranks
from experiments.errors import UserError
from experiments.execution.engine import END, WAIT, Execution, is_peer_lost
from experiments.execution.heartbeat import Heartbeat
from experiments.execution.queue import Claimed, Limits, SegmentQueue
from experiments.execution.retries import Ending, EndingWriter, ending_of
from experiments.execution.segments import SegmentTrainer
from experiments.execution.supervisor import ExitStatus
from experiments.execution.tuning import Bodies, TuningTrainer
from experiments.machine.choices import ExecutionChoices, default_threads
from experiments.machine.hardware import current_memory_bytes, free_memory, tune_allocator
from experiments.machine.liveness import EXPIRY_SECONDS, HeartbeatWatch, end_with_parent, identify
from experiments.manifests import Segment
from experiments.records import RunStatus
from experiments.store.store import RunStore

LISTEN_SECONDS = 0.5
"""Time between two looks at what others train, while nothing is free."""
STALL_SECONDS = 3600.0
"""How long a training may take no step: it may build the tokens of a large corpus first."""


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
    stall_seconds: float = STALL_SECONDS
    """How long a training may take no step before its worker is ended as hung."""
    execution: ExecutionChoices = field(default_factory=ExecutionChoices)
    """What the sweep forces of how its runs are executed."""
    profile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Shape -> what measured times decided of how its runs are executed."""
    linger: bool = True
    """Wait while others train, to take up what they lose; without it, end when nothing is free."""
    num_workers: int = 1
    """Workers that share the segments: one that trains several runs together leaves the others their part."""
    stop_at_failure: bool = False
    """End after a run that was recorded as failed or diverged."""


@dataclass
class Worker:
    """One worker over one list of segments."""

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
        options, self._usage = self.options, Usage()
        self._execution = Execution(
            device=options.device,
            ranks=self.ranks,
            checkpoint_seconds=options.checkpoint_seconds,
            should_stop=lambda name: self._heart.step(name),
            cache=self.cache,
            choices=options.execution,
            profile=options.profile,
        )
        tuning = TuningTrainer(
            store=self.store,
            execution=self._execution,
            keep_weights=options.keep_weights,
            bodies=Bodies(self.store, self.cache),
        )
        self._trainer = SegmentTrainer(
            store=self.store, execution=self._execution, keep_weights=options.keep_weights, tuning=tuning
        )
        self._endings = EndingWriter(store=self.store, execution=self._execution, max_failures=options.max_failures)
        self._heart = Heartbeat(
            claims=self.store.claims,
            ranks=self.ranks,
            write_ending=self._endings.write,
            parent=options.parent,
            stall_seconds=options.stall_seconds,
        )
        self._queue = SegmentQueue(
            store=self.store,
            segments=self.segments,
            limits=Limits(max_failures=options.max_failures, max_losses=options.max_losses),
            watch=HeartbeatWatch(options.expiry_seconds),
            owner=identify(),
            on_exhausted=self._endings.give_up,
            fits=self._fits,
        )

    def stop(self) -> None:
        """Ask the worker to checkpoint and end."""
        self._heart.stop()

    def work(self) -> int:
        """Take segments until none is left.

        Returns
        -------
        int
            An `ExitStatus`.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heart.stop)
        if self.options.parent is not None:
            end_with_parent(self.options.parent)
        tune_allocator()
        torch.set_num_threads(self.options.execution.threads or default_threads(self.options.device))
        self.ranks.join(self.options.device)
        if self.ranks.rank:
            return self._follow()
        try:
            status, others_listen = self._lead()
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            status, others_listen = ExitStatus.REFUSED, True
        except RuntimeError as error:
            if not is_peer_lost(error):
                raise
            return ExitStatus.RESTART  # a rank vanished while there was nothing to train
        if others_listen:
            self.ranks.broadcast(END)
            self.ranks.leave()
        return status

    def _follow(self) -> int:
        """Do what rank 0 says; the status says nothing where all went well: the worker's is rank 0's."""
        if not self._execution.follow():
            return ExitStatus.RESTART
        self.ranks.leave()
        return ExitStatus.DONE

    def _lead(self) -> tuple[ExitStatus, bool]:
        """Take what is free until nothing is left: (exit status, whether the other ranks wait for a word).

        After a failure they do not: they wait for sums that will not come, and end when this process has.
        """
        while not self._heart.stopping:
            claimed, waiting = self._queue.take()
            if claimed is not None:
                alike = [] if self.ranks.many else self._queue.take_alike(claimed, self.options.num_workers)
                ending = self._execute_stack([claimed, *alike]) if alike else self._execute(claimed)
                if self.ranks.many and ending.breaks_group:
                    return ending.exit_status or ExitStatus.RESTART, False
                if ending.exit_status is not None:
                    return ending.exit_status, True
                if self.options.stop_at_failure and any(map(self._has_failed, [claimed, *alike])):
                    return ExitStatus.STOPPED, True
                if self._usage.is_spent(self.options, 1 + len(alike)):
                    return ExitStatus.RESTART, True
            elif waiting and self.options.linger:
                self._heart.wait(LISTEN_SECONDS)  # others train; look again for what they lose
                self.ranks.broadcast(WAIT)
            else:
                return ExitStatus.DONE, True
        return ExitStatus.STOPPED, True

    def _execute(self, claimed: Claimed) -> Ending:
        """Train one claimed segment and write down how it ended."""
        with self._heart.beating(claimed):
            try:
                self._trainer.train(claimed)
                ending = self._ending(None)
            except Exception as error:  # written down with its traceback, counted, and tried again up to the limit
                ending = self._ending(error)
        self._give_memory_back(ending)
        self._endings.write(claimed, ending)
        return ending

    def _execute_stack(self, claims: Sequence[Claimed]) -> Ending:
        """Train claimed runs together and write down how each ended; the ending that says most for this process."""
        endings: list[Ending] = []
        left = list(claims)

        def end(claimed: Claimed, ending: Ending) -> None:
            left.remove(claimed)
            endings.append(ending)
            self._endings.write(claimed, ending)

        with contextlib.ExitStack() as beats:
            for claimed in claims:
                beats.enter_context(self._heart.beating(claimed))
            try:
                self._trainer.train_stack(claims, lambda claimed, error: end(claimed, self._ending(error)))
                failure = self._ending(None)
            except Exception as error:  # of all that have not ended: each is tried again alone
                failure = self._ending(error)
            self._give_memory_back(failure)
            for claimed in tuple(left):
                end(claimed, failure)
        return next((ending for ending in endings if ending.exit_status is not None), endings[-1])

    def _ending(self, error: Exception | None) -> Ending:
        """What an error means; a user's mistake is said."""
        if isinstance(error, UserError):
            sys.stderr.write(f"error: {error}\n")
        return ending_of(error, in_group=self.ranks.many)

    def _give_memory_back(self, ending: Ending) -> None:
        if ending.status == RunStatus.OOM:
            free_memory(self.options.device)

    def _has_failed(self, claimed: Claimed) -> bool:
        """Whether the run that was just executed has a record that says failed or diverged."""
        record = self.store.find_record(claimed.segment.run_id)
        return record is not None and record.status in (RunStatus.FAILED, RunStatus.DIVERGED)

    def _fits(self, segment: Segment) -> bool:
        """Whether the device holds the segment now, beside what others have there; a CPU always tries."""
        if self.options.device != "cuda" or segment.memory_bytes == 0:
            return True
        free, whole = torch.cuda.mem_get_info()
        own = torch.cuda.memory_reserved()  # given back before anything is trained
        needed = segment.memory_bytes / (self.ranks.size if self.ranks.strategy == "fsdp" else 1)
        return needed <= free + own or free + own > 0.9 * whole


@dataclass
class Usage:
    """What this process has done since it began, and how its memory has grown."""

    num_runs: int = 0
    """Segments trained."""
    first_memory: int | None = None
    """Resident bytes after the first of them."""

    def is_spent(self, options: WorkerOptions, num_runs: int = 1) -> bool:
        """Count more segments; whether a fresh process is to take over.

        Parameters
        ----------
        options : WorkerOptions
            Runs and growth up to which a process stays.
        num_runs : int
            Segments that were trained since the last call.
        """
        self.num_runs += num_runs
        memory = current_memory_bytes()
        self.first_memory = self.first_memory or memory
        return memory - self.first_memory > options.max_growth_bytes or self.num_runs >= options.max_runs
