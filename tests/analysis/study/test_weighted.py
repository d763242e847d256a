"""A study whose held-out runs are predicted by a weighted set of laws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.formatting import format_percent
from analysis.laws.registry import AUTO, get_law
from analysis.report.folder import heldout_json
from analysis.report.headline import headline, replies
from analysis.study.build import build_study
from analysis.study.study import Choices, Study
from experiments.config.report_laws import WEIGHTED_SET
from experiments.config.sweep import ReportConfig


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven budgets of Hoffmann's law, six sizes each."""
    flops = np.repeat(np.geomspace(1e18, 1e20, 7), 6)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 6), 7)
    data = {"params": params, "tokens": flops / (6 * params)}
    noise = 0.003 * np.random.default_rng(1).standard_normal(params.size)
    loss = get_law("hoffmann")([1.8172, 482.01, 2085.43, 0.3478, 0.3658], data) * np.exp(noise)
    path = tmp_path_factory.mktemp("weighted") / "runs.csv"
    pd.DataFrame({**data, "flops": flops, "loss": loss}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def study(runs: Path) -> Study:
    """The largest budget held out."""
    return build_study([runs], Choices(law=AUTO, bootstrap=30, simulations=0))


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
    assert ReportConfig().law is None


@pytest.mark.parametrize(("options", "weighed"), [([], True), (["--law", "hoffmann"], False)])
def test_a_report_predicts_by_a_weighted_set_unless_one_law_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], weighed: bool
) -> None:
    out = tmp_path / "report"
    words = ["report", str(runs), "--out", str(out), "--bootstrap", "30", "--simulations", "0", "--no-figures"]
    assert main([*words, *options, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert ("law_lo" in said["heldout"]["runs"][0]) is weighed
    assert (out / "auto.json").exists() is weighed
    assert json.loads((out / "fit.json").read_text())["law"] == "hoffmann"


def test_the_set_also_predicts_the_next_budget(runs: Path) -> None:
    weighed = build_study([runs], Choices(weigh=True, bootstrap=30, simulations=0))
    assert weighed.auto is not None
    assert weighed.choices.law == "hoffmann"
    said = replies(weighed)[2].sentences[0]
    assert "the weighted set of laws predicts a loss of" in said
    assert f"If hoffmann holds, {percent_of_law(weighed)} on average would do" in headline(weighed)


def percent_of_law(weighed: Study) -> str:
    """The mean half-width of the fitted law's own intervals, as the page says it."""
    assert weighed.heldout is not None
    rows = weighed.heldout.rows
    return format_percent(float(((rows["law_hi"] - rows["law_lo"]) / (2 * rows["predicted"])).mean()))


def test_with_too_few_runs_one_law_predicts_and_a_note_says_so(runs: Path) -> None:
    few = build_study(
        [runs], Choices(weigh=True, holdout="flops > 1.5e18", bootstrap=30, simulations=0), where="flops < 3e18"
    )
    assert few.heldout is not None
    assert few.auto is None
    assert any(
        note.startswith("held-out runs are predicted by hoffmann alone: weighing laws takes 8") for note in few.notes
    )


def test_the_set_draws_runs_singly_where_clusters_would_do_for_one_law_alone(runs: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(runs)
    frame["trunk"] = np.tile(np.arange(6), 7)  # six clusters are enough for five parameters, not to compare laws
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    weighed = build_study([path], Choices(weigh=True, bootstrap=30, simulations=0))
    assert weighed.choices.cluster == "trunk"
    assert weighed.auto is not None
    assert any(
        note.startswith("for the weighted set of laws, 6 trunks (shared first steps) are too few")
        for note in weighed.notes
    )
