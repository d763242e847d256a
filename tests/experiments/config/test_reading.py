"""Sweep files: numbers as people write them, and one clear sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.config.reading import load_sweep
from experiments.config.sweep import SweepConfig
from experiments.errors import UserError
from tests.known import sweep_of


def load(tmp_path: Path, text: str, *overrides: str) -> SweepConfig:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return sweep_of(path, overrides)


GOOD = """
name: good
data: {corpus: sotu, context: 128}
design: {kind: isoflop, budgets: [1e18, 2.5E+18], shapes: [{width: 64, depth: 4}]}
"""


def test_budgets_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).design.budgets == (1e18, 2.5e18)


def test_overrides_on_the_command_line_win_over_the_file(tmp_path: Path) -> None:
    sweep = load(tmp_path, GOOD, "--design.budgets=[3e17]", "--data.context", "64", "--recipe.rate_scale=2")
    assert sweep.design.budgets == (3e17,)
    assert sweep.data.context == 64
    assert sweep.recipe.rate_scale == 2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("kind:", "knid:", "unknown key design.knid; did you mean kind?"),
        ("width:", "widht:", r"unknown key design.shapes\[0\].widht; did you mean width?"),
        ("corpus: sotu", "corpus: sotuu", "sotu"),
        ("isoflop", "isoflops", "did you mean isoflop?"),
        ("1e18", "many", "design.budgets.*many"),
        ("1e18", "-1e18", "positive"),
        ("name: good", "name: 'not/good'", "letters"),
        ("name: good\n", "", "name"),
        ("data:", "model: {width: 3}\ndata:", "model.width is set by"),
        ("data:", "model: {activaton: relu}\ndata:", "did you mean activation?"),
        ("data:", "recipe: {name: byte-smal}\ndata:", "did you mean byte-small?"),
        ("context: 128}", "context: 128", "line"),
        ("budgets: [1e18, 2.5E+18], ", "", "needs compute budgets"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_that_names_it(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in GOOD
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, GOOD.replace(before, after))
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    with pytest.raises(UserError, match=r"other\.yaml"):
        load_sweep(tmp_path / "sweep.yaml")
