"""Several processes that are one worker: which of them this one is, and starting them on this machine.

A starter (srun, torchrun, or `supervise_group`) gives every process its place by environment variables; Slurm's and
torchrun's names are read. It must not know what the processes do. Standard library only.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from experiments.execution.supervisor import ExitStatus
from experiments.machine.liveness import end_with_parent

GRACE_SECONDS = 20.0
"""How long the others may take to write down and end after one process of a group has ended."""


def supervise_group(command: Sequence[str], *, size: int, parent: int | None) -> int:
    """Start `size` processes of `command` here and keep them together until rank 0 ends by itself; its exit status.

    A group of which one was killed, or that asks for fresh processes, is started again.

    Parameters
    ----------
    command : sequence of str
        What each process runs; it gets its place by the environment and `--parent` with this process's id.
    size : int
        Processes.
    parent : int or None
        Process id that this one ends with.
    """
    group: list[subprocess.Popen[bytes]] = []
    stopping = False

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        for process in group:
            process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if parent is not None:
        end_with_parent(parent)
    words = [*command, "--parent", str(os.getpid())]
    while not stopping:
        group.clear()
        port = _free_port()
        for rank in range(size):
            group.append(subprocess.Popen(words, env=os.environ | _environment(rank, size, port)))
        if stopping:  # the signal came before all of them were known
            stop()
        status = _wait_for(group)
        if status >= 0 and status != ExitStatus.RESTART:
            return status
    return ExitStatus.STOPPED


def _environment(rank: int, size: int, port: int) -> dict[str, str]:
    """A process's place, by torchrun's names."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _wait_for(group: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until a whole group has ended: rank 0's exit status, or that of another which broke the group by itself."""
    leader, others = group[0], group[1:]
    while leader.poll() is None:
        broken = next((other.returncode for other in others if other.poll()), None)
        if broken is None:
            _wait(leader, 0.5)
        elif not _wait(leader, GRACE_SECONDS):  # it hangs in a sum over all ranks
            leader.kill()
            leader.wait()
            if broken > 0 and broken != ExitStatus.RESTART:
                _end(others)
                return broken
    _end(others)
    return leader.returncode


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if not _wait(process, GRACE_SECONDS):
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a process; whether it ended in time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
