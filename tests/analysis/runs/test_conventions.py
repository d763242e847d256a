"""What a table counts and in which unit its losses are; pages say no more than the table does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.runs.conventions import NATS, loss_unit
from analysis.study.build import build_study
from analysis.study.study import Choices


@pytest.mark.parametrize(
    ("columns", "unit"),
    [
        ({"loss": [1.0, 2.0]}, "unit as given"),
        ({"loss": [1.0, 2.0], "loss_se": [0.1, 0.1]}, NATS),
        ({"loss": [1.0, 2.0], "num_val_tokens": [10, 10]}, NATS),
        ({"loss": [1.0, 2.0], "loss_unit": ["bits per byte"] * 2}, "bits per byte"),
        ({"loss": [1.0, 2.0], "loss_unit": ["bits per byte", "nats per token"]}, "units differ"),
    ],
)
def test_the_unit_is_ours_or_what_the_table_says(columns: dict[str, list[object]], unit: str) -> None:
    assert loss_unit(pd.DataFrame(columns)) == unit


def test_a_page_of_another_s_table_claims_no_nats(tmp_path: Path) -> None:
    from analysis.report.headline import cards, replies

    params, flops = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e16, 1e18, 4)))
    tokens = flops / (6 * params)
    loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(loss.size))
    table = pd.DataFrame({"params": params, "flops": flops, "tokens": tokens, "loss": loss * noise})
    table.to_csv(tmp_path / "theirs.csv", index=False)
    study = build_study([tmp_path / "theirs.csv"], Choices(bootstrap=30, simulations=0))
    words = " ".join(sentence for reply in replies(study) for sentence in reply.sentences)
    words += " ".join(card.label for card in cards(study))
    assert "nats" not in words
    assert "unit as given" in words
