"""A study whose held-out runs are predicted by a weighted set of laws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.laws.registry import AUTO, get_law
from analysis.report.folder import heldout_json
from analysis.report.headline import headline
from analysis.study.build import build_study
from analysis.study.study import Choices, Study
from experiments.config.report_laws import WEIGHTED_SET
from experiments.config.sweep import ReportConfig


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Seven budgets of Hoffmann's law, the largest held out."""
    flops = np.repeat(np.geomspace(1e18, 1e20, 7), 6)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 6), 7)
    data = {"params": params, "tokens": flops / (6 * params)}
    noise = 0.003 * np.random.default_rng(1).standard_normal(params.size)
    loss = get_law("hoffmann")([1.8172, 482.01, 2085.43, 0.3478, 0.3658], data) * np.exp(noise)
    path = tmp_path_factory.mktemp("weighted") / "runs.csv"
    pd.DataFrame({**data, "flops": flops, "loss": loss}).to_csv(path, index=False)
    return build_study([path], Choices(law=AUTO, bootstrap=30, simulations=0))


def test_the_set_predicts_and_its_heaviest_law_is_drawn(study: Study) -> None:
    assert study.auto is not None
    assert study.heldout is not None
    assert study.choices.law == study.comparison.fit.law.name == next(iter(study.auto.weights))
    rows = study.heldout.rows
    assert len(rows) == 6
    said = study.auto.predict({name: rows[name].to_numpy() for name in ("params", "tokens")})
    np.testing.assert_allclose(rows["lo"], said["prediction_lo"])
    alone = study.comparison.fit.predict({name: rows[name].to_numpy() for name in ("params", "tokens")})
    np.testing.assert_allclose(rows["law_hi"], alone["prediction_hi"])


def test_the_interval_of_one_law_is_labelled_as_what_it_rests_on(study: Study) -> None:
    text = headline(study)
    assert text.startswith("A weighted set of laws, fitted to")
    assert f"If {study.choices.law} holds" in text
    assert any("weighted set" in note for note in study.notes)
    assert {"law_lo", "law_hi"} <= set(heldout_json(study)["runs"][0])
    assert study.heldout is not None
    assert not study.heldout.mape.has_interval
    assert study.heldout.carried_mape.has_interval


def test_a_sweep_may_ask_for_it_before_it_is_trained() -> None:
    assert ReportConfig(law=WEIGHTED_SET).law == AUTO
