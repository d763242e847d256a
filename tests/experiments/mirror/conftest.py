"""A store with records that nobody trained, and a W&B server of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from experiments.config.counts import design_of
from experiments.config.run import RunConfig, canonical, run_id
from experiments.files import append_rows
from experiments.manifests import Manifest
from experiments.mirror.client import Client
from experiments.records import RunRecord, RunStatus
from experiments.store.store import RunStore
from experiments.verbs.records.sync import Sync
from tests.experiments.mirror.wandb_backend import Backend


def metrics(steps: Sequence[int]) -> list[dict[str, Any]]:
    """Rows as a recorder writes them."""
    return [
        {"step": step, "tokens": 256 * step, "flops": 1.5e6 * step, "train_loss": 3.0 / step, "lr": 0.01, "mfu": None}
        for step in steps
    ]


@dataclass
class Study:
    """A sweep of tiny runs whose records are written by hand."""

    store: RunStore
    configs: list[RunConfig]
    name: str = "study"
    ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store.prepare()
        self.ids = [run_id(config) for config in self.configs]
        for identity, config in zip(self.ids, self.configs, strict=True):
            self.store.write_config(identity, config)
        self.manifest = self.list_runs(self.name, self.ids)

    def list_runs(self, name: str, ids: Sequence[str]) -> Manifest:
        """Write a manifest."""
        labels = {identity: {"role": "fit", "budget": 1e9} for identity in ids}
        manifest = Manifest(name=name, runs=labels, source=f"{name}.yaml")
        self.store.write_manifest(manifest)
        return manifest

    def write(self, index: int, steps: Sequence[int]) -> None:
        """Append rows to a run."""
        append_rows(self.store.metrics_path(self.ids[index]), metrics(steps))

    def publish(self, index: int, status: RunStatus = RunStatus.DONE, **execution: Any) -> RunRecord:
        """Publish a run's record."""
        record = RunRecord(
            run_id=self.ids[index],
            status=status,
            reason=None if status == RunStatus.DONE else "the loss became nan",
            config=canonical(self.configs[index]),
            design=design_of(self.configs[index], num_train_tokens=61440),
            outcome={"loss": 0.45 + index, "loss_se": 0.01, "bpb": 0.6, "val_sums": [1.0, 2.0]},
            execution={"device": "cpu", "versions": {"torch": "2.13.0"}, **execution},
        )
        self.store.publish(record)
        return record

    def client(self, mode: str, *, patience: float = 20.0, folder: Path | None = None, **options: Any) -> Client:
        """A client whose files lie in the store."""
        return Client(mode=mode, folder=folder or self.store.root, patience=patience, **options)

    def sync(self, mode: str, *, name: str | None = None, report: Path | None = None, **options: Any) -> int:
        """`sync` in this process; its exit status."""
        client = self.client(mode, **options)
        manifest = self.manifest if name is None else self.store.read_manifest(name)
        assert manifest is not None
        try:
            return Sync(store=self.store, manifest=manifest, client=client, report=report).once()
        finally:
            client.close()

    def command(self, *words: object) -> list[str]:
        """`sync` as a command line."""
        return [
            sys.executable,
            "-m",
            "experiments",
            "sync",
            self.name,
            "--store",
            str(self.store.root),
            *map(str, words),
        ]


@pytest.fixture
def make_study(tmp_path: Path, make_config: Callable[..., RunConfig]) -> Callable[[int], Study]:
    """Builds a study of so many runs."""

    def make(num_runs: int) -> Study:
        return Study(RunStore(tmp_path / "store"), [make_config(seed=seed) for seed in range(num_runs)])

    return make


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Backend]:
    """A W&B server that this process and its children are logged in to."""
    (tmp_path / "home").mkdir()
    with Backend() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield server
        assert server.unknown == []


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes and ends those that are left."""
    started: list[subprocess.Popen[str]] = []

    def begin(words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(words, text=True, env=dict(os.environ), **(pipes | options)))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)
