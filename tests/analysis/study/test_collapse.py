"""Normalised training curves: alike runs collapse, and one that was trained otherwise is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.study.collapse import FRACTIONS, collapse_of

FLOOR = 1.5


def curves(count: int = 8, *, noise: float = 0.0, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Runs of several sizes whose loss above the floor falls as one power of the part of their tokens."""
    rng = np.random.default_rng(seed)
    out = {}
    for k in range(count):
        tokens = np.linspace(0.01, 1.0, 150) * 1e6 * 2**k
        loss = FLOOR + 0.5 * 0.8**k * (tokens / tokens[-1]) ** -0.3
        out[f"run{k}"] = pd.DataFrame({"tokens": tokens, "train_loss": loss + noise * rng.standard_normal(150)})
    return out


def test_runs_trained_alike_collapse_on_one_curve() -> None:
    found = collapse_of(curves(), FLOOR)
    assert found is not None
    assert found.spread.value < 1e-3
    assert found.far == {}
    assert found.common == pytest.approx(FRACTIONS**-0.3, rel=0.02)
    assert "none leaves" in found.sentence()


def test_noise_is_the_spread_and_has_an_interval() -> None:
    quiet, loud = (collapse_of(curves(noise=sd), FLOOR) for sd in (0.002, 0.02))
    assert quiet is not None
    assert loud is not None
    assert loud.spread.value > 3 * quiet.spread.value
    assert loud.spread.lo is not None


def test_a_run_with_a_bump_is_named_with_its_place() -> None:
    runs = curves(noise=0.001)
    bad = runs["run3"]
    x = bad["tokens"] / bad["tokens"].iloc[-1]
    runs["run3"] = bad.assign(train_loss=bad["train_loss"] + 0.2 * np.exp(-(((x - 0.6) / 0.1) ** 2)))
    found = collapse_of(runs, FLOOR)
    assert found is not None
    assert list(found.far) == ["run3"]
    assert found.far["run3"][1] == pytest.approx(0.6, abs=0.06)
    assert "run3" in found.sentence()


def test_too_few_curves_or_losses_below_the_floor_give_none() -> None:
    assert collapse_of(curves(3), FLOOR) is None
    assert collapse_of(curves(), 10.0) is None
