"""`Sweep` from Python is the command line: it plans, trains, says how far it is, and reads what came out."""

from __future__ import annotations

from pathlib import Path

import pytest

import isoflop as iso
from experiments.data.cache import Cache
from tests.experiments.conftest import SWEEP


@pytest.fixture
def sweep(tmp_path: Path, cache: Cache) -> iso.Sweep:
    """The tiny sweep in a store of its own."""
    file = tmp_path / "tiny.yaml"
    file.write_text(SWEEP)
    return iso.Sweep(file, store=tmp_path)


def test_a_sweep_is_planned_trained_and_read_from_python(sweep: iso.Sweep) -> None:
    plan = sweep.plan()
    assert len(plan) == 4
    assert not plan["done"].any()
    with pytest.raises(iso.UserError):
        sweep.status()
    assert sweep.run(wandb="off", workers=1) == 0
    assert sweep.status()["status"].tolist() == ["done"] * 4
    records = sweep.records()
    assert set(records["run_id"]) == set(plan["run_id"])
    assert sweep.plan()["done"].all()
    table = iso.load_runs(sweep.store / "sweeps" / "tiny.json")
    assert sorted(table.frame["loss"]) == sorted(records["loss"])


def test_overrides_replace_fields_and_a_wrong_option_is_a_sentence(sweep: iso.Sweep) -> None:
    one = iso.Sweep(sweep.file, "design.tokens=[12800]", store=sweep.store)
    assert len(one.plan()) == 2
    assert "design.tokens" in repr(one)
    assert "<table" in one._repr_html_()
    with pytest.raises(iso.UserError, match="colour"):
        sweep.run(colour="red")
    with pytest.raises(iso.UserError, match="wandb"):
        sweep.run(wandb="sometimes")
