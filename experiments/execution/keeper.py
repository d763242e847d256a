"""Keeps one worker alive: imports torch and lightning once, then forks the process that trains, and forks again when
it is killed.

Importing takes longer than many a run, so a worker that was killed, or that asked for a fresh process, is replaced by
a fork of this one in a fraction of a second. This process never trains and never touches a device. It must not know
what a worker does.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from experiments.machine.liveness import end_with_parent

FRESH = 75
"""Exit status with which a worker asks for a fresh process."""
STOPPED = 4
"""Exit status when everything was told to stop."""


def keep(work: Callable[[int], int], *, parent: int | None) -> int:
    """Run `work` in forked processes until one ends by itself; its exit status.

    Parameters
    ----------
    work
        Takes the process id that it has to end with (this one's), and returns its exit status.
    parent
        Process id that this one ends with.
    """
    child, stopping = 0, False

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        if child:
            os.kill(child, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if parent is not None:
        end_with_parent(parent)
    while not stopping:
        keeper = os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(_run(work, keeper))
        if stopping:  # the signal came before the child's number was known
            os.kill(child, signal.SIGTERM)
        _, raw = os.waitpid(child, 0)
        child, status = 0, os.waitstatus_to_exitcode(raw)
        if status >= 0 and status != FRESH:
            return status
    return STOPPED


def pass_user_signals() -> None:
    """Take SIGUSR1 and SIGUSR2 for SIGTERM, here and in forked processes: schedulers warn of a time limit by them."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _run(work: Callable[[int], int], keeper: int) -> int:
    """The forked process: its exit status, with a traceback on standard error where `work` raised."""
    try:
        status = work(keeper)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status
