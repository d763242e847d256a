"""One of several processes that train together, for test_ranks.py:
`python -m tests.experiments.distributed.rank_process FOLDER CACHE`; its place is in the environment.

FOLDER/cases.json lists what to train; rank 0 writes what came out to FOLDER/results.json. Then the processes are one
worker on the store FOLDER/store, whose rank 1 finds that its memory does not suffice.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.run import run_config_from_dict
from experiments.data.cache import Cache
from experiments.data.corpus import prepare
from experiments.distributed.place import place_of
from experiments.distributed.ranks import Ranks, Share
from experiments.distributed.sharding import make_fabric
from experiments.execution.worker import Worker
from experiments.machine.choices import ExecutionChoices
from experiments.planning.planned_sweep import alone
from experiments.store.store import RunStore
from experiments.training import step as loop
from experiments.training.job import train_run
from experiments.training.state import Interrupted, TrainSetup, TrainState
from models.modules.transformer import Block


def train(case: dict[str, Any], joined: Ranks, folder: Path, cache: Cache) -> dict[str, Any]:
    """What came of one case: the outcome, or where it was stopped."""
    ranks = copy.copy(joined)
    ranks.strategy = case["strategy"]
    config = run_config_from_dict(case["config"])
    rows: list[dict[str, Any]] = []
    steps = iter(range(10**6))

    def should_stop() -> bool:  # rank 1 alone wants to: the others have to learn of it
        return "stop_at" in case and ranks.rank == 1 and next(steps) >= case["stop_at"]

    job = TrainSetup(
        config=config,
        corpus=prepare(config.data, cache),
        folder=folder / case["folder"],
        fabric=make_fabric(ranks, "cpu", config.precision),
        write_rows=rows.extend,
        should_stop=should_stop,
        micro_batch=case.get("micro_batch"),
        ranks=ranks,
        choices=ExecutionChoices(recompute=case.get("recompute")),
    )
    after, passes = Block._after, iter(range(10**6))

    def counted(block: Block, *inputs: Any) -> torch.Tensor:
        if block.training:
            next(passes)
        return after(block, *inputs)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Block, "_after", counted)
            return vars(train_run(job).outcome) | {"rows": rows, "passes": next(passes)}
    except Interrupted as stop:
        return {"interrupted": str(stop), "rows": rows}


def work(ranks: Ranks, store: RunStore, cache: Cache) -> int:
    """One worker of all ranks, of which rank 1 has too little memory."""
    backward = loop.backward

    def scarce(setup: TrainSetup, state: TrainState, tokens: torch.Tensor, share: Share) -> torch.Tensor:
        if state.step == 3:
            raise MemoryError("not enough for rank 1")
        return backward(setup, state, tokens, share)

    if ranks.rank == 1:
        loop.backward = scarce
    segments = [alone(store, path.name) for path in sorted(store.runs.iterdir())]
    return Worker(store=store, segments=segments, cache=cache, ranks=ranks).work()


def main() -> int:
    """Train every case, then work."""
    folder, cache = Path(sys.argv[1]), Cache(Path(sys.argv[2]))
    torch.set_num_threads(1)
    ranks = Ranks(place_of(os.environ))
    ranks.join("cpu")
    cases = json.loads((folder / "cases.json").read_text())
    results = {name: train(case, ranks, folder, cache) for name, case in cases.items()}
    if ranks.rank == 0:
        (folder / "results.json").write_text(json.dumps(results))
    return work(ranks, RunStore(folder / "store"), cache)


if __name__ == "__main__":
    os._exit(main())
