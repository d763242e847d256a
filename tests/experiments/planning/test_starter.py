"""A first study fits the corpus and the time that it was made for, and its file is one that `plan` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import isoflop
from experiments.config.designs import MIN_LAW_STEPS
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.errors import UserError
from experiments.planning.starter import BUDGET_RATIOS, MIN_SIZES, plan_starter


def speeches() -> DataConfig:
    return DataConfig(corpus="sotu", context=128, content_hash="0" * 64, tokenizer_hash="0" * 64)


@pytest.mark.parametrize("num_tokens", [3_000_000, 11_000_000, 400_000_000])
@pytest.mark.parametrize("minutes", [20, 200])
def test_a_first_study_stays_within_its_time_and_its_tokens(num_tokens: int, minutes: int) -> None:
    starter = plan_starter(speeches(), num_train_tokens=num_tokens, seconds=60 * minutes)
    assert starter.seconds <= 60 * minutes
    assert starter.max_epochs <= 4
    assert len(starter.budgets) == len(BUDGET_RATIOS)
    assert len(starter.shapes) >= MIN_SIZES
    assert starter.heldout_budget == pytest.approx(3 * starter.budgets[-1], rel=0.02)


def test_more_time_buys_more_compute() -> None:
    budgets = [
        plan_starter(speeches(), num_train_tokens=10**9, seconds=60 * minutes).budgets[-1]
        for minutes in (30, 300, 3000)
    ]
    assert budgets == sorted(budgets)
    assert budgets[-1] > 5 * budgets[0]


def test_too_little_text_and_too_little_time_are_sentences() -> None:
    with pytest.raises(UserError, match="10,000 training tokens, too few"):
        plan_starter(speeches(), num_train_tokens=10_000, seconds=6000)
    with pytest.raises(UserError, match="raise --minutes"):
        plan_starter(speeches(), num_train_tokens=10**7, seconds=1)


def test_the_file_of_init_is_planned_as_promised(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number}.txt").write_text(f"Text number {number}. " + "All work and no play. " * 6000)
    file = tmp_path / "mine.yaml"
    words = ["init", str(file), "--corpus", f"text:{texts}", "--minutes", "30", "--workers", "1"]
    assert isoflop.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: isoflop plan {file}"
    assert isoflop.main(["plan", str(file), "--json", "--store", str(tmp_path)]) == 0
    plan = json.loads(capsys.readouterr().out)
    fitted = [run for run in plan["runs"] if run["role"] == "fit"]
    assert min(run["steps"] for run in fitted) >= MIN_LAW_STEPS - 1
    for budget in {run["budget"] for run in fitted}:
        assert sum(run["budget"] == budget for run in fitted) >= MIN_SIZES
    assert sum(run["role"] == "heldout" for run in plan["runs"]) == 2
    assert sum(run["role"] == "replicate" for run in plan["runs"]) == 2
    assert plan["seconds"] <= 30 * 60
    assert isoflop.main(words) == 2
    assert "--force" in capsys.readouterr().err
