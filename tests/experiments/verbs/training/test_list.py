"""`list` shows every sweep of a store; one damaged manifest hides no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import isoflop
from experiments.data.cache import Cache
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from tests.experiments.conftest import SWEEP


def test_every_sweep_of_a_store_is_listed_and_a_damaged_manifest_is_named(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isoflop.main(["list", "--store", str(tmp_path)]) == 2
    assert "isoflop run" in capsys.readouterr().err
    file = tmp_path / "tiny.yaml"
    file.write_text(SWEEP)
    PlannedSweep.write(expand_file(file, cache=Cache()), file, RunStore(tmp_path))
    (tmp_path / "sweeps" / "broken.json").write_text("{")
    assert isoflop.main(["list", "--store", str(tmp_path)]) == 0
    assert "0 of 4" in capsys.readouterr().out
    assert isoflop.main(["list", "--store", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["sweeps"]}
    assert (rows["tiny"]["num_runs"], rows["tiny"]["num_done"]) == (4, 0)
    assert rows["broken"]["num_runs"] is None
    assert "broken.json" in rows["broken"]["note"]
