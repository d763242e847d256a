"""Estimates, shared bootstrap draws, and how quantities are printed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.estimate import Estimate, percent_text
from analysis.files import json_ready
from analysis.formatting import format_compute, format_number, format_percent, format_size
from analysis.uncertainty.bootstrap import bootstrap_rows


def test_an_estimate_without_an_interval_says_why() -> None:
    assert "no interval: one run" in str(Estimate(value=0.5, reason="one run"))
    assert Estimate(value=0.5).reason is not None
    assert str(Estimate(value=0.514, lo=0.47, hi=0.552)) == "0.514 (0.470, 0.552)"
    with pytest.raises(ValueError, match="two ends"):
        Estimate(value=1.0, lo=0.5)


def test_draws_become_percentiles_and_too_few_become_none() -> None:
    draws = np.linspace(0, 1, 1001)
    item = Estimate.from_draws(0.5, draws, level=0.9)
    assert (item.lo, item.hi) == pytest.approx((0.05, 0.95))
    assert item.covers(0.2)
    assert not item.covers(0.99)
    assert not Estimate.from_draws(0.5, np.full(1000, math.nan)).has_interval
    assert Estimate.from_draws(0.5, [math.nan] * 900 + [0.5] * 100).reason == "100 of 1000 draws gave an estimate"


def test_an_estimate_survives_json() -> None:
    for item in (Estimate(value=1.5, lo=1.0, hi=2.0, se=0.25), Estimate(value=math.nan, reason="nothing to fit")):
        again = Estimate.from_dict(item.to_dict())
        assert again.to_dict() == item.to_dict()
    assert json_ready({"a": np.float64("nan"), "b": np.arange(2), "c": (math.inf, 1)}) == {
        "a": None,
        "b": [0, 1],
        "c": [None, 1],
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 5))
def test_clusters_are_drawn_whole_and_strata_keep_their_size(rows: int, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, groups, rows)
    weights = bootstrap_rows(rows, 20, rng=np.random.default_rng(seed), cluster=cluster)
    for name in np.unique(cluster):
        members = weights[:, cluster == name]
        assert (members == members[:, :1]).all()
    strata = np.arange(rows) % 2
    weights = bootstrap_rows(rows, 20, rng=np.random.default_rng(seed), strata=strata)
    for layer in (0, 1):
        assert (weights[:, strata == layer].sum(axis=1) == (strata == layer).sum()).all()
    again = bootstrap_rows(rows, 20, rng=np.random.default_rng(seed), strata=strata)
    assert (weights == again).all()


def test_quantities_are_printed_as_the_house_style_says() -> None:
    assert format_size(124_439_808) == "124M"
    assert format_size(2.6e9) == "2.6B"
    assert format_size(999_999) == "1M"
    assert format_size(950) == "950"
    assert format_compute(3e18) == "3.0e18"
    assert format_compute(5e9) == "5.0e9"
    assert format_number(0.51432) == "0.514"
    assert format_number(1.5e-6) == "1.50e-6"
    assert format_number(None) == "n/a"
    assert format_percent(0.0105) == "1.1 %"
    assert percent_text(Estimate(value=0.01, lo=0.005, hi=0.02)) == "1.0 % (0.50 %, 2.0 %)"
