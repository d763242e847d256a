"""What pre-training is worth in examples, read from the curve of runs from scratch."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from analysis.report.finetuning.sentences import worth_sentences
from analysis.study.transfer import examples_worth
from analysis.study.tuning import TuningStudy

EXAMPLES = (100, 1000, 10_000)


def cells(full: float, noise: float = 0.01) -> pd.DataFrame:
    """From scratch the loss falls by 1 with each factor of ten; a body tuned on 100 examples has one loss."""
    rows = [
        {"pretrained": "a", "params": 1e4, "arm": "scratch", "examples": count, "loss": 5.0 - place, "loss_se": noise}
        for place, count in enumerate(EXAMPLES)
    ]
    rows.append({"pretrained": "a", "params": 1e4, "arm": "full", "examples": 100, "loss": full, "loss_se": noise})
    return pd.DataFrame(rows)


def worth(full: float, noise: float = 0.01) -> pd.Series:
    return examples_worth(cells(full, noise), np.random.default_rng(0)).iloc[0]


def test_a_body_is_worth_the_examples_from_which_fresh_weights_reach_its_loss() -> None:
    found = worth(3.5)
    assert found["worth"] == pytest.approx(10**3.5)
    assert found["lo"] < found["worth"] < found["hi"]
    spread = np.log10(found["hi"] / found["lo"]) / 2 / 1.96  # one factor of ten a nat: noise of the loss and the line
    assert spread == pytest.approx(0.01 * np.sqrt(1.5), rel=0.1)
    assert found["reason"] is None


@pytest.mark.parametrize(
    ("loss", "bound", "why"), [(2.5, 10_000, "a lower bound: 10000 examples"), (5.5, 100, "an upper bound")]
)
def test_a_loss_beyond_the_curve_bounds_the_worth(loss: float, bound: float, why: str) -> None:
    found = worth(loss)
    assert found["worth"] == pytest.approx(bound)
    assert found["lo"] is None
    assert why in found["reason"]


def test_one_seed_gives_no_interval_and_noise_that_reaches_the_end_gives_no_upper_one() -> None:
    assert worth(3.5, float("nan"))["reason"] == "no interval: no cell has a second seed"
    near = worth(3.02, 0.1)
    assert near["hi"] is None
    assert near["lo"] < near["worth"]
    assert "no upper end" in near["reason"]


def test_without_runs_from_scratch_there_is_nothing_to_compare_with() -> None:
    table = cells(3.5)
    assert examples_worth(table[table["arm"] == "full"], np.random.default_rng(0)).empty


@pytest.mark.parametrize(
    ("loss", "noise", "said"),
    [
        (3.5, 0.01, r"Pre-training saves examples: to .* need about 32 \(30, 33\) times as many"),
        (2.5, 0.01, r"Pre-training saves examples: to .* need at least 100 times as many"),
        (5.5, 0.01, r"To reach .* need at most 1.0 times as many"),
        (3.02, 0.1, r"need about 95 \(at least \d+\) times as many"),
    ],
)
def test_a_sentence_tells_a_bound_from_an_estimate(loss: float, noise: float, said: str) -> None:
    study = SimpleNamespace(worth=examples_worth(cells(loss, noise), np.random.default_rng(0)))
    (sentence,) = worth_sentences(cast(TuningStudy, study))
    assert re.search(said, sentence), sentence
