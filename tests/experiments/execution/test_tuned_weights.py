"""Weights of fine-tuned runs are those of the published record, whoever finishes later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.data.cache import Cache
from experiments.execution import tuning
from experiments.planning.planned_sweep import PlannedSweep
from experiments.records import RunRecord
from experiments.store.store import RunStore
from experiments.store.weights import WEIGHTS
from experiments.training.tuning.model import learned
from tests.experiments.verbs.training.test_finetune import store, write
from tests.tuning import train

__all__ = ["store", "write"]  # fixtures


def test_a_fine_tuning_worker_that_was_overtaken_leaves_the_winner_s_weights(
    write: Callable[..., Path], store: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runs = write("overtaken", rates={"span": 0}), RunStore(store)
    train(path, store, cache)
    identity = PlannedSweep.find("overtaken", store).run_ids[0]
    folder, record = runs.run_folder(identity), runs.record_path(identity)
    weights, winner, text = folder / WEIGHTS, (folder / WEIGHTS).read_bytes(), record.read_bytes()
    record.unlink()
    publish = RunStore.publish

    def other(model: Any) -> Any:
        return {name: value + 1 for name, value in learned(model).items()}

    def overtaken(self: RunStore, late: RunRecord) -> bool:
        record.write_bytes(text)  # another worker published just now
        return publish(self, late)

    monkeypatch.setattr(tuning, "learned", other)
    monkeypatch.setattr(RunStore, "publish", overtaken)
    train(path, store, cache)
    assert record.read_bytes() == text
    assert weights.read_bytes() == winner
    assert not list(folder.glob(".weights-*"))
