"""Worker processes on this machine: started one a device, ended together.

Each runs `isoflop work SWEEP`; whatever can run that command several times can take this file's place. It
must not know what the workers train.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.machine.devices import Device
from models.command_line import own_command


@dataclass
class LocalWorker:
    """One worker process on this machine."""

    device: Device
    """Where it runs."""
    process: subprocess.Popen[bytes]
    """The process."""
    log: Path
    """Its standard output and error."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def exit_status(self) -> int | None:
        """Exit status, None while it runs; negative for a signal."""
        return self.process.poll()

    def last_error(self) -> str | None:
        """The last `error: ...` line of its log, without the prefix."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return next(reversed(errors or lines), None)


@dataclass
class LocalWorkers:
    """Starts and ends workers on this machine, one a device."""

    manifest: Path
    """sweeps/<name>.json."""
    logs: Path
    """Folder of the workers' logs."""
    arguments: Sequence[str] = ()
    """Options handed to each `work` command."""
    running: list[LocalWorker] = field(default_factory=list)
    """Those that were started and not yet reaped."""

    def start(self, device: Device) -> LocalWorker:
        """Start a worker on `device`, in a session of its own, so that Ctrl-C reaches only the launcher."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{device.kind}-{device.index}-{os.getpid()}.log"
        command = [
            *(*own_command(), "work", str(self.manifest)),
            *("--device", device.kind, "--parent", str(os.getpid())),
            *self.arguments,
        ]
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | device.environment(),
                start_new_session=True,
            )
        worker = LocalWorker(device=device, process=process, log=log)
        self.running.append(worker)
        return worker

    def reap(self) -> list[LocalWorker]:
        """Workers that have ended since the last call."""
        ended = [worker for worker in self.running if worker.exit_status() is not None]
        self.running = [worker for worker in self.running if worker not in ended]
        return ended

    def stop(self, grace_seconds: float = 60.0) -> None:
        """Ask all workers to checkpoint and end; kill those that have not within the grace time."""
        for worker in self.running:
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.running:
            try:
                worker.process.wait(timeout=grace_seconds)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self.running.clear()
