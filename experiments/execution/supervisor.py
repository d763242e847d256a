"""Keeps one worker alive.

Imports torch and lightning once, then forks the process that trains, and forks again when it is killed.

Importing takes longer than many a run, so a worker that was killed, or that asked for a fresh process, is replaced by
a fork of this one in a fraction of a second. This process never trains and never touches a device. It must not know
what a worker does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from experiments.machine.liveness import end_with_parent

HELD_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which people and schedulers stop a worker."""


class ExitStatus(IntEnum):
    """Exit statuses of `work`; 1 and 2 are Python's and argparse's own."""

    DONE = 0
    """Nothing is left to train."""
    REFUSED = 3
    """A problem that no other run would escape: disk, store, changed data. Its message is one sentence."""
    STOPPED = 4
    """The worker was asked to stop; there may be more to do."""
    RESTART = 75
    """It asks for a fresh process: many runs done, memory grown, a CUDA error, or a rank that failed."""


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
    signalled = _Signalled()
    while not stopping:
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        with signals_held():  # none comes between the fork and the moment when each process knows what to do with it
            try:
                child = os.fork()
            except OSError as error:
                sys.stderr.write(f"warning: no process can be started ({error.strerror}); another worker may\n")
                return ExitStatus.RESTART
            if child == 0:
                signalled.close()
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)  # until `work` has handlers of its own
        if child == 0:
            os._exit(_run(work, supervisor))
        if stopping:
            os.kill(child, signal.SIGTERM)  # the signal came before there was a child
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:  # not yet let go
            signalled.wait()
        with signals_held():
            _, raw = os.waitpid(child, 0)
            child = 0
        status = os.waitstatus_to_exitcode(raw)
        if status >= 0 and status != ExitStatus.RESTART:
            return status
    return ExitStatus.STOPPED


class _Signalled:
    """Waits for the next signal of this process, a child's end among them.

    A signal that comes just before a system call that waits leaves the call waiting: Python runs handlers between
    instructions, and that moment has passed. A byte in a pipe stays until it is read.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # one with a handler is written to the pipe

    def wait(self) -> None:
        """Return when a signal has come since the last return, whose handlers have run by then."""
        select.select([self._read], [], [])
        os.read(self._read, 4096)

    def close(self) -> None:
        """Leave the signals as they were: for a forked process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._read)
        os.close(self._write)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let signals that end a worker wait until the block is over, in this process and in one that is forked there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
