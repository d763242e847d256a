"""The processes that train one run together: what they exchange, what they agree on, which part each takes.

Rank 0 decides and the others follow. A process alone is a group of one, for which everything here is free of cost.
Words go by a gloo group of their own on the CPU; gradients go by the strategy's. It must not know claims, sweeps or
models.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from experiments.distributed.place import Place

PATIENCE = timedelta(hours=1)
"""How long a rank waits for the others: one of them may build the tokens of a large corpus first."""
FAREWELL = timedelta(seconds=15)
"""How long a rank waits for the others at the end."""
ASK_SECONDS = 1.0
"""About how often the ranks ask each other whether to stop or to save."""
ASK_STEPS = 16
"""At most so many steps between two questions."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one rank takes of every batch."""

    begin: int
    """Its first sequence of the batch."""
    count: int
    """Its sequences."""
    pieces: tuple[tuple[slice, float], ...]
    """Pieces that are held in memory at a time, and the weight of each one's mean loss: gradients that are averaged
    over ranks are then those of the whole batch's mean. As many on each rank."""


@dataclass(frozen=True, kw_only=True)
class RankFailure:
    """What a rank could not go on from."""

    rank: int
    """Who."""
    ending: str
    """oom, failed, or refused: a problem that no other run would escape."""
    reason: str
    """In one line."""
    trace: str
    """Its traceback."""


class Ranks:
    """A group of ranks as one of them sees it.

    Parameters
    ----------
    place : Place, optional
        Which one this process is; None: it is alone.
    strategy : {"ddp", "fsdp"}
        How several share a model.
    """

    def __init__(self, place: Place | None = None, strategy: str = "ddp") -> None:
        self.place = place
        self.rank, self.size = (place.rank, place.size) if place is not None else (0, 1)
        self.strategy = strategy if self.many else "single"
        self._store: TCPStore | None = None
        self._group: dist.ProcessGroup | None = None

    @property
    def many(self) -> bool:
        """Whether there is more than one."""
        return self.size > 1

    # -- coming and going ----------------------------------------------------------------------------------------------

    def join(self, device: str) -> None:
        """Meet the others, unless that was done; returns when all are there."""
        if self.place is None or not self.many or self._store is not None:
            return
        place, device_id = self.place, None
        if device == "cuda":
            device_id = self.devices(device)[place.local_rank]
            torch.cuda.set_device(device_id)
        self._store = _meet(place)
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=self._store, rank=self.rank, world_size=self.size, timeout=PATIENCE, device_id=device_id
        )
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def devices(self, device: str) -> list[torch.device]:
        """The device of each rank on this machine."""
        assert self.place is not None
        numbers = range(self.place.local_size)
        if device == "cpu":
            return [torch.device("cpu") for _ in numbers]
        alone = torch.cuda.device_count() == 1  # a scheduler shows each process its own GPU only
        return [torch.device("cuda", 0 if alone else number) for number in numbers]

    def leave(self) -> None:
        """Part from the others after all know that nothing is left; rank 0, where they meet, goes last."""
        if self._store is None:
            return
        with contextlib.suppress(RuntimeError):  # somebody vanished meanwhile: there is nothing left to wait for
            if self.rank:
                self._store.set(f"left/{self.rank}", "")
            else:
                self._store.wait([f"left/{rank}" for rank in range(1, self.size)], FAREWELL)
        dist.destroy_process_group()
        self._store = self._group = None

    # -- failure -------------------------------------------------------------------------------------------------------

    def report(self, failure: RankFailure) -> None:
        """Tell rank 0 what this rank cannot go on from, and wait until it has written that down."""
        if self._store is not None:
            with contextlib.suppress(RuntimeError):  # rank 0 has vanished: nobody is left to report to
                self._store.compare_set("failure", "", json.dumps(vars(failure)))
                self._store.wait(["acknowledged"], FAREWELL)

    def failure(self) -> RankFailure | None:
        """What another rank reported; asked by rank 0 beside its training, which may hang for want of that rank."""
        if self._store is None or not self._store.check(["failure"]):
            return None
        try:
            return RankFailure(**json.loads(self._store.get("failure")))
        except (ValueError, TypeError):
            return None  # no rank of ours wrote that

    def acknowledge_failure(self) -> None:
        """Let the others end after one of them failed."""
        if self._store is not None:
            self._store.set("acknowledged", "")

    # -- words ---------------------------------------------------------------------------------------------------------

    def broadcast(self, value: Any = None) -> Any:
        """Rank 0's value, on every rank."""
        if not self.many:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on every rank."""
        if not self.many:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum over ranks."""
        if not self.many:
            return values
        tensor = torch.from_numpy(values)
        dist.all_reduce(tensor, group=self._group)
        return tensor.numpy()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over ranks of float32 values, on the CPU."""
        if not self.many:
            return values
        values = values.cpu()
        dist.all_reduce(values, group=self._group)
        return values / self.size

    def seed(self, seed: int, step: int = 0) -> int:
        """What this rank draws dropout from: rank 0 as a process alone would, each other one differently."""
        return seed if self.rank == 0 else seed + 1_000_003 * self.rank + 7_919 * step

    # -- parts ---------------------------------------------------------------------------------------------------------

    def share(self, batch_sequences: int, micro_batch: int | None = None) -> Share:
        """This rank's part of a batch, at most `micro_batch` sequences of it at a time; parts differ by one at most.

        Where there is nothing left for a rank, it takes a sequence at weight zero, because all must take part in every
        exchange of gradients or weights.
        """
        begin, end = (batch_sequences * edge // self.size for edge in (self.rank, self.rank + 1))
        largest = -(-batch_sequences // self.size)
        held = min(micro_batch or largest, largest)
        count = max(1, end - begin)
        pieces = []
        for first in range(0, largest, held):
            last = min(first + held, end - begin)
            if first < last:
                pieces.append((slice(first, last), (last - first) * self.size / batch_sequences))
            else:
                pieces.append((slice(0, 1), 0.0))
        return Share(begin=begin, count=count, pieces=tuple(pieces))

    def shard_items(self, items: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
        """Items of this rank, in turn, and whether each is its own.

        Every rank gets as many, so that the last round has some that are another's and do not count.
        """
        remaining = iter(items)
        while hand := list(itertools.islice(remaining, self.size)):
            own = self.rank < len(hand)
            yield hand[self.rank if own else 0], own

    def agreement(self, step: int, clock: Callable[[], float] = time.monotonic) -> Agreement:
        """What a loop over steps asks by."""
        return Agreement(self, step, clock)


class Agreement:
    """Whether to stop and whether to save, asked of all ranks about once a second and answered alike on each."""

    def __init__(self, ranks: Ranks, step: int, clock: Callable[[], float]) -> None:
        self._ranks, self._clock = ranks, clock
        self._asked, self._since, self._next = step, clock(), step

    def ask(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """(whether any rank wants to stop, whether any wants to save); between two questions, neither."""
        if step < self._next:
            return False, False
        now = self._clock()
        seconds = (now - self._since) / max(1, step - self._asked)
        pause = min(ASK_STEPS, max(1, int(ASK_SECONDS / max(seconds, 1e-6)))) if step > self._asked else 1
        votes = torch.tensor([int(stop), int(save), pause])
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._ranks._group)
        stops, saves, agreed = votes.tolist()
        self._asked, self._since, self._next = step, now, step + agreed
        return bool(stops), bool(saves)


def _meet(place: Place) -> TCPStore:
    """Where the ranks meet; on one machine it listens to that machine alone."""
    if place.rank or not place.address.startswith("127."):
        return TCPStore(place.address, place.port, place.size, place.rank == 0, timeout=PATIENCE)
    listener = socket.create_server((place.address, place.port))
    return TCPStore(place.address, place.port, place.size, True, timeout=PATIENCE, master_listen_fd=listener.detach())


ALONE = Ranks()
"""A process alone."""
