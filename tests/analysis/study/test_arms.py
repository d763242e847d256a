"""Multipliers of a sweep's arms in its report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.report.tables import multipliers_table
from analysis.runs.table import RunTable
from analysis.study.arms import arm_axis, multipliers_of
from experiments.manifests import Manifest


def runs(gain: float, sizes: int = 5) -> pd.DataFrame:
    """Two arms on one grid; the second is worth `gain` times the compute."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for budget in (1e17, 4e17, 1.6e18, 6.4e18):
        for ratio in np.geomspace(4, 120, sizes):
            params = (budget / 6 / ratio) ** 0.5
            shared = 0.004 * rng.standard_normal()
            for arm, worth in (("rotary", 1.0), ("learned", gain)):
                size, tokens = params * worth**0.45, budget / 6 / params * worth**0.55
                loss = 1.69 + 406.4 / size**0.34 + 410.7 / tokens**0.28
                noise = np.exp(shared + 0.002 * rng.standard_normal())
                row = {"params": params, "tokens": budget / 6 / params, "flops": budget, "loss": loss * noise}
                rows.append({**row, "model.positions": arm, "role_shown": "fit", "seed": 0})
    return pd.DataFrame(rows)


def table_of(frame: pd.DataFrame) -> RunTable:
    """The rows as a table."""
    return RunTable(frame=frame, excluded=frame.iloc[:0], flags=pd.Series([""] * len(frame)), conventions={})


def manifest_of(frame: pd.DataFrame, *axes: str) -> Manifest:
    """A sweep that varies some columns."""
    labels = [{"budget": 1e17, "role": "fit", **{name: row[name] for name in axes}} for _, row in frame.iterrows()]
    return Manifest(name="arms", runs={f"{i:012x}": one for i, one in enumerate(labels)})


def test_a_sweep_with_arms_says_what_they_are_worth() -> None:
    frame = runs(1.5)
    found = multipliers_of(manifest_of(frame, "model.positions"), table_of(frame), level=0.95, notes=[])
    assert set(found["arm"]) == {"learned"}
    assert set(found["reference"]) == {"rotary"}
    assert len(found) == 3
    middle = found.iloc[1]
    assert middle["lo"] < 1.5 < middle["hi"]
    shown = multipliers_table(found)
    assert "multiplier over rotary" in shown.head
    assert shown.rows[0][0] == "learned"


def test_a_sweep_without_arms_or_with_several_axes_has_none() -> None:
    frame = runs(1.5)
    assert arm_axis(None, frame) is None
    assert arm_axis(manifest_of(frame), frame) is None
    both = frame.assign(**{"recipe.rate_scale": np.tile([0.5, 1.0], len(frame) // 2)})
    assert arm_axis(manifest_of(both, "model.positions", "recipe.rate_scale"), both) is None
    assert multipliers_of(None, table_of(frame), level=0.95, notes=[]).empty


def test_arms_that_cannot_be_compared_say_why() -> None:
    frame = runs(1.5)
    notes: list[str] = []
    one_budget = frame[frame["flops"] == 1e17].drop(columns=["params", "tokens"])
    found = multipliers_of(manifest_of(frame, "model.positions"), table_of(one_budget), level=0.95, notes=notes)
    assert found.empty
    assert "no compute multiplier of model.positions" in notes[0]
