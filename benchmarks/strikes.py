"""What `benchmarks.chaos` does to a sweep beside killing: freezing a worker, filling the disk, a second driver."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

EXPIRY_SECONDS = 6.0
"""How long a frozen worker may show no life before another takes its run."""
DISK = "64m"
"""Size of the small disk."""


class Helpers:
    """Processes beside the driver that is struck."""

    def __init__(self) -> None:
        self._others: list[subprocess.Popen[bytes]] = []

    def join(self, driver: subprocess.Popen[bytes]) -> None:
        """Another driver works on the same sweep."""
        self._others.append(driver)

    def freeze(self, driver: subprocess.Popen[bytes], store: Path, rng: random.Random) -> str:
        """SIGSTOP a training process for some seconds, while a worker looks on that loses patience early."""
        everyone = psutil.Process(driver.pid).children(recursive=True)
        workers = [child for child in everyone if "work" in child.cmdline() and not child.children()]
        if not workers:
            return "freeze nobody"
        words = ["work", store / "sweeps" / "chaos.json", "--expiry-seconds", EXPIRY_SECONDS, "--checkpoint-seconds", 1]
        command = [sys.executable, "-m", "experiments", *map(str, words)]
        self._others.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        )
        with contextlib.suppress(psutil.NoSuchProcess):
            workers[0].suspend()
            time.sleep(rng.uniform(1, 4 * EXPIRY_SECONDS))  # frozen for so long
            workers[0].resume()
        return "freeze"

    @staticmethod
    def fill(store: Path, rng: random.Random) -> str:
        """Leave the store's disk without a free byte for some seconds."""
        filler = store / "filler"
        try:
            with filler.open("wb") as stream:
                while True:
                    stream.write(bytes(1 << 16))
                    stream.flush()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        time.sleep(rng.uniform(0.5, 4))  # full for so long
        filler.unlink()
        return "full disk"

    def end(self) -> None:
        """Wait until the others have ended; they do when the sweep has."""
        for process in self._others:
            try:
                process.wait(timeout=300)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._others.clear()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a small disk on a folder where this may; else it stays a folder."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
