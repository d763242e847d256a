"""What a table does not determine is said: thin designs, bounds, one-sided grids, few clusters; and profiles."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting.fit_law import fit_law, profile_law
from analysis.laws.registry import LAWS
from analysis.solver.objectives import ObjectiveName
from tests.known import known

TRUTH = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
N = np.geomspace(1e7, 1e10, 20)
BUDGETS = np.repeat(np.geomspace(1e18, 1e21, 5), 6)


def losses(params: np.ndarray, tokens: np.ndarray, sd: float = 0.005) -> dict[str, np.ndarray]:
    """Runs on Hoffmann's surface with noise."""
    data = {"params": params, "tokens": tokens}
    noise = np.random.default_rng(1).standard_normal(params.size)
    return {**data, "loss": LAWS["hoffmann"](TRUTH, data) * np.exp(sd * noise)}


def around_the_optimum(low: float, high: float) -> dict[str, np.ndarray]:
    """Five budgets with sizes from `low` to `high` times the optimum at 20 tokens a parameter."""
    params = np.sqrt(BUDGETS / 120) * np.tile(np.geomspace(low, high, 6), 5)
    return losses(params, BUDGETS / (6 * params))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (losses(N, 20 * N), "one D for each N"),
        (losses(N, 20 * N**1.1), "one D for each N"),
        (losses(N, 1e20 / 6 / N), "one compute budget"),
        (losses(N[:3], N[:3] * np.array([10.0, 20.0, 40.0])), "3 rows cannot determine 5 parameters"),
        (losses(np.repeat([1e8, 1e9], 10), np.tile(np.geomspace(1e9, 1e11, 10), 2)), "two values"),
    ],
)
@pytest.mark.parametrize("bootstrap", [0, 40])
def test_thin_tables_are_flagged_with_the_reason(data: dict[str, np.ndarray], reason: str, bootstrap: int) -> None:
    fit = fit_law("hoffmann", data, bootstrap=bootstrap)
    for name in ("A", "alpha"):
        assert fit.identified[name] is not None
        assert fit.estimates[name].lo is None
    assert reason in " ".join(str(r) for r in fit.identified.values())
    exponents = known(fit.frontier_estimates)
    assert not exponents.identified
    assert exponents.a.lo is None
    assert any(reason in warning for warning in fit.warnings)


@pytest.mark.parametrize(("span", "side"), [((2, 12), "larger"), ((0.08, 0.5), "smaller")])
def test_an_optimum_at_the_edge_of_the_grid_is_flagged(span: tuple[float, float], side: str) -> None:
    fit = fit_law("hoffmann", around_the_optimum(*span))
    exponents = known(fit.frontier_estimates)
    assert f"runs are {side} than the optimum" in known(exponents.reason)
    assert exponents.a.lo is None


def test_a_good_grid_is_identified_and_small_ones_are_warned_of() -> None:
    fit = fit_law("hoffmann", around_the_optimum(0.2, 5))
    assert all(reason is None for reason in fit.identified.values())
    assert fit.status == "converged"
    assert known(fit.frontier_estimates).identified
    assert any("30 runs are few" in warning for warning in fit.warnings)


def test_few_clusters_are_warned_of_and_too_few_determine_nothing() -> None:
    data = around_the_optimum(0.2, 5)
    few = fit_law("hoffmann", data, cluster=np.repeat(np.arange(8), 4)[:30])
    assert any("8 clusters are few" in warning for warning in few.warnings)
    hopeless = fit_law("hoffmann", data, cluster=np.repeat(np.arange(3), 10))
    assert "3 clusters cannot determine" in known(hopeless.identified["alpha"])
    band = hopeless.predict({"params": [1e10], "tokens": [1e11]})
    assert np.isfinite(band["loss"][0])
    assert band.drop(columns="loss").isna().all(axis=None)


def test_a_floor_at_zero_is_a_bound_hit() -> None:
    x = np.geomspace(1e18, 1e22, 40)
    noise = np.random.default_rng(0).standard_normal(40)
    fit = fit_law(
        "power", {"x": x, "loss": 30 * x**-0.05 * (1 - 1e-3 * np.linspace(-1, 1, 40) ** 2) * np.exp(1e-4 * noise)}
    )
    assert fit.status == "bound_hit"
    assert fit.params["E"] == 0
    assert "lower bound" in known(fit.identified["E"])


def test_a_straight_line_leaves_exponent_and_floor_undetermined() -> None:
    x = np.geomspace(1e18, 1e20, 12)
    fit = fit_law(
        "power", {"x": x, "loss": 4 - 0.02 * np.log(x) + 0.002 * np.random.default_rng(0).standard_normal(12)}
    )
    assert fit.identified["alpha"] is not None
    assert fit.identified["E"] is not None


@pytest.mark.parametrize("objective", ["squared", "huber"])
def test_profiles_agree_with_the_covariance_where_the_problem_is_nearly_linear(
    objective: ObjectiveName,
) -> None:
    params = np.sqrt(np.repeat(np.geomspace(1e18, 1e22, 20), 12) / 120) * np.tile(np.geomspace(0.1, 10, 12), 20)
    data = losses(params, np.repeat(np.geomspace(1e18, 1e22, 20), 12) / (6 * params), sd=0.001)
    fit = fit_law("hoffmann", data, objective=objective)
    profile = profile_law("hoffmann", data, name="alpha", objective=objective)
    lo, hi = known(profile.lo), known(profile.hi)
    assert lo < fit.params["alpha"] < hi
    ratio = (hi - lo) / (4 * fit.bse["alpha"])
    assert 0.7 < ratio < 1.4
    assert (np.diff(profile.public) > 0).all()
    assert profile.rise.min() == 0


def test_a_flat_profile_has_an_open_end() -> None:
    x = np.geomspace(1e18, 1e20, 12)
    loss = 4 - 0.02 * np.log(x) + 0.002 * np.random.default_rng(0).standard_normal(12)
    profile = profile_law("power", {"x": x, "loss": loss}, name="alpha")
    assert profile.lo is None
    with pytest.raises(ValueError, match="has no parameter 'gamma'"):
        profile_law("power", {"x": x, "loss": loss}, name="gamma")
