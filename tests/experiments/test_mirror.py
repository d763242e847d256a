"""The W&B mirror, by the real client: offline files read back equal the local records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import RunConfig, run_id
from experiments.describe import design_of
from experiments.mirror.sending import Mirror
from experiments.planning import planned_runs
from experiments.records import Manifest, RunRecord
from experiments.store import RunStore


def history(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """run_id -> rows of every offline file of it, in the order of the files."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("offline-run-*/run-*.wandb")):
        words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        lines = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        rows = [record["history"]["item"] for record in map(json.loads, lines) if record["type"] == "history"]
        found.setdefault(file.stem.removeprefix("run-"), []).extend(rows)
    return found


@pytest.fixture
def half_trained(tmp_path: Path, make_config: Callable[..., RunConfig]) -> tuple[RunStore, Manifest, str]:
    """A store with one run that has written five rows."""
    store, config = RunStore(tmp_path), make_config()
    store.prepare()
    identity = run_id(config)
    store.write_config(identity, config)
    store.append_metrics(
        identity, [{"step": n, "tokens": 256 * n, "train_loss": 3.0 / n, "lr": 0.01} for n in range(1, 6)]
    )
    manifest = Manifest(name="study", runs={identity: {"role": "fit", "budget": 1.0}}, source="study.yaml")
    store.write_manifest(manifest)
    return store, manifest, identity


def test_rows_arrive_once_though_the_mirror_is_closed_and_opened_again(
    half_trained: tuple[RunStore, Manifest, str],
) -> None:
    store, manifest, identity = half_trained
    runs = planned_runs(store, manifest)
    first = Mirror(store=store, manifest=manifest)
    assert first.update(runs) == 5
    assert first.update(runs) == 0
    first.close()
    store.append_metrics(identity, [{"step": 6, "tokens": 1536, "train_loss": 0.5, "lr": 0.0}])
    design = design_of(runs[0].config, num_train_tokens=None)
    store.publish(RunRecord(run_id=identity, status="done", design=design, outcome={"loss": 0.45}))
    second = Mirror(store=store, manifest=manifest)
    assert second.update(runs) == 1
    second.close()
    assert second.finished(identity)
    assert Mirror(store=store, manifest=manifest).update(runs) == 0
    rows = history(store.root / "wandb")[identity]
    assert [row["tokens"] for row in rows] == [256 * n for n in range(1, 7)]
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in store.read_metrics(identity)]


def test_the_mirror_is_a_process_of_its_own_and_training_never_imports_wandb() -> None:
    words = "import sys; import experiments.worker; print('wandb' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.strip() == "False"
