"""Sweeps whose rates are tuned: what a report fits, and what the committed rounds on the speeches say."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.api import load_runs, tuned
from analysis.study.build import build_study
from analysis.study.study import Choices
from experiments.config.reading import load_sweep
from experiments.config.sweep import SweepConfig

ROOT = Path(__file__).resolve().parents[3]
ROUNDS = sorted((ROOT / "reports" / "tuned-speeches").glob("round-*.parquet"))


def test_a_report_of_tuned_rates_fits_the_best_run_of_each_cell() -> None:
    study = build_study(ROUNDS[:1], Choices(bootstrap=0, simulations=0, law="hoffmann"))
    frame = study.table.frame
    roles = frame["role_shown"].value_counts()
    assert len(frame) == 36
    assert roles["other rate"] == 24
    assert len(frame) - roles["other rate"] == 12
    kept = frame[frame["role_shown"] != "other rate"].set_index(["params", "tokens"])["loss"].sort_index()
    assert kept.equals(frame.groupby(["params", "tokens"])["loss"].min())


def test_the_recipe_of_the_speeches_is_the_law_of_its_three_rounds() -> None:
    found = tuned(load_runs(*ROUNDS))
    sweep = load_sweep(ROOT / "experiments" / "sweeps" / "tuned-speeches-recipe.yaml")
    assert isinstance(sweep, SweepConfig)
    law = sweep.recipe.rate_law
    assert law is not None
    assert law.coefficient == pytest.approx(found.coefficient, rel=1e-5)
    assert law.params == pytest.approx(found.exponents["params"].value, rel=1e-5)
    assert law.tokens == pytest.approx(found.exponents["tokens"].value, rel=1e-5)
    assert not [cell for cell in found.cells if cell.edge]
