"""How long segments take on a number of equal workers, and how many workers fit on a GPU."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.manifests import Segment

CUDA_CONTEXT_BYTES = 600 << 20
"""What a process holds on a GPU besides tensors: context, libraries, workspaces; of the order that PyTorch shows."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How the segments would run on a number of devices."""

    seconds: float
    """Time to the end of the last one."""
    busy_seconds: tuple[float, ...]
    """Time that each worker spends training."""


def pack(segments: Sequence[Segment], workers: int, gains: Mapping[str, Sequence[float]] | None = None) -> Packing:
    """Simulate workers that take, whenever one is free, the most urgent segment whose prefix is trained.

    Runs that may be trained together are taken together, as workers do: as many as leave the others their part.

    Parameters
    ----------
    segments : sequence of Segment
        In order of urgency, as `compile_runs` gives them.
    workers : int
        Number of equal workers.
    gains : mapping of str to sequence of float, optional
        Stack -> how many times faster 1, 2, 3, ... runs of it are together than one after another; by default 1.

    Returns
    -------
    Packing
        The time of the whole, and of each worker.
    """
    known = {item.segment_id for item in segments}
    followers: dict[str, list[int]] = {}
    ready: list[int] = []
    for place, item in enumerate(segments):
        if item.after is not None and item.after in known:
            followers.setdefault(item.after, []).append(place)
        else:
            ready.append(place)
    heapq.heapify(ready)
    free = list(range(max(1, workers)))
    running: list[tuple[float, int, list[int]]] = []
    busy = [0.0] * len(free)
    now, left = 0.0, sum(item.seconds for item in segments)
    while ready or running:
        while ready and free:
            worker, places = free.pop(0), _together(segments, ready, left / len(busy))
            gain = (gains or {}).get(segments[places[0]].stack or "", ())[: len(places)]
            seconds = sum(segments[place].seconds for place in places) / (gain[-1] if gain else 1.0)
            heapq.heappush(running, (now + seconds, worker, places))
            busy[worker] += seconds
        now, worker, places = heapq.heappop(running)
        free.append(worker)
        left -= sum(segments[place].seconds for place in places)
        for place in places:
            for follower in followers.get(segments[place].segment_id, ()):
                heapq.heappush(ready, follower)
    return Packing(seconds=now, busy_seconds=tuple(busy))


def _together(segments: Sequence[Segment], ready: list[int], share: float) -> list[int]:
    """Take the most urgent segment from the heap of those that are ready, with those that are trained with it.

    `share` is each worker's part of what is left, in seconds: a stack is not longer.
    """
    first = heapq.heappop(ready)
    stack, seconds = segments[first].stack, segments[first].seconds
    if stack is None:
        return [first]
    most = min(segments[first].stack_members, math.ceil(share / (seconds or 1.0)))
    alike = sorted(place for place in ready if segments[place].stack == stack)[: max(0, most - 1)]
    for place in alike:
        ready.remove(place)
    heapq.heapify(ready)
    return [first, *alike]


def workers_per_gpu(segments: Sequence[Segment], gpu_bytes: int, *, limit: int = 8) -> int:
    """Say how many workers fit on one GPU side by side.

    Parameters
    ----------
    segments : sequence of Segment
        What they will train; the largest decides.
    gpu_bytes : int
        Memory of the GPU; a tenth of it stays free.
    limit : int
        Most workers on a GPU.

    Returns
    -------
    int
        At least 1.
    """
    largest = max((item.memory_bytes for item in segments), default=0) + CUDA_CONTEXT_BYTES
    return max(1, min(limit, int(0.9 * gpu_bytes) // largest))
