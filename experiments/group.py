"""Several processes that are one worker: which of them this one is, and starting them on this machine.

A starter (srun, torchrun, or `keep_group`) gives every process its place by environment variables; Slurm's and
torchrun's names are read. It must not know what the processes do. Standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError
from experiments.keeper import FRESH, STOPPED
from experiments.liveness import end_with_parent

STRATEGIES = ("ddp", "fsdp")
"""ddp: each process holds the whole model. fsdp: each holds a shard of weights, gradients and optimiser."""
GRACE_SECONDS = 20.0
"""How long the others may take to write down and end after one process of a group has ended."""
FIRST_PORT, NUM_PORTS = 10240, 22000
"""Ports among which the processes of a Slurm step meet: below those that systems hand out themselves."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process of a group."""

    rank: int
    """Its number in the group; rank 0 decides."""
    size: int
    """Processes in the group."""
    local_rank: int
    """Its number on its machine: which GPU it takes."""
    num_nodes: int = 1
    """Machines of the group, each with as many processes."""
    address: str = "127.0.0.1"
    """Where rank 0 listens."""
    port: int
    """Its port."""

    @property
    def local_size(self) -> int:
        """Processes on each machine."""
        return self.size // self.num_nodes


def place_of(environment: Mapping[str, str]) -> Place | None:
    """The place that a starter gave to this process; None when nobody started it as one of several.

    Raises
    ------
    UserError
        When machines have unequal numbers of processes.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        size, local_size = int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_WORLD_SIZE", 0))
        found = Place(
            rank=int(environment["RANK"]),
            size=size,
            local_rank=int(environment.get("LOCAL_RANK", environment["RANK"])),
            num_nodes=size // local_size if local_size else 1,
            address=environment.get("MASTER_ADDR", "127.0.0.1"),
            port=int(environment["MASTER_PORT"]),
        )
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
        found = Place(
            rank=int(environment["SLURM_PROCID"]),
            size=int(environment["SLURM_STEP_NUM_TASKS"]),
            local_rank=int(environment["SLURM_LOCALID"]),
            num_nodes=int(environment["SLURM_STEP_NUM_NODES"]),
            address=environment.get("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"])),
            port=int(environment.get("MASTER_PORT", FIRST_PORT + (7919 * job + step) % NUM_PORTS)),
        )
    else:
        return None
    if found.size % found.num_nodes:
        raise UserError(
            f"{found.size} processes on {found.num_nodes} machines do not make equal parts; start as many on each"
        )
    return found


def first_host(nodes: str) -> str:
    """The first host of a Slurm node list: 'a[03-05,9],b1' gives a03."""
    first = re.match(r"[^,\[]*(\[[^\]]*\][^,\[]*)*", nodes)
    return re.sub(r"\[([^,\-\]]*)[^\]]*\]", r"\1", first.group() if first else nodes)


def check_place(place: Place, *, devices_per_run: int | None, nodes: int | None) -> None:
    """UserError when a starter gave other numbers than the command line."""
    for option, wanted, found in (
        ("--devices-per-run", devices_per_run, place.local_size),
        ("--nodes", nodes, place.num_nodes),
    ):
        if wanted is not None and wanted != found:
            raise UserError(f"{option} is {wanted}, but {found} were started; make them agree, or leave {option} out")


def keep_group(command: Sequence[str], *, size: int, parent: int | None) -> int:
    """Start `size` processes of `command` here and keep them together until rank 0 ends by itself; its exit status.

    A group of which one was killed, or that asks for fresh processes, is started again.

    Parameters
    ----------
    command
        What each process runs; it gets its place by the environment and `--parent` with this process's id.
    size
        Processes.
    parent
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
        if status >= 0 and status != FRESH:
            return status
    return STOPPED


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
            if broken > 0 and broken != FRESH:
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
