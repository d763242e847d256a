"""Intervals of what follows from a fit: one rule for the frontier and for advice, with draws and without."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from analysis.advice.compute_optimal import compute_optimal
from analysis.advice.shapes import ShapeRules, build_ladder
from analysis.advice.target_loss import target_loss
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.derived import neighbourhood, plausible
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import exponents
from analysis.laws.registry import LAWS

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]


def fitted(bootstrap: int, sd: float = 0.005) -> Fit:
    """Hoffmann's law on sixty runs."""
    params = np.repeat(np.geomspace(4e7, 1e10, 12), 5)
    data: dict[str, Array] = {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), 12)}
    noise = np.random.default_rng(0).standard_normal(60)
    data["loss"] = LAWS["hoffmann"](TRUTH, data) * np.exp(sd * noise)
    return fit_law("hoffmann", data, bootstrap=bootstrap)


@pytest.fixture(scope="module")
def plain() -> Fit:
    """A fit without draws."""
    return fitted(0)


@pytest.mark.parametrize("bootstrap", [0, 200])
def test_the_frontier_and_advice_give_one_interval(bootstrap: int) -> None:
    fit = fitted(bootstrap)
    flops = 1e22
    (point,) = parametric_frontier(fit, [flops]).points.to_dict("records")
    ladder = build_ladder(fit, ShapeRules(), 1e8, 1e12, from_config=False)
    found = compute_optimal(fit, flops, ladder)
    for name in ("params", "tokens", "loss"):
        estimate = getattr(found, name)
        for end, value in (("", estimate.value), ("_lo", estimate.lo), ("_hi", estimate.hi)):
            assert point[f"{name}{end}"] == pytest.approx(value, rel=1e-6)
    assert found.params.lo is not None
    assert found.params.lo < found.params.value


def test_the_delta_method_is_exact_for_what_is_linear_in_the_parameters(plain: Fit) -> None:
    near = neighbourhood(plain)
    assert not near.has_draws
    alpha = near.estimate(float(near.centre[0, 3]), near.about[:, 3])
    assert alpha.se == pytest.approx(plain.bse["alpha"], rel=1e-6)
    given = plain.estimates["alpha"]
    assert (alpha.lo, alpha.hi) == pytest.approx((given.lo, given.hi), rel=1e-6)


def test_draws_and_the_delta_method_agree_where_there_are_many_runs() -> None:
    plain, drawn = (fitted(bootstrap, sd=0.001).frontier_estimates for bootstrap in (0, 400))
    assert plain is not None
    assert drawn is not None
    assert plain.a.se == pytest.approx(drawn.a.se, rel=0.35)


def test_a_quantity_without_a_value_near_the_estimate_has_no_interval(plain: Fit) -> None:
    near = neighbourhood(plain)
    broken = np.where(np.arange(len(near.about)) == 2, math.inf, 1.0)
    assert near.estimate(1.0, broken).reason == "it has no finite value near the estimate"
    assert "no upper end" in str(near.interval(1.0, broken).reason)
    assert near.interval(math.inf, broken).reason == "the estimate itself has none"
    assert "no upper end: 40 % of the draws" in str(near.interval(1.0, np.ones(len(near.about)), missing=0.4).reason)
    assert near.interval(1.0, broken, reason="why not").reason == "why not"


def test_a_loss_near_the_floor_has_a_price_without_an_upper_end(plain: Fit) -> None:
    ladder = build_ladder(plain, ShapeRules(), 1e8, 1e12, from_config=False)
    floor = plain.estimates["E"]
    assert floor.hi is not None
    far = target_loss(plain, 2.2, ladder)
    assert far.share == 1.0
    assert far.flops.lo is not None
    near = target_loss(plain, floor.value + 0.25 * (floor.hi - floor.value), ladder)
    assert near.share is not None
    assert near.share < 0.95
    assert near.reachable == "unsure"
    assert near.flops.lo is None
    assert "of the draws have no value" in str(near.flops.reason)


def test_plausible_parameters_are_the_draws_or_students() -> None:
    drawn, plain = fitted(50), fitted(0)
    assert drawn.draws is not None
    np.testing.assert_array_equal(plausible(drawn), drawn.draws)
    span = (0.0, 1.0)
    a = exponents(LAWS["hoffmann"], plausible(plain), span)[0]
    assert plain.frontier_estimates is not None
    assert a.std() == pytest.approx(plain.frontier_estimates.a.se, rel=0.3)


def test_exponents_of_the_frontier_go_through_json(plain: Fit) -> None:
    raw = json.loads(json.dumps(plain.to_dict(), allow_nan=False))
    back = Fit.from_dict(raw)
    assert back.frontier_estimates == plain.frontier_estimates
    assert set(raw["frontier"]) == {"convention", "a", "b", "flops_range", "identified", "reason"}
    del raw["params"]
    with pytest.raises(UserError, match="the fit lacks the field params"):
        Fit.from_dict(raw)
