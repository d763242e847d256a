"""What needs a GPU: never run in this repository's CI, and never run on one so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from experiments.config.run import FABRIC_PRECISION, RunConfig
from experiments.data.cache import Cache
from experiments.data.corpus import prepare
from experiments.machine.choices import ExecutionChoices
from experiments.training.job import train_run
from experiments.training.state import Interrupted, TrainSetup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def loss(config: RunConfig, cache: Cache, folder: Path, accelerator: str) -> float:
    """Validation loss of one run on a device, in nats per token."""
    fabric = Fabric(accelerator=accelerator, devices=1, precision=FABRIC_PRECISION[config.precision])
    corpus = prepare(config.data, cache)
    job = TrainSetup(config=config, corpus=corpus, folder=folder, fabric=fabric, write_rows=lambda rows: None)
    return train_run(job).outcome.loss


def test_a_gpu_trains_to_the_loss_of_a_cpu(make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path) -> None:
    config = make_config()
    losses = [loss(config, cache, tmp_path / device, device) for device in ("cpu", "cuda")]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


def test_a_run_on_a_gpu_resumes_from_its_checkpoint(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config(precision="bf16")
    whole = loss(config, cache, tmp_path / "whole", "cuda")
    asked = iter(range(1000))
    fabric = Fabric(accelerator="cuda", devices=1, precision=FABRIC_PRECISION["bf16"])
    job = TrainSetup(
        config=config,
        corpus=prepare(config.data, cache),
        folder=tmp_path / "part",
        fabric=fabric,
        write_rows=lambda rows: None,
        should_stop=lambda: next(asked) >= 37,
    )
    with pytest.raises(Interrupted):
        train_run(job)
    assert loss(config, cache, tmp_path / "part", "cuda") == pytest.approx(whole, abs=1e-3)


def test_layers_that_are_computed_again_hold_less_of_a_gpu_and_reach_the_same_loss(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path
) -> None:
    config = make_config(model=replace(make_config().model, depth=8))
    fabric = Fabric(accelerator="cuda", devices=1, precision=FABRIC_PRECISION[config.precision])
    found = []
    for recompute in (False, True):
        torch.cuda.reset_peak_memory_stats()
        job = TrainSetup(
            config=config,
            corpus=prepare(config.data, cache),
            folder=tmp_path / str(recompute),
            fabric=fabric,
            write_rows=lambda rows: None,
            choices=ExecutionChoices(recompute=recompute),
        )
        found.append((train_run(job).outcome.loss, torch.cuda.max_memory_allocated()))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-3)
    assert found[1][1] < found[0][1]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_steps_replayed_as_cuda_graphs_reach_the_loss_of_compiled_ones(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path, ema_decay: float | None
) -> None:
    config = make_config()
    config = replace(config, optimizer=replace(config.optimizer, ema_decay=ema_decay))
    fabric = Fabric(accelerator="cuda", devices=1, precision=FABRIC_PRECISION[config.precision])
    found = []
    for micro_batch, cuda_graphs in ((None, False), (None, True), (config.batch_sequences // 2, True)):
        job = TrainSetup(
            config=config,
            corpus=prepare(config.data, cache),
            folder=tmp_path / f"{micro_batch}-{cuda_graphs}",
            fabric=fabric,
            write_rows=lambda rows: None,
            micro_batch=micro_batch,
            choices=ExecutionChoices(compile=True, cuda_graphs=cuda_graphs),
        )
        found.append(train_run(job).outcome.loss)
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert found[2] == pytest.approx(found[0], abs=1e-4)
