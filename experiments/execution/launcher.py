"""Train a sweep on this machine: start workers, replace those that end, show the live table.

Owns the loop over the processes of `local_workers`. The truth is in the store: this process can be killed at any moment
and started again. Torch-free.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError
from experiments.execution.exit_status import ExitStatus
from experiments.execution.local_workers import LocalWorker, LocalWorkers
from experiments.machine.devices import Device
from experiments.machine.liveness import HeartbeatWatch
from experiments.records import SETTLED_STATUSES, RunStatus
from experiments.status.progress import ProgressReader, SweepProgress
from experiments.status.tables import progress_line, progress_table
from experiments.store.store import RunStore

MAX_EARLY_ENDS = 3
"""Workers that may end in a row, with an error and without finishing anything, before the launcher gives up."""


@dataclass
class Launcher:
    """Runs one sweep to its end on this machine."""

    store: RunStore
    """The store."""
    reader: ProgressReader
    """Reads progress."""
    workers: LocalWorkers
    """The worker processes."""
    devices: Sequence[Device]
    """One worker for each."""
    stop_at_failure: bool = False
    """Whether the first run that fails or diverges ends the sweep."""
    refresh_seconds: float = 0.5
    """Time between two looks."""
    line_seconds: float = 30.0
    """Time between two lines where the output is no terminal."""

    def __post_init__(self) -> None:
        self._wake = threading.Event()
        self._interrupted = False
        self._early_ends = 0
        self._watch = HeartbeatWatch()

    def run(self) -> SweepProgress:
        """Start workers and stay until every run is settled.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C or SIGTERM, when all workers have written their checkpoints.
        UserError
            When a worker met a problem that no other run would escape.
        """
        progress = self.reader.read()
        if progress.settled == len(progress.runs):
            return progress
        failed_before = _failed(progress)
        with self._signals(), self._display() as show:
            try:
                self._fill(progress)
                while True:
                    progress = self.reader.read()
                    show(progress)
                    over = self.stop_at_failure and _failed(progress) > failed_before
                    if progress.settled == len(progress.runs) or self._interrupted or over:
                        break
                    self._wake.wait(self.refresh_seconds)
                    self._wake.clear()
                    for worker in self.workers.reap():
                        self._ended(worker, progress)
                    self._fill(progress)
            finally:
                self.workers.stop()
            progress = self.reader.read()
            show(progress)
        if self._interrupted:
            raise KeyboardInterrupt
        return progress

    def _fill(self, progress: SweepProgress) -> None:
        """Keep one worker on each device while runs remain that it could take."""
        remaining = sum(run.status not in SETTLED_STATUSES for run in progress.runs)
        busy = [worker.device for worker in self.workers.running]
        for device in self.devices[:remaining]:
            if busy.count(device) < list(self.devices).count(device):
                self.workers.start(device)
                busy.append(device)

    def _ended(self, worker: LocalWorker, progress: SweepProgress) -> None:
        """Judge how a worker ended.

        It is replaced by the next `_fill`, unless the problem would meet every other one too.
        """
        status = worker.exit_status()
        if status == ExitStatus.REFUSED:
            raise UserError(
                self.store.refusal() or worker.last_error() or f"a worker ended without a word; see {worker.log}"
            )
        if status in (ExitStatus.DONE, ExitStatus.RESTART, ExitStatus.STOPPED) or (status is not None and status < 0):
            self._early_ends = 0
            return
        self._early_ends += 1
        if self._early_ends >= MAX_EARLY_ENDS:
            raise UserError(
                self.store.refusal()
                or f"{self._early_ends} workers in a row ended with status {status}: {worker.last_error()}; see "
                f"{worker.log}"
            )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM stop the sweep in order; a worker's end wakes the loop."""

        def interrupt(*_: Any) -> None:
            self._interrupted = True
            self._wake.set()

        handlers = {signal.SIGINT: interrupt, signal.SIGTERM: interrupt, signal.SIGCHLD: lambda *_: self._wake.set()}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _display(self) -> Iterator[Any]:
        """A live table on a terminal; a line now and then elsewhere."""
        if sys.stdout.isatty():
            from rich.live import Live

            with Live(refresh_per_second=2, transient=False) as live:
                size = live.console.size
                yield lambda progress: live.update(
                    progress_table(progress, width=size.width, max_rows=size.height - 10)
                )
            return
        last = [-self.line_seconds]

        def line(progress: SweepProgress) -> None:
            now = time.monotonic()
            finished = progress.settled == len(progress.runs)
            if now - last[0] >= self.line_seconds or finished:
                last[0] = now
                sys.stdout.write(progress_line(progress) + "\n")
                sys.stdout.flush()

        yield line


def _failed(progress: SweepProgress) -> int:
    """Runs that failed for good or diverged."""
    return progress.count(RunStatus.FAILED) + progress.count(RunStatus.DIVERGED)
