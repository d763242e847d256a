"""A CPU without Lightning: the same training to the last bit, and none of Lightning's imports in a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.corpus import prepare
from experiments.distributed.fabric import make_fabric
from experiments.distributed.ranks import ALONE
from experiments.distributed.runtime import OneCpu, Runtime, make_runtime
from experiments.machine.devices import Precision
from experiments.store.store import RunStore
from experiments.training.job import train_run
from experiments.training.state import TrainSetup

WORKER = """
import json, sys
from pathlib import Path
from experiments.execution.worker import Worker
from experiments.planning.planned_sweep import alone
from experiments.store.store import RunStore
before = sorted(sys.modules)
store = RunStore(Path(sys.argv[1]))
status = Worker(store=store, segments=[alone(store, sys.argv[2])]).work()
print(json.dumps({"status": status, "before": before, "after": sorted(sys.modules)}))
"""


def train(config: RunConfig, cache: Cache, folder: Path, runtime: Runtime) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """What a run measured, but for times, and its weights."""
    folder.mkdir()
    setup = TrainSetup(
        config=config, corpus=prepare(config.data, cache), folder=folder, fabric=runtime, write_rows=lambda rows: None
    )
    trained = train_run(setup)
    outcome = {name: getattr(trained.outcome, name) for name in ("loss", "loss_se", "val_sums", "train_loss")}
    return outcome, [weights.detach() for weights in trained.lit.parameters()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cpu_alone_trains_as_fabric_does_to_the_last_bit(
    precision: Precision, make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    config = make_config(tokens=12800, precision=precision)
    runtime = make_runtime(ALONE, "cpu", precision)
    assert isinstance(runtime, OneCpu)
    outcome, weights = train(config, cache, tmp_path / "alone", runtime)
    by_fabric, same = train(config, cache, tmp_path / "fabric", make_fabric(ALONE, "cpu", precision))
    assert outcome == by_fabric
    assert all(map(torch.equal, weights, same))


def test_a_worker_on_a_cpu_imports_neither_lightning_nor_transformers(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    store, config = RunStore(tmp_path), make_config(tokens=2560)
    store.prepare()
    store.write_config(run_id(config), config)
    words = [sys.executable, "-c", WORKER, str(tmp_path), run_id(config)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    said = json.loads(ended.stdout.splitlines()[-1])
    record = store.read_record(run_id(config))
    assert (said["status"], None if record is None else record.status) == (0, "done")
    assert not {"lightning", "torchmetrics", "transformers", "scipy", "matplotlib", "pandas"} & set(said["after"])
    assert "torch._dynamo" in said["before"]  # else every process that is forked from the first imports it
