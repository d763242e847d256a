"""Tiny runs on a synthetic language: what the tests of sweeps, stores and workers train."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import resolve
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig

SWEEP = """
name: tiny
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}
design:
  kind: ladder
  tokens: [12800, 25600]
  shapes: [{width: 8, depth: 1}, {width: 16, depth: 1}]
  head_width: 8
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """One token cache for all tests; child processes find it by the environment."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ISOFLOP_CACHE"] = str(folder)
    return Cache(folder)


@pytest.fixture
def make_config(cache: Cache) -> Callable[..., RunConfig]:
    """Builds a RunConfig of 100 tiny steps on the Markov language; keywords replace its fields."""

    def make(**changes: object) -> RunConfig:
        data = DataConfig(
            corpus="markov", corpus_options={"num_symbols": 8, "num_tokens": 65536}, context=32, val_size=4096
        )
        fields: dict[str, object] = {
            "model": TransformerConfig(
                vocab_size=data.vocab_size, width=16, depth=1, num_heads=2, context=32, dropout=0.1
            ),
            "data": resolve(data, cache),
            "optimizer": OptimizerConfig(learning_rate=1e-2),
            "schedule": ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=5120),
            "tokens": 25600,
            "batch_tokens": 256,
        }
        return RunConfig(**(fields | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def sweep_text() -> str:
    """The YAML of a sweep of four tiny runs."""
    return SWEEP


@pytest.fixture
def run_verb(cache: Cache) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m experiments ...` as a user would and returns what it said."""

    def run(*words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "experiments", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


class FakePrograms:
    """Programs that stand before those of this machine; each of their calls is written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, body: str) -> Path:
        """Make or replace the program `name`, a bash script."""
        path = self.folder / name
        path.write_text(f'#!/bin/bash\necho "$@" >> {self.folder}/{name}.calls\n{body}\n')
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[str]:
        """The arguments of each call of a program so far."""
        path = self.folder / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """A folder of fake programs at the front of a short PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return FakePrograms(folder)
