"""Keeps one worker alive.

Imports torch and lightning once, then forks the process that trains, and forks again when it is killed.

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

from experiments.execution.exit_status import ExitStatus
from experiments.machine.liveness import end_with_parent


def supervise(work: Callable[[int], int], *, parent: int | None) -> int:
    """Run `work` in forked processes until one ends by itself.

    Parameters
    ----------
    work : callable
        Takes the process id that it has to end with (this one's), and returns its exit status.
    parent : int or None
        Process id that this one ends with.

    Returns
    -------
    int
        The exit status of the process that ended by itself; an `ExitStatus`.
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
        supervisor = os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(_run(work, supervisor))
        if stopping:  # the signal came before the child's number was known
            os.kill(child, signal.SIGTERM)
        _, raw = os.waitpid(child, 0)
        child, status = 0, os.waitstatus_to_exitcode(raw)
        if status >= 0 and status != ExitStatus.RESTART:
            return status
    return ExitStatus.STOPPED


def pass_user_signals() -> None:
    """Take SIGUSR1 and SIGUSR2 for SIGTERM, here and in forked processes: schedulers warn of a time limit by them."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _run(work: Callable[[int], int], supervisor: int) -> int:
    """The forked process: its exit status, with a traceback on standard error where `work` raised."""
    try:
        status = work(supervisor)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status
