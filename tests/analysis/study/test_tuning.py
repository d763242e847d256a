"""What a report of fine-tuning computes: where methods cross, and how noise between seeds and the search enter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.study.tuning import _cells, _crossovers

MEASURED = ("accuracy", "macro_f1", "mcc")
EXAMPLES = (100, 300, 1000, 3000)


def curves(other: list[float], noise: float) -> pd.DataFrame:
    """Full fine-tuning, whose loss falls by 0.2 a step, and another method."""
    full = [1.0 - 0.2 * place for place in range(len(EXAMPLES))]
    rows = [
        {"pretrained": "a", "params": 1e4, "arm": arm, "examples": count, "loss": loss, "loss_se": noise}
        for arm, losses in (("full", full), ("lora", other))
        for count, loss in zip(EXAMPLES, losses, strict=True)
    ]
    return pd.DataFrame(rows)


def crossover(other: list[float], noise: float = 0.01) -> pd.Series:
    return _crossovers(curves(other, noise), np.random.default_rng(0)).iloc[0]


def test_methods_cross_where_their_difference_changes_its_sign() -> None:
    found = crossover([0.9, 0.75, 0.65, 0.6])  # full is worse by .1, .05, then better by .05, .2
    assert found["examples"] == pytest.approx(np.sqrt(300 * 1000))
    assert found["lo"] < found["examples"] < found["hi"]
    wider = crossover([0.9, 0.75, 0.65, 0.6], noise=0.02)
    assert wider["hi"] - wider["lo"] > found["hi"] - found["lo"]


@pytest.mark.parametrize(("other", "better"), [([2.0, 2.0, 2.0, 2.0], "full"), ([0.1, 0.1, 0.1, 0.1], "lora")])
def test_a_crossover_that_is_not_there_is_not_reached(other: list[float], better: str) -> None:
    found = crossover(other)
    assert found["examples"] is None
    assert f"not reached: {better} is the better one" in found["reason"]


def test_a_crossover_within_the_noise_has_no_interval() -> None:
    found = crossover([0.99, 0.79, 0.61, 0.41], noise=0.5)
    assert found["lo"] is None
    assert "of draws do not cross" in found["reason"]


def test_the_noise_of_a_cell_is_pooled_and_holds_what_the_search_left() -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            **{"pretrained": "a", "params": 1e4, "arm": "full", "examples": count, "seed": seed, "role": "fit"},
            **{"loss": float(np.exp(0.05 * rng.standard_normal())), "rate_at_edge": False, "rate_spare": 0.0},
            **dict.fromkeys((*MEASURED, "lr", "trainable_params", "flops", "forgetting", "pretrained_loss"), 1.0),
            **{"method": "full", "size": None},
        }
        for count in range(1, 201)
        for seed in range(2)
    ]
    cells = _cells(pd.DataFrame(rows), MEASURED)
    assert (cells["loss_se"] / cells["loss"]).to_numpy() == pytest.approx(0.05 / np.sqrt(2), rel=0.15)
    spared = _cells(pd.DataFrame(rows).assign(rate_spare=0.3), MEASURED)
    assert spared["loss_se"].to_numpy() == pytest.approx(np.hypot(cells["loss_se"], 0.3))
