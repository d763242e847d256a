"""Golden section and bisection over arrays of brackets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import elementwise

from analysis.univariate import boundary, minimum


@given(st.lists(st.floats(-0.9, 0.9), min_size=1, max_size=8), st.floats(0.1, 4.0))
def test_every_bracket_finds_its_own_minimum(places: list[float], bend: float) -> None:
    at = np.array(places)
    found = minimum(lambda x: bend * (x - at) ** 2, np.full(at.size, -1.0), np.full(at.size, 1.0), steps=60)
    np.testing.assert_allclose(found, at, atol=1e-7)


def test_a_function_that_falls_to_the_end_is_least_there() -> None:
    found = minimum(lambda x: np.exp(-x), np.zeros(2), np.array([1.0, 3.0]), steps=60)
    np.testing.assert_allclose(found, [1.0, 3.0], atol=1e-9)


@given(st.lists(st.floats(-0.99, 0.99), min_size=1, max_size=8))
def test_every_bracket_finds_where_its_condition_ends(places: list[float]) -> None:
    at = np.array(places)
    found = boundary(lambda x: x < at, np.full(at.size, -1.0), np.full(at.size, 1.0))
    np.testing.assert_allclose(found, at, atol=1e-15)


def test_both_agree_with_scipy() -> None:
    low, middle, high = np.linspace(-1.0, 0.5, 7), np.full(7, 0.8), np.linspace(1.5, 5.0, 7)
    ours = minimum(lambda x: np.cosh(x - 1), low, high, steps=60)
    theirs = elementwise.find_minimum(lambda x: np.cosh(x - 1), (low, middle, high))
    np.testing.assert_allclose(ours, theirs.x, atol=1e-6)
    roots = elementwise.find_root(lambda x: np.exp(x) - 2, (low, high))
    assert boundary(lambda x: np.exp(x) < 2, low, high) == pytest.approx(roots.x, rel=1e-12)
