"""The search for a learning rate: it goes on until the best is inside, and says so where it is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.tuning.rates import RATE_OVER_FULL, grow, starting_rate
from models.config.finetuning import METHODS


@given(vertex=st.floats(-3.4, 3.4), curvature=st.floats(0.1, 10), floor=st.floats(0.1, 3))
def test_a_parabola_within_the_limit_is_found_inside(vertex: float, curvature: float, floor: float) -> None:
    rates = grow(lambda power: floor + curvature * (power - vertex) ** 2 / 2, span=1, limit=4)
    assert rates.best is not None
    assert abs(rates.best - vertex) <= 0.5 + 1e-9
    assert not rates.at_edge
    assert rates.spare == pytest.approx(curvature * (rates.best - vertex) ** 2 / 2, abs=1e-9)


def test_a_loss_that_falls_for_ever_ends_at_the_edge() -> None:
    rates = grow(lambda power: 1.0 - 0.01 * power, span=1, limit=3)
    assert (rates.tried, rates.best, rates.at_edge, rates.spare) == ((-1, 0, 1, 2, 3), 3, True, None)


def test_nothing_is_best_while_a_loss_is_missing() -> None:
    known = {-1: 2.0, 0: 1.5}
    assert grow(known.get, span=1, limit=4).best is None
    known[1] = 1.0
    assert grow(known.get, span=1, limit=4).tried == (-1, 0, 1, 2)


def test_a_rate_that_diverges_is_never_best() -> None:
    rates = grow(lambda power: math.inf if power > 0 else 1.0 - power * 0.0, span=1, limit=4)
    assert rates.best == 0


def test_one_rate_is_not_tuned() -> None:
    rates = grow(lambda power: 1.0, span=0, limit=0)
    assert (rates.tried, rates.best, rates.at_edge) == ((0,), 0, True)


def test_every_method_has_a_starting_rate_that_falls_with_width() -> None:
    assert set(RATE_OVER_FULL) == set(METHODS)
    assert starting_rate("lora", 768) == pytest.approx(10 * starting_rate("full", 768))
    assert starting_rate("full", 384) == pytest.approx(2 * starting_rate("full", 768))
