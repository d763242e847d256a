"""The place of one process among those that train a run together, as its starter gave it by environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.errors import UserError

STRATEGIES = ("ddp", "fsdp")
"""ddp: each process holds the whole model. fsdp: each holds a shard of weights, gradients and optimiser."""


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

    Parameters
    ----------
    environment : mapping of str
        The variables of the process.

    Returns
    -------
    Place or None
        From torchrun's variables, or those of a Slurm step.

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
