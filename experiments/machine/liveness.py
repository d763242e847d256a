"""Is the worker that holds a claim still alive? By process on this machine, by a heartbeat counter elsewhere.

Standard library only.

On this machine a process is known by its pid together with its start time, so that a reused pid deceives nobody; a
machine that booted again has lost all its workers. On other machines only the claim's size is looked at, over the
observer's own monotonic clock: clocks of two hosts are never compared. It must not know what is claimed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 2.0
"""How often a worker shows life."""
EXPIRY_SECONDS = 120.0
"""How long a heartbeat on another machine may stand still before its run is given up as lost."""


def identify(pid: int | None = None) -> dict[str, Any]:
    """Describe a process so that it can be told apart on any host.

    Parameters
    ----------
    pid : int or None
        The process; None: this one.

    Returns
    -------
    dict of str to object
        host, boot, pid and start; and, for people, the scheduler's job.
    """
    pid = os.getpid() if pid is None else pid
    job = {"job": name} if (name := _job()) else {}
    return {"host": platform.node(), "boot": _boot(), "pid": pid, "start": _start(pid), **job}


def _job() -> str | None:
    """The Slurm job that this process belongs to, as `15_3` for an element of an array."""
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else os.environ.get("SLURM_JOB_ID")


def alive(owner: Mapping[str, Any]) -> bool | None:
    """Say whether the process that `identify` described lives.

    Parameters
    ----------
    owner : mapping of str to object
        Its description.

    Returns
    -------
    bool or None
        None when it is on another machine, or the description is damaged.
    """
    if owner.get("host") != platform.node():
        return None
    if owner.get("boot") != _boot():
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return None
    start = _start(pid)
    return start is not None and start == owner.get("start")


def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else "unknown"


def _start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None when there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        return _start_without_proc(pid)
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _start_without_proc(pid: int) -> str | None:
    import psutil

    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


class HeartbeatWatch:
    """Remembers when each heartbeat counter last moved, by this process's monotonic clock."""

    def __init__(self, expiry_seconds: float = EXPIRY_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.expiry_seconds = expiry_seconds
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}

    def stalled(self, key: str, counter: int) -> bool:
        """Say whether a counter has stood still for longer than the expiry, as seen by this process.

        Parameters
        ----------
        key : str
            What is counted.
        counter : int
            Its value now.

        Returns
        -------
        bool
            False for a counter that was never seen before.
        """
        now = self._clock()
        known, since = self._seen.get(key, (None, now))
        if known != counter:
            self._seen[key] = (counter, now)
            return False
        return now - since > self.expiry_seconds


def end_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends (Linux).

    Elsewhere `parent_lost` has to be asked from time to time. When the parent has ended already, this process exits
    now.

    Parameters
    ----------
    parent : int
        Process id of the parent.

    Raises
    ------
    OSError
        When the kernel refuses.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        if ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if parent_lost(parent):
        sys.exit("the process that started this worker has ended")


def parent_lost(parent: int) -> bool:
    """Say whether the starting process has ended, so that this one was handed to another parent."""
    return os.getppid() != parent
