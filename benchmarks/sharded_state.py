"""Whole states of two ranks, by us and by torch.distributed.checkpoint: `python -m benchmarks.sharded_state`.

Two processes shard one small model, take three steps, put the state together on rank 0 and give it back, in both ways.
It prints whether the numbers are equal, how each keys the optimiser's state, and medians of the times.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from experiments.distributed.place import Place
from experiments.distributed.ranks import Ranks
from experiments.distributed.sharding import make_fabric, set_up, spread, whole
from models.config.objective import ObjectiveConfig
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.lit import LitTransformer

REPEATS = 21
"""Times that each way puts the state together."""
GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)
GIVEN = StateDictOptions(full_state_dict=True, cpu_offload=True, broadcast_from_rank0=True)


def make(ranks: Ranks, seed: int) -> tuple[LitTransformer, torch.optim.Optimizer]:
    """A small model over all ranks, with its optimiser."""
    lit = LitTransformer(
        model=TransformerConfig(width=64, depth=4, num_heads=4, vocab_size=264, context=64),
        optimizer=OptimizerConfig(learning_rate=0.01),
        schedule=ScheduleConfig(name="constant", warmup_tokens=0),
        objective=ObjectiveConfig(),
        total_tokens=10**6,
        batch_tokens=1024,
        seed=seed,
    )
    return lit, set_up(ranks, make_fabric(ranks, "cpu", "fp32"), lit)[1]


def median_ms(read: Callable[[], Any]) -> float:
    """Median milliseconds of a call."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        read()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def measure(rank: int, port: int, strategy: str) -> None:
    """What one rank does."""
    torch.set_num_threads(1)
    ranks = Ranks(Place(rank=rank, size=2, local_rank=rank, port=port), strategy)
    ranks.join("cpu")
    lit, optimizer = make(ranks, seed=0)
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack([(weight**2).sum() for weight in lit.parameters()]).sum().backward()
        optimizer.step()

    def ours() -> dict[str, Any]:
        gathered: dict[str, Any] = whole(ranks, {"model": lit.state_dict(), "optimizer": optimizer.state_dict()})
        return gathered

    def theirs() -> tuple[dict[str, Any], dict[str, Any]]:
        return get_model_state_dict(lit, options=GATHERED), get_optimizer_state_dict(lit, optimizer, options=GATHERED)

    times = median_ms(ours), median_ms(theirs)
    mine, (model, states) = ours(), theirs()
    same = all(torch.equal(model[name], value) for name, value in mine["model"].items()) if rank == 0 else True
    keys = [next(iter(found["state"]), None) for found in (mine["optimizer"], states or {"state": {}})]
    one, one_optimizer = make(ranks, seed=1)
    given = spread(ranks, mine if rank == 0 else None, one, one_optimizer)
    one.load_state_dict(given["model"])
    one_optimizer.load_state_dict(given["optimizer"])
    two, two_optimizer = make(ranks, seed=2)
    set_model_state_dict(two, model, options=GIVEN)
    set_optimizer_state_dict(two, two_optimizer, states, options=GIVEN)
    back = [
        whole(ranks, {"model": lit_.state_dict(), "optimizer": its.state_dict()["state"]})
        for lit_, its in ((one, one_optimizer), (two, two_optimizer))
    ]
    if rank == 0:
        same_back = all(torch.equal(back[1]["model"][name], value) for name, value in back[0]["model"].items())
        same_back &= all(
            torch.equal(back[1]["optimizer"][index][name], value)
            for index, entry in back[0]["optimizer"].items()
            for name, value in entry.items()
        )
        print(f"{strategy}: gathered equal {same}, given back equal {same_back}")
        print(print(f"  optimiser's keys: ours {keys[0]!r}, theirs {keys[1]!r}"))
        print(f"  gathering: ours {times[0]:.1f} ms, theirs {times[1]:.1f} ms")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    for name in ("fsdp", "ddp"):
        context, port = multiprocessing.get_context("spawn"), free_port()
        processes = [context.Process(target=measure, args=(rank, port, name)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
