"""How long segments take on a number of equal workers, and how many workers fit on a GPU."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
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


def pack(segments: Sequence[Segment], workers: int) -> Packing:
    """Simulate workers that take, whenever one is free, the most urgent segment whose prefix is trained.

    Parameters
    ----------
    segments : sequence of Segment
        In order of urgency, as `compile_runs` gives them.
    workers : int
        Number of equal workers.

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
    running: list[tuple[float, int, int]] = []
    busy = [0.0] * len(free)
    now = 0.0
    while ready or running:
        while ready and free:
            place, worker = heapq.heappop(ready), free.pop(0)
            heapq.heappush(running, (now + segments[place].seconds, worker, place))
            busy[worker] += segments[place].seconds
        now, worker, place = heapq.heappop(running)
        free.append(worker)
        for follower in followers.get(segments[place].segment_id, ()):
            heapq.heappush(ready, follower)
    return Packing(seconds=now, busy_seconds=tuple(busy))


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
