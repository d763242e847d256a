"""The search for a learning rate: it goes on until the best is inside, and says so where it is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.tuning.rates import RATE_OVER_FULL, SMALL_BODIES, grow, starting_rate
from models.config.finetuning import METHODS, MethodName


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


def test_every_method_has_a_starting_rate_as_published_at_the_width_of_bert_and_above_it() -> None:
    assert set(RATE_OVER_FULL) == set(SMALL_BODIES) == set(METHODS)
    for method, multiple in RATE_OVER_FULL.items():
        assert starting_rate(method, 768) == pytest.approx(multiple * 5e-5)
        assert starting_rate(method, 1536) == pytest.approx(multiple * 2.5e-5)
    assert starting_rate("full", 384) == pytest.approx(1e-4)
    assert starting_rate("lora", 768) == pytest.approx(10 * starting_rate("full", 768))
    assert starting_rate("full", 384) == pytest.approx(2 * starting_rate("full", 768))


@given(method=st.sampled_from(METHODS), width=st.integers(4, 4096))
def test_starting_rates_lie_on_one_grid_of_factors_of_two(method: MethodName, width: int) -> None:
    above = starting_rate(method, width) / (RATE_OVER_FULL[method] * 5e-5 * 768 / width)
    assert above >= 1
    assert math.log2(above) == int(math.log2(above))
    assert above <= max(1, 768 / width) ** SMALL_BODIES[method] * (1 + 1e-8)
    assert starting_rate(method, width) >= starting_rate(method, width + 1)


@pytest.mark.parametrize(
    ("method", "above"), [("full", (16, 8, 8, 4)), ("scratch", (8, 8, 4, 4)), ("lora", (2,) * 4), ("prompt", (1,) * 4)]
)
def test_small_bodies_start_where_the_records_of_studies_found_the_best_rates(
    method: MethodName, above: tuple[int, ...]
) -> None:
    found = [starting_rate(method, width) * width / (RATE_OVER_FULL[method] * 5e-5 * 768) for width in (16, 32, 48, 64)]
    assert found == pytest.approx(list(above))
