"""Errors on tasks, straight from scale and by way of the loss: what is recovered, what is refused, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import isoflop as iso
from analysis.__main__ import main
from analysis.arrays import Array
from analysis.laws.registry import LAWS
from analysis.selection.tasks import TaskComparison, compare_tasks
from analysis.verbs.fitting.tasks import text


def table(seed: int = 0, noise: float = 0.001) -> pd.DataFrame:
    """Runs of seven sizes and four ratios, with a task of each law, one of luck and one that gets worse."""
    rng = np.random.default_rng(seed)
    params, ratio = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 7), [5.0, 20.0, 80.0, 320.0]))
    tokens = params * ratio
    at = {"params": params, "tokens": tokens}
    loss = LAWS["hoffmann"]([1.7, 400.0, 410.0, 0.34, 0.28], at)

    def noisy(error: Array) -> Array:
        return np.asarray(error + noise * rng.standard_normal(error.size))

    return pd.DataFrame(
        {
            "params": params,
            "tokens": tokens,
            "loss": loss,
            "by_loss": noisy(LAWS["downstream-exponential"]([0.85, 2.0, 0.75], {"loss": loss})),
            "by_scale": noisy(LAWS["downstream-direct-size"]([0.75, 90.0, 120.0, 0.3, 0.28], at)),
            "luck": 0.5 + 0.02 * rng.standard_normal(params.size),
            "worse": noisy(0.3 + 0.02 * np.log(params * tokens) / 40),
        }
    )


@pytest.fixture(scope="module")
def found() -> TaskComparison:
    frame = table()
    return compare_tasks(frame, ["by_loss", "by_scale", "luck", "worse"], frame["params"] > 1e9)


def test_each_way_finds_the_task_that_follows_its_law(found: TaskComparison) -> None:
    by_loss, by_scale, _, _ = found.tasks
    assert by_loss.two_step is not None
    assert by_loss.two_step.error < 0.003
    assert "two steps" in by_loss.predictable_by
    assert by_scale.direct is not None
    assert by_scale.direct.error < 0.003
    assert "direct" in by_scale.predictable_by
    for route in (by_loss.two_step, by_scale.direct):
        assert route.covered is not None
        assert route.covered >= 6
        assert route.closer > 4


def test_luck_and_what_gets_worse_with_scale_are_called_unpredictable(found: TaskComparison) -> None:
    _, _, luck, worse = found.tasks
    assert luck.predictable_by == ()
    assert "not predictable" in luck.verdict
    assert worse.trend < 0
    assert "errors do not fall with loss" in worse.verdict
    assert found.num_predictable == 2
    assert found.verdict.startswith("2 of 4 tasks are predictable")


def test_the_trivial_prediction_is_the_better_of_two() -> None:
    frame = table()
    held = (frame["params"] > 1e9).to_numpy()
    score = compare_tasks(frame, ["luck"], held).tasks[0]
    fitted, larger = frame["luck"][~held], frame["luck"][held]
    last = frame["luck"].to_numpy()[np.argmax(np.where(held, 0.0, frame["params"] * frame["tokens"]))]
    assert score.trivial == pytest.approx(min((larger - fitted.mean()).abs().mean(), (larger - last).abs().mean()))


def test_held_out_errors_are_never_seen_by_the_fits() -> None:
    frame = table()
    held = frame["params"] > 1e9
    moved = frame.assign(by_loss=frame["by_loss"] + 0.1 * held)
    first, second = (compare_tasks(one, ["by_loss"], held).tasks[0] for one in (frame, moved))
    assert (first.trend, first.trend_p) == (second.trend, second.trend_p)
    assert first.two_step is not None
    assert second.two_step is not None
    assert second.two_step.error == pytest.approx(0.1, abs=0.003)
    assert not second.predictable_by


def test_chance_calls_pure_luck_predictable_in_few_tables() -> None:
    verdicts = []
    for seed in range(5):
        frame = table(seed)
        frame = frame[frame["tokens"] < 100 * frame["params"]]
        verdicts.append(bool(compare_tasks(frame, ["luck"], frame["params"] > 1e9).tasks[0].predictable_by))
    assert sum(verdicts) <= 1


def test_the_verb_and_the_python_call_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, file = table(), tmp_path / "runs.csv"
    frame.to_csv(file, index=False)
    words = [
        "tasks",
        str(file),
        "--errors",
        "by_s*,luck",
        "--holdout",
        "params > 1e9",
        "--out",
        str(tmp_path / "t.csv"),
    ]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    called = iso.compare_tasks(iso.load_runs(file), ["by_scale", "luck"], frame["params"] > 1e9)
    assert said["verdict"] == called.verdict
    assert [row["task"] for row in said["tasks"]] == ["by_scale", "luck"]
    assert len(pd.read_csv(tmp_path / "t.csv")) == 2
    assert "trivial" in text(called)
    assert called.verdict in text(called)
    assert "by_scale" in called._repr_html_()


def test_too_few_runs_and_unknown_columns_are_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame, file = table(), tmp_path / "runs.csv"
    frame.to_csv(file, index=False)
    for words, said in (
        (["--errors", "by_lost", "--holdout", "params > 1e9"], "no column"),
        (["--errors", "luck", "--holdout", "params > 2e7"], "smaller"),
        (["--errors", "luck", "--holdout", "params > 1e12"], "holds out no run"),
    ):
        assert main(["tasks", str(file), *words]) == 2
        assert said in capsys.readouterr().err
