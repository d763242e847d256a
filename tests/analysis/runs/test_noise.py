"""Paired differences and weights from seeds, against simulations in which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import UserError
from analysis.paired.difference import paired_difference
from analysis.runs.noise import seed_weights


def test_what_both_runs_find_hard_cancels_in_a_paired_difference() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(50, 500, 40)
    hardness = rng.normal(0, 0.5, 40)
    a = (2.00 + hardness + rng.normal(0, 0.01, 40)) * counts
    b = (1.97 + hardness + rng.normal(0, 0.01, 40)) * counts
    difference = paired_difference(a, b, counts)
    assert difference.value == pytest.approx(0.03, abs=0.01)
    assert difference.se is not None
    assert difference.se < 0.005


def test_a_paired_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits, studies = 0, 1000
    for _ in range(studies):
        counts = rng.integers(50, 500, 25)
        a = (2 + rng.normal(0, 0.1, 25)) * counts
        b = (2 - 0.02 + rng.normal(0, 0.1, 25)) * counts
        found = paired_difference(a, b, counts)
        assert found.lo is not None
        assert found.hi is not None
        hits += found.lo <= 0.02 <= found.hi
    assert 0.92 <= hits / studies <= 0.98


def test_a_run_does_not_differ_from_itself_and_order_changes_the_sign() -> None:
    sums, counts = np.array([10.0, 25.0, 31.0]), np.array([5, 12, 16])
    assert paired_difference(sums, sums, counts).value == 0
    other = sums + np.array([1.0, -2.0, 4.0])
    assert paired_difference(sums, other, counts).value == -paired_difference(other, sums, counts).value


def test_documents_that_differ_are_refused() -> None:
    with pytest.raises(UserError, match="same documents"):
        paired_difference([1.0, 2.0], [1.0], [1, 1])
    with pytest.raises(UserError, match="no interval"):
        paired_difference([1.0], [1.0], [1])


def test_weights_follow_the_variance_where_replicates_show_it() -> None:
    rng = np.random.default_rng(2)
    at = np.geomspace(1e5, 1e9, 12)
    variances = at**-0.5 * rng.chisquare(4, 12) / 4
    tokens = np.array([1e5, 1e9])
    found = seed_weights(tokens, group_tokens=at, group_variances=variances, group_dof=np.full(12, 4))
    assert found.slope == pytest.approx(-0.5, abs=0.25)
    assert found.weights[1] / found.weights[0] == pytest.approx(1e4**-found.slope)


def test_a_trend_is_found_in_equal_variances_no_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(3)
    at, tokens = np.geomspace(1e5, 1e9, 6), np.array([1e5, 1e9])
    found = [
        seed_weights(tokens, group_tokens=at, group_variances=rng.chisquare(2, 6) / 2, group_dof=np.full(6, 2)).slope
        != 0
        for _ in range(1000)
    ]
    assert np.mean(found) <= 0.08


def test_without_replicates_weights_are_equal_and_the_reason_is_told() -> None:
    found = seed_weights([1.0, 2.0], group_tokens=[1.0], group_variances=[0.1], group_dof=[2])
    assert found.weights.tolist() == [1.0, 1.0]
    assert "fewer than two" in found.explanation
