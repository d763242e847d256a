"""Where the floor is at its bound, or the noise hides exponents, intervals are those of profiles."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law, profile_law
from analysis.laws.registry import get_law

BUDGETS = np.repeat(np.geomspace(1e18, 1e21, 9), 7)
PARAMS = np.sqrt(BUDGETS / 120) * np.tile(np.geomspace(0.15, 7, 7), 9)
WEAK = [1.8, 0.5 * 1e9**0.06, 0.5 * 2e10**0.06, 0.06, 0.06]
"""E, A, B, alpha and beta: each term is half a nat at 1e9 params and 2e10 tokens."""


def runs(theta: list[float], noise: float, seed: int) -> dict[str, np.ndarray]:
    """63 runs about the optimum of nine budgets."""
    data = {"params": PARAMS, "tokens": BUDGETS / (6 * PARAMS)}
    deviations = np.random.default_rng(seed).standard_normal(PARAMS.size)
    return {**data, "loss": get_law("hoffmann")(theta, data) * np.exp(noise * deviations)}


@pytest.fixture(scope="module")
def at_the_floor() -> Fit:
    """A fit that ends at a floor of zero, although the true one is 1.8."""
    found = fit_law("hoffmann", runs(WEAK, 0.01, 3), bootstrap=40, seed=0)
    assert found.params["E"] == 0.0
    return found


def test_draws_that_pile_up_at_the_floor_do_not_make_the_intervals(at_the_floor: Fit) -> None:
    draws = at_the_floor.predictor.draws
    assert draws is not None
    assert at_the_floor.predictor.region is not None
    for name, true in (("alpha", 0.06), ("beta", 0.06)):
        one = at_the_floor.estimates[name]
        assert not one.has_interval or one.covers(true)


def test_an_interval_at_the_floor_is_the_parameters_own_profile(at_the_floor: Fit) -> None:
    shown = [name for name in ("alpha", "beta") if at_the_floor.estimates[name].has_interval]
    assert shown
    for name in shown:
        alone = profile_law("hoffmann", runs(WEAK, 0.01, 3), name=name)
        one = at_the_floor.estimates[name]
        assert (one.lo, one.hi) == pytest.approx((alone.lo, alone.hi), rel=1e-3)


def test_what_follows_from_parameters_has_its_range_over_the_profiles() -> None:
    found = fit_law("hoffmann", runs(WEAK, 0.01, 6), bootstrap=0)
    frontier, region = found.frontier_estimates, found.predictor.region
    assert frontier is not None
    assert region is not None
    shares = region[:, 4] / (region[:, 3] + region[:, 4])
    assert (frontier.a.lo, frontier.a.hi) == pytest.approx((shares.min(), shares.max()))
    assert frontier.a.covers(0.5)


def test_a_saved_fit_keeps_its_region(at_the_floor: Fit) -> None:
    again = Fit.from_dict(json.loads(json.dumps(at_the_floor.to_dict())), draws=at_the_floor.predictor.draws)
    assert again.predictor.region == pytest.approx(at_the_floor.predictor.region)


def test_a_floor_that_is_truly_zero_leaves_exponents_known() -> None:
    found = fit_law("hoffmann", runs([0.0, 30.0, 60.0, 0.15, 0.14], 0.003, 2), bootstrap=0)
    assert found.predictor.region is not None
    alpha = found.estimates["alpha"]
    assert alpha.covers(0.15)
    assert alpha.hi is not None
    assert alpha.lo is not None
    assert alpha.hi - alpha.lo < 0.1


def test_where_exponents_are_well_known_draws_make_the_intervals() -> None:
    found = fit_law("hoffmann", runs([1.8172, 482.01, 2085.43, 0.3478, 0.3658], 0.003, 1), bootstrap=40, seed=0)
    assert found.predictor.region is None
