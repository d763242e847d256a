"""Every sweep that is shipped can be planned, and those that reports were made of keep the identities of their runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.data.cache import Cache

SWEEPS = Path(__file__).resolve().parents[3] / "experiments" / "sweeps"
IDENTITIES = {
    "families": "36 f09850561143",
    "optimizers": "48 2280dac924c4",
    "positions": "162 2b0c3c5a407b",
    "quickstart": "25 19585cebbed5",
    "recipe": "35 e4980492437d",
    "recipe-bias": "6 3e4d2471aee6",
    "smoke": "14 280bdf035334",
}
"""Number of runs and 12 digits of the sha256 of their ids, by sweep; a change here makes published runs new ones."""


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_sweep_can_be_planned(
    file: Path, cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(file), "--store", str(tmp_path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    ids = [row["run_id"] for row in plan["runs"]]
    assert plan["num_runs"] == len(set(ids)) == len(ids) > 0
    assert all(row["flops"] > 0 and row["seconds"] > 0 and not row["done"] for row in plan["runs"])
    digest = hashlib.sha256("".join(sorted(ids)).encode()).hexdigest()[:12]
    assert IDENTITIES.get(file.stem, f"{len(ids)} {digest}") == f"{len(ids)} {digest}"
