"""The descent behind published coefficients: what its steps must be, and what its record must say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from analysis.arrays import Array
from analysis.published.curves import MULTIPOWER_2025
from benchmarks.multipower_descent import DECAY, MAX_STEPS, adamw

RECORD = Path(__file__).resolve().parents[3] / "benchmarks" / "multipower_descent.json"


def test_the_first_step_moves_each_parameter_by_its_rate_against_the_slope_and_decays_it() -> None:
    seen: list[Array] = []

    def bowl(theta: Array) -> tuple[float, Array]:
        seen.append(theta)
        return float(((theta - 3) ** 2).sum()), 2 * (theta - 3)

    rates = np.array([0.1, 0.01])
    adamw(np.array([5.0, 1.0]), bowl, rates)
    np.testing.assert_allclose(seen[1], np.array([5.0, 1.0]) * (1 - rates * DECAY) - rates * [1, -1], rtol=1e-6)


def test_it_ends_near_a_minimum_or_after_its_most_steps_and_returns_the_lowest_point() -> None:
    def bowl(theta: Array) -> tuple[float, Array]:
        return float(((theta - 3) ** 2).sum()), 2 * (theta - 3)

    near, steps = adamw(np.array([3.5]), bowl, np.array([0.1]))
    assert steps < MAX_STEPS
    assert abs(near[0] - 3) < 0.05
    far, steps = adamw(np.array([1000.0]), bowl, np.array([0.1]))
    assert steps == MAX_STEPS
    assert 790 < far[0] < 810


def test_the_published_coefficients_are_the_end_of_the_descent_and_no_minimum() -> None:
    for size in json.loads(RECORD.read_text(encoding="utf-8"))["sizes"]:
        end, published = size["coefficients"]["end of the descent"], MULTIPOWER_2025[size["size"]][1]
        assert size["coefficients"]["published"] == {name: round(value, 4) for name, value in published.items()}
        off = [abs(end[name] / value - 1) for name, value in published.items()]
        assert max(off) < 0.06
        assert size["objective"]["minimum"] < 0.5 * size["objective"]["published"]
        assert size["objective"]["end of the descent"] < 1.05 * size["objective"]["published"]
