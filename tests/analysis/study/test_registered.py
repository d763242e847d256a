"""Registered predictions: written before, read as they were, scored when the run has come; and the board of all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import isoflop
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from analysis.study.registered import data_digest, predictions_of, read_registered, register, score
from analysis.study.scoreboard import design_effect, scoreboard, wilson

MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POINT = {"params": 1e9, "tokens": 2e10}


def grid() -> pd.DataFrame:
    """An IsoFLOP grid on Hoffmann's surface with a little noise."""
    rng = np.random.default_rng(0)
    flops, ratio = (a.ravel() for a in np.meshgrid(np.geomspace(1e18, 1e20, 4), np.geomspace(3, 160, 6), indexing="ij"))
    params = np.sqrt(flops / 6 / ratio)
    tokens = flops / 6 / params
    loss = (1.69 + 406.4 * params**-0.34 + 410.7 * tokens**-0.28) * np.exp(0.003 * rng.standard_normal(flops.size))
    return pd.DataFrame({"params": params, "tokens": tokens, "flops": flops, "loss": loss})


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_law("hoffmann", grid(), bootstrap=100)


@pytest.fixture
def file(fit: Fit, tmp_path: Path) -> Path:
    """Two registered predictions."""
    path = tmp_path / "registered.jsonl"
    register(path, predictions_of(fit, POINT, code="test", now=MOMENT))
    register(path, predictions_of(fit, {"params": 2e9, "tokens": 4e10}, code="test", now=MOMENT))
    return path


def runs(began: float = MOMENT.timestamp() + 60, loss: float = 2.5) -> pd.DataFrame:
    return pd.DataFrame([{**POINT, "loss": loss, "run_id": "abc", "began_unix_seconds": began}])


def test_a_registration_holds_what_was_predicted_and_is_read_back(file: Path, fit: Fit) -> None:
    first, second = read_registered(file)
    assert first.at == POINT
    assert second.at == {"params": 2e9, "tokens": 4e10}
    assert first.loss == pytest.approx(float(fit.predict(POINT)["loss"].iloc[0]))
    assert first.prediction[0] < first.confidence[0] < first.loss < first.confidence[1] < first.prediction[1]
    assert {"time", "code", "law", "data_hash", "at", "loss", "confidence", "prediction", "level"} <= set(
        json.loads(file.read_text().splitlines()[0])
    )


def test_a_run_that_came_after_is_scored_and_others_wait(file: Path) -> None:
    rows = score(file, runs(), get_law("hoffmann"))
    assert len(rows) == 1
    one = rows.iloc[0]
    assert one["error_fraction"] == pytest.approx(one["predicted"] / 2.5 - 1)
    assert bool(one["covered"]) == (one["lo"] <= 2.5 <= one["hi"])
    assert one["checked"]


def test_a_run_whose_time_is_unknown_is_scored_and_said_to_be_unchecked(file: Path) -> None:
    rows = score(file, runs().drop(columns="began_unix_seconds"), get_law("hoffmann"))
    assert not rows["checked"].any()


def test_a_run_older_than_its_prediction_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"run abc began at 2026-03-01T11:59:00Z, before it was predicted in line 1"):
        score(file, runs(MOMENT.timestamp() - 60), get_law("hoffmann"))


@pytest.mark.parametrize("change", ["number", "removed", "swapped", "text"])
def test_a_file_that_was_changed_is_refused(file: Path, change: str) -> None:
    lines = file.read_text().splitlines()
    if change == "number":
        body = json.loads(lines[0])
        lines[0] = json.dumps({**body, "loss": body["loss"] * 1.01})
    elif change == "removed":
        lines = lines[1:]
    elif change == "swapped":
        lines = lines[::-1]
    else:
        lines[0] = "{}"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="restore the file as it was"):
        read_registered(file)


def test_a_changed_law_is_refused(file: Path, fit: Fit) -> None:
    with pytest.raises(UserError, match="make the report with --law hoffmann"):
        score(file, runs(), get_law("kaplan"))
    other = fit_law("kaplan", grid(), bootstrap=100)
    with pytest.raises(UserError, match="predicts this point under the law hoffmann, not kaplan, already"):
        register(file, predictions_of(other, POINT, code="test"))


def test_a_formula_that_changed_since_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.study.registered.law_digest", lambda law: "another")
    with pytest.raises(UserError, match="another form of hoffmann"):
        score(file, runs(), get_law("hoffmann"))


def test_a_point_is_registered_once(file: Path, fit: Fit) -> None:
    with pytest.raises(UserError, match="a point is registered once"):
        register(file, predictions_of(fit, POINT, code="test"))


def test_the_digest_of_runs_does_not_depend_on_their_order() -> None:
    frame = grid()
    one, other, less = (fit_law("hoffmann", part) for part in (frame, frame.iloc[::-1], frame.iloc[1:]))
    assert data_digest(one) == data_digest(other)
    assert data_digest(one) != data_digest(less)


def test_from_the_command_line_a_prediction_is_registered_scored_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "runs.csv", tmp_path / "reports" / "study"
    grid().to_csv(table, index=False)
    words = ["fit", str(table), "--law", "hoffmann", "--bootstrap", "100", "--out", str(tmp_path / "fit.json")]
    assert isoflop.main(words) == 0
    registered = str(out / "registered.jsonl")
    words = ["predict", str(tmp_path / "fit.json"), "--at", "params=2e9,tokens=4e10", "--register", registered]
    assert isoflop.main([*words, "--json"]) == 0
    assert isoflop.main([*words, "--json"]) == 2
    new = pd.DataFrame([{"params": 2e9, "tokens": 4e10, "flops": 4.8e20, "loss": 2.1}])
    pd.concat([grid(), new]).to_csv(table, index=False)
    report = ["report", str(table), "--out", str(out), "--bootstrap", "100", "--simulations", "0"]
    assert isoflop.main(report) == 0
    assert "Registered predictions" in (out / "report.html").read_text()
    capsys.readouterr()
    assert isoflop.main(["scoreboard", str(tmp_path / "reports"), "--json"]) == 0
    board: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in board["studies"]} == {"held out", "registered"}
    held = json.loads((out / "heldout.json").read_text())
    assert held["reach"] == pytest.approx(4.8, rel=1e-3)
    run = held["runs"][0]
    assert run["lo"] < run["lo_90"] < run["predicted"] < run["hi_90"] < run["hi"]


def test_coverage_over_studies_has_wilson_s_interval_of_fewer_runs_where_studies_differ(tmp_path: Path) -> None:
    for study, covered in (("a", 10), ("b", 2)):
        runs = [
            {
                "run_id": f"{i}",
                "predicted": 2.0,
                "lo": 1.9,
                "hi": 2.1,
                "error_fraction": 0.0,
                "measured": 2.0 if i < covered else 3.0,
            }
            for i in range(10)
        ]
        (tmp_path / study).mkdir()
        (tmp_path / study / "heldout.json").write_text(json.dumps({"runs": runs}))
    board = scoreboard(tmp_path)
    assert board.coverage.value == pytest.approx(0.6)
    narrow = wilson(0.6, 20)
    assert board.coverage.lo is not None
    assert board.coverage.lo < narrow[0]


def test_wilson_s_interval_is_that_of_the_textbook_and_alike_studies_count_in_full() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert design_effect(np.array([1.0, 0, 1, 0]), np.array(["a", "a", "b", "b"])) == 1.0


@pytest.mark.parametrize(("text", "words"), [(None, "no folder"), ("", "no report"), ("[]", "no scored predictions")])
def test_a_folder_without_scores_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    root = tmp_path / "reports"
    if text is not None:
        root.mkdir()
        if text:
            (root / "heldout.json").write_text(text)
    with pytest.raises(UserError, match=words):
        scoreboard(root)
