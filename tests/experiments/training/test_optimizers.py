"""Runs of every optimiser, with an average of the weights: interrupted, branched and alone they end alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning.fabric import Fabric

from experiments.config.designs import expand
from experiments.config.prefixes import branch_step
from experiments.config.reading import build_sweep
from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.data.corpus import prepare
from experiments.data.identity import resolve
from experiments.errors import UserError
from experiments.training.checkpointing import save_weights
from experiments.training.job import train_prefix, train_run
from experiments.training.state import Interrupted, TrainSetup
from models.config.optimizer import OptimizerConfig, OptimizerName
from tests.known import trained


def setup_of(config: RunConfig, cache: Cache, folder: Path, **changes: Any) -> TrainSetup:
    torch.set_num_threads(1)
    return TrainSetup(
        config=config,
        corpus=prepare(config.data, cache),
        folder=folder,
        fabric=Fabric(accelerator="cpu", devices=1),
        write_rows=lambda rows: None,
        **changes,
    )


@pytest.mark.parametrize("name", ["muon", "sgd", "lion"])
def test_a_run_ends_alike_whether_interrupted_or_branched_from_a_shared_prefix(
    make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path, name: OptimizerName
) -> None:
    optimizer = OptimizerConfig(name=name, learning_rate=3e-3, ema_decay=0.95)
    config = replace(make_config(), optimizer=optimizer, objective=replace(make_config().objective, z_loss=1e-4))
    whole = train_run(setup_of(config, cache, tmp_path / "whole"))
    asked = iter(range(10**6))
    with pytest.raises(Interrupted):
        train_run(setup_of(config, cache, tmp_path / "parts", should_stop=lambda: next(asked) >= 37))
    assert train_run(setup_of(config, cache, tmp_path / "parts")).outcome.val_sums == whole.outcome.val_sums
    step, path = branch_step(config), tmp_path / "prefix.pt"
    assert step > 10
    (tmp_path / "prefix").mkdir()
    train_prefix(setup_of(config, cache, tmp_path / "prefix"), (step, path))
    branched = train_run(setup_of(config, cache, tmp_path / "branch", start=path))
    assert branched.shared_steps == step
    assert branched.outcome.val_sums == whole.outcome.val_sums
    save_weights(tmp_path / "weights.safetensors", whole.lit)
    kept = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in whole.lit.evaluated.state_dict().items())
    assert not torch.equal(kept["tokens.weight"], whole.lit.model.tokens.weight)


def test_a_sweep_says_its_optimizer_and_the_recipe_its_rates(cache: Cache) -> None:
    raw: dict[str, Any] = {
        "name": "optimizers",
        "data": {"corpus": "sotu", "context": 64},
        "design": {"kind": "ladder", "shapes": [{"width": 16, "depth": 1}], "tokens": [100_000]},
        "model": {"logit_cap": 30.0},
        "objective": {"z_loss": 1e-4},
        "optimizer": {"name": "muon", "matrix_rate": 0.02, "ema_decay": 0.99},
        "vary": {"optimizer": {"adamw": {"optimizer.name": "adamw", "optimizer.matrix_rate": None}, "muon": {}}},
    }
    runs = expand(build_sweep(raw, where="test"), resolve=lambda data: resolve(data, cache)).runs
    assert [(trained(r.config).optimizer.name, trained(r.config).optimizer.matrix_rate) for r in runs] == [
        ("adamw", None),
        ("muon", 0.02),
    ]
    assert len({trained(r.config).optimizer.learning_rate for r in runs}) == 1
    assert {r.config.model.logit_cap for r in runs} == {30.0}
    with pytest.raises(UserError, match="did you mean muon"):
        build_sweep({**raw, "optimizer": {"name": "moun"}}, where="test")
