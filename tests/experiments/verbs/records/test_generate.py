"""`generate`: what is wrong with a run's files, or with an option, is one sentence and exit status 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from experiments.__main__ import main
from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import resolve
from experiments.store.store import RunStore
from models.config.transformer import TransformerConfig
from models.modules.transformer import Transformer

Stored = tuple[RunStore, str]


@pytest.fixture
def stored(tmp_path: Path, cache: Cache, make_config: Callable[..., RunConfig]) -> Stored:
    """A store with the config of a run on text, and no weights yet."""
    data = resolve(DataConfig(corpus="shakespeare", context=32), cache)
    model = TransformerConfig(vocab_size=data.vocab_size, width=16, depth=1, num_heads=2, context=32)
    config = make_config(data=data, model=model)
    store, identity = RunStore(tmp_path), run_id(config)
    store.prepare()
    store.write_config(identity, config)
    return store, identity


def refused(capsys: pytest.CaptureFixture[str], stored: Stored, *options: str) -> str:
    """The one sentence with which `generate` refuses."""
    store, identity = stored
    assert main(["generate", identity, "--store", str(store.root), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_config_that_lacks_a_field_is_named(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    store, identity = stored
    (store.run_folder(identity) / "config.json").write_text('{"tokens": 25600}\n')
    assert "config.json" in refused(capsys, stored)


@pytest.mark.parametrize(
    "content",
    [b"no tensors", safetensors.torch.save({"other": torch.zeros(3)})],
    ids=["no safetensors", "of another model"],
)
def test_weights_that_are_not_those_of_the_run_are_named(
    stored: Stored, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    store, identity = stored
    (store.run_folder(identity) / "weights.safetensors").write_bytes(content)
    assert "weights.safetensors does not hold the weights of this run" in refused(capsys, stored)


def test_a_temperature_of_zero_is_refused(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    store, identity = stored
    config = store.read_config(identity)
    weights = safetensors.torch.save(Transformer(config.model, seed=0).state_dict())
    (store.run_folder(identity) / "weights.safetensors").write_bytes(weights)
    assert "temperature" in refused(capsys, stored, "--method", "sample", "--temperature", "0")
