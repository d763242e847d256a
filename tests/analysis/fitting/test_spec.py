"""FitSpec: one object or its fields by keyword; bounds that hold and that may be wide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit_law import fit_law, profile_law
from analysis.fitting.spec import FitSpec, spec_from
from analysis.laws.registry import LAWS


def runs(num_sizes: int = 8) -> dict[str, Array]:
    """Sizes with five token budgets each, drawn from Hoffmann's law."""
    params = np.repeat(np.geomspace(4e7, 1e10, num_sizes), 5)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), num_sizes)}
    loss = LAWS["hoffmann"]([1.8172, 482.01, 2085.43, 0.3478, 0.3658], data)
    data["loss"] = loss * np.exp(0.005 * np.random.default_rng(0).standard_normal(loss.size))
    data["trunk"] = np.repeat(np.arange(float(num_sizes)), 5)
    return data


def test_a_spec_and_its_fields_by_keyword_give_the_same_fit() -> None:
    data = runs()
    spec = FitSpec(objective="squared", residuals="raw", bootstrap=20, cluster="trunk", level=0.9, seed=5)
    by_spec = fit_law("hoffmann", data, spec).to_dict()
    by_keyword = fit_law(
        "hoffmann", data, objective="squared", residuals="raw", bootstrap=20, cluster="trunk", level=0.9, rng=5
    )
    assert by_keyword.to_dict() == by_spec
    assert fit_law("hoffmann", pd.DataFrame(data), spec).to_dict() == by_spec


def test_keywords_go_before_the_spec() -> None:
    spec = FitSpec(bootstrap=20, level=0.9)
    assert spec_from(spec, {}) is spec
    assert spec_from(spec, {"level": 0.8}).level == 0.8
    assert spec_from(spec, {"level": 0.8}).bootstrap == 20
    assert spec_from(None, {}, bootstrap=7).bootstrap == 7
    assert spec_from(None, {"bootstrap": 3}, bootstrap=7).bootstrap == 3
    assert spec_from(None, {"rng": None}).seed == 0


def test_a_generator_moves_on_and_a_number_does_not() -> None:
    spec = FitSpec(seed=3)
    assert spec.generator.integers(1000) == spec.generator.integers(1000)
    rng = np.random.default_rng(3)
    moving = FitSpec(seed=rng)
    assert moving.generator is rng
    first, second = moving.reseeded(), moving.reseeded()
    assert first.seed != second.seed
    assert spec.reseeded() is spec


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"level": 95}, "between 0 and 1"),
        ({"bootstrap": -1}, "or 0 for none"),
        ({"bootstrap": 1}, "two draws or more"),
        ({"delta": 0.0}, "needs a finite delta above zero"),
        ({"objective": "l2"}, "no objective is called"),
        ({"residuals": "both"}, "'log' or 'raw'"),
        ({"seed": -1}, "a whole number from 0"),
    ],
)
def test_a_spec_refuses_what_cannot_be(field: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec_from(None, field)


def test_bounds_hold_and_wide_ones_change_nothing() -> None:
    data = runs()
    free = fit_law("hoffmann", data)
    wide = fit_law("hoffmann", data, bounds={"alpha": (0.05, 2.0), "E": (None, 3.0)})
    assert wide.objective == pytest.approx(free.objective, rel=1e-12)
    tight = fit_law("hoffmann", data, bounds={"alpha": (0.4, 0.5)})
    assert tight.params["alpha"] == pytest.approx(0.4)
    assert tight.objective > free.objective
    assert tight.status == "bound_hit"
    assert tight.identified["alpha"] == "the optimum is at its lower bound"
    assert tight.to_dict()["options"]["bounds"] == {"alpha": [0.4, 0.5]}
    held = fit_law("hoffmann", data, bounds={"alpha": (0.4, 0.4), "beta": (0.4, 0.4)})
    assert held.params["alpha"] == held.params["beta"] == pytest.approx(0.4)
    profile = profile_law("hoffmann", data, FitSpec(bounds={"beta": (0.2, 0.6)}), name="alpha")
    assert profile.lo is not None
    assert profile.hi is not None
    assert profile.lo < free.params["alpha"] < profile.hi


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"gamma": (0.0, 1.0)}, "no parameter 'gamma' to bound"),
        ({"A": (1.0, 2.0)}, "A is an amplitude"),
        ({"alpha": (0.5, 0.4)}, "leave no value of alpha"),
    ],
)
def test_bounds_that_cannot_be_are_named(bounds: dict[str, tuple[float, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_law("hoffmann", runs(), bounds=bounds)
