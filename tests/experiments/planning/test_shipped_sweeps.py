"""Every sweep that is shipped can be planned, and those that reports were made of keep the identities of their runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.config.reading import load_sweep
from experiments.config.tuning.sweep import FinetuneSweep
from experiments.data.cache import Cache

SWEEPS = Path(__file__).resolve().parents[3] / "experiments" / "sweeps"
IDENTITIES = {
    "families": "96 b040257ac643",
    "optimizers": "48 2280dac924c4",
    "peft-bodies": "4 6f8f838a21e1",
    "positions": "162 2b0c3c5a407b",
    "quickstart": "25 19585cebbed5",
    "recipe": "35 e4980492437d",
    "recipe-bias": "6 3e4d2471aee6",
    "smoke": "14 280bdf035334",
}
"""Number of runs and 12 digits of the sha256 of their ids, by sweep; a change here makes published runs new ones."""

FETCHED = {"isoflop-imdb": "imdb", "headlines-body": "news"}
"""Sweeps on a corpus that is fetched, and is not there in a new cache."""

TUNING = [file for file in sorted(SWEEPS.glob("*.yaml")) if "\npretrained:" in file.read_text()]
"""Sweeps that need the trained runs of another one."""


@pytest.mark.parametrize("file", TUNING, ids=lambda file: file.stem)
def test_a_shipped_fine_tuning_sweep_asks_for_a_shipped_sweep_of_bodies(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = load_sweep(file)
    assert isinstance(sweep, FinetuneSweep)
    if sweep.pretrained.file is not None or sweep.pretrained.scratch:  # its bodies are planned with it
        done = main(["plan", str(file), "--store", str(tmp_path), "--json"])
        out, err = capsys.readouterr()
        if done == 2:  # the task's texts may be fetched, and not be shipped
            assert "run: isoflop data fetch" in err
            return
        plan = json.loads(out)
        waiting = set(plan["waits_for"]) if sweep.pretrained.file is not None else set()
        assert done == 0
        assert {row["pretrained"] for row in plan["runs"] if not sweep.pretrained.scratch} == waiting
        return
    assert (SWEEPS / f"{sweep.pretrained.sweep}.yaml").is_file()
    assert main(["plan", str(file), "--store", str(tmp_path), "--json"]) == 2
    assert f"{sweep.pretrained.sweep!r}, which is not in the store" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(set(SWEEPS.glob("*.yaml")) - set(TUNING)), ids=lambda file: file.stem)
def test_a_shipped_sweep_can_be_planned(
    file: Path, cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if file.stem in FETCHED:
        assert main(["plan", str(file), "--store", str(tmp_path), "--json"]) == 2
        assert f"isoflop data fetch {FETCHED[file.stem]}" in capsys.readouterr().err
        return
    assert main(["plan", str(file), "--store", str(tmp_path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    ids = [row["run_id"] for row in plan["runs"]]
    assert plan["num_runs"] == len(set(ids)) == len(ids) > 0
    assert all(row["flops"] > 0 and row["seconds"] > 0 and not row["done"] for row in plan["runs"])
    digest = hashlib.sha256("".join(sorted(ids)).encode()).hexdigest()[:12]
    assert IDENTITIES.get(file.stem, f"{len(ids)} {digest}") == f"{len(ids)} {digest}"
