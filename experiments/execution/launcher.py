"""Train a sweep on this machine: start workers, replace those that end, show the live table.

Owns the loop over the processes of `local_workers`. The truth is in the store: this process can be killed at any moment
and started again. Torch-free.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError
from experiments.execution.local_workers import LocalWorker, LocalWorkers
from experiments.execution.supervisor import ExitStatus
from experiments.machine.devices import Device
from experiments.machine.wake import Wake
from experiments.records import RunStatus
from experiments.status.progress import ProgressReader, SweepProgress
from experiments.status.tables import progress_line, progress_table
from experiments.store.store import RunStore

MAX_EARLY_ENDS = 3
"""Workers that may end in a row, with an error and without finishing anything, before the launcher gives up."""
MAX_IDLE_ENDS = 3
"""Workers that may end in a row because they found nothing to train, while runs are without a record."""
MAX_LOOKING_FRACTION = 0.01
"""Share of a core that looking at the store may take."""


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
        self._wake = Wake()
        self._interrupted = False
        self._early_ends = self._idle_ends = self._settled = 0

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
                    began = time.process_time()
                    progress = self.reader.read()
                    show(progress)
                    over = self.stop_at_failure and _failed(progress) > failed_before
                    if self._interrupted or over or self._is_over(progress):
                        break
                    self._pause(began)
                    for worker in self.workers.reap():
                        self._ended(worker, progress)
                    self._fill(progress)
            finally:
                self.workers.stop()
            progress = self.reader.read_again()
            show(progress)
        if self._interrupted:
            raise KeyboardInterrupt
        return progress

    def _is_over(self, progress: SweepProgress) -> bool:
        """Whether every run is settled, by its record as it is now, or nothing more can be done for the rest."""
        if progress.settled == len(progress.runs):
            return self.reader.read_again().settled == len(progress.runs)
        return self._idle_ends > MAX_IDLE_ENDS

    def _pause(self, began: float) -> None:
        """Wait for the next look: until a worker ends, and so long that looking takes little of a core."""
        used = time.process_time() - began
        self._wake.wait(max(self.refresh_seconds, used / MAX_LOOKING_FRACTION))
        self._wake.clear()

    def _fill(self, progress: SweepProgress) -> None:
        """Keep one worker on each device while runs remain that it could take."""
        remaining = len(progress.runs) - progress.settled
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
        finished = progress.settled
        self._idle_ends = self._idle_ends + 1 if status == ExitStatus.DONE and finished == self._settled else 0
        self._settled = finished
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

            with Live(auto_refresh=False, transient=False) as live:
                size = live.console.size
                yield lambda progress: live.update(
                    progress_table(progress, width=size.width, max_rows=size.height - 10), refresh=True
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
