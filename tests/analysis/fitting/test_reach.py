"""No number that the fit calls unidentified comes out of another verb with an interval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isoflop
from analysis.fitting.fit_law import fit_law
from analysis.fitting.reach import Reach
from analysis.frontiers.parametric import parametric_frontier


def losses(params: np.ndarray, tokens: np.ndarray, noise: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    return np.asarray(truth * np.exp(noise * rng.standard_normal(params.size)))


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """Runs at twenty tokens per parameter: their losses cannot tell size from data."""
    params = np.geomspace(3e6, 3e8, 12)
    frame = pd.DataFrame({"params": params, "tokens": 20 * params, "loss": losses(params, 20 * params, 0.002, 0)})
    frame.to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def test_a_ladder_of_one_ratio_predicts_another_ratio_without_an_interval(
    ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(ladder / "fit.json")
    assert isoflop.main(["fit", str(ladder / "runs.csv"), "--law", "hoffmann", "--out", file]) == 0
    capsys.readouterr()
    assert isoflop.main(["predict", file, "--at", "params=1e9,tokens=1e12", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["confidence"] == told["prediction"] == [None, None]
    assert "not identified" in told["reason"]
    assert "D/N" in told["extrapolates"]
    assert isoflop.main(["predict", file, "--at", "params=1e8,tokens=2e9"]) == 0
    assert "no interval" not in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["compare", "frontier"])
def test_an_unidentified_exponent_has_no_interval_in_any_verb(
    verb: str, ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isoflop.main([verb, str(ladder / "runs.csv"), "--json", "--bootstrap", "50"]) == 0
    told = json.loads(capsys.readouterr().out)
    for one in told.get("frontiers", [told]):
        if one["method"].startswith("parametric"):
            assert one["a"]["lo"] is None
            assert "not identified" in one["a"]["reason"]


def test_how_far_a_point_lies_beyond_the_runs_is_said_in_each_quantity() -> None:
    reach = Reach(ranges={"params": (1e6, 1e8), "tokens": (1e8, 1e9), "flops": (1e15, 1e17), "ratio": (5.0, 50.0)})
    x = {"params": np.array([1e7, 1e9]), "tokens": np.array([2e8, 1e11])}
    factors = reach.factors(x)
    np.testing.assert_allclose(factors["params"], [1, 10])
    np.testing.assert_allclose(factors["tokens"], [1, 100])
    np.testing.assert_allclose(factors["ratio"], [1, 2])
    assert reach.sentence(x, 0) is None
    assert "N is 10 times the largest" in str(reach.sentence(x, 1))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.floats(6, 9), min_size=2, max_size=5, unique=True),
    ratios=st.lists(st.floats(0.5, 2.5), min_size=1, max_size=4, unique=True),
    noise=st.sampled_from([0.001, 0.01, 0.05]),
    seed=st.integers(0, 1000),
)
def test_whatever_the_table_no_derived_number_has_an_interval_that_the_fit_refuses(
    sizes: list[float], ratios: list[float], noise: float, seed: int
) -> None:
    params, ratio = (10 ** grid.ravel() for grid in np.meshgrid(sizes, ratios))
    data = {"params": params, "tokens": params * ratio, "loss": losses(params, params * ratio, noise, seed)}
    if params.size < 6:
        return
    fit = fit_law("hoffmann", data)
    unknown = [name for name, reason in fit.identified.items() if reason is not None]
    for name in unknown:
        assert not fit.estimates[name].has_interval
    far = fit.predict({"params": [1e12], "tokens": [1e9]}).iloc[0]
    assert np.isfinite(far["confidence_lo"]) == (not unknown and fit.predictor.reason is None)
    frontier = parametric_frontier(fit)
    assert fit.frontier_estimates is not None
    if fit.frontier_estimates.reason is not None:
        assert not frontier.a.has_interval
        assert frontier.points["params_lo"].isna().all()
