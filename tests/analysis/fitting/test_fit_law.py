"""`fit_law` and `Fit`: a global, invariant optimum; intervals and predictions that behave; JSON there and back."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import ladder, six_n
from analysis.laws.registry import LAWS
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective, ObjectiveName
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from analysis.uncertainty.bootstrap import bootstrap_fits
from tests.known import known

TRUTH = np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658])
TRUE_A = TRUTH[4] / (TRUTH[3] + TRUTH[4])


def runs(n: int = 60, sd: float = 0.005, seed: int = 0) -> dict[str, np.ndarray]:
    """A ladder of sizes with five budgets each."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(4e7, 1e10, n // 5), 5)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), n // 5)}
    data["loss"] = LAWS["hoffmann"](TRUTH, data) * np.exp(sd * rng.standard_normal(n))
    return data


@pytest.fixture(scope="module")
def fit() -> Fit:
    """A fit with draws."""
    return fit_law("hoffmann", runs(), bootstrap=200)


@pytest.mark.parametrize("objective", ["huber", "lad", "squared"])
def test_no_random_start_finds_a_lower_objective(objective: ObjectiveName) -> None:
    data = runs(sd=0.02, seed=3)
    spec = Objective(name=objective, delta=1e-3 if objective == "huber" else 0.0)
    problem = make_problem(LAWS["hoffmann"], data, objective=spec)
    point = solve(problem)
    rng = np.random.default_rng(0)
    exponents = rng.uniform(0.05, 1.5, (60, 2))
    starts = np.column_stack([rng.uniform(0, 2.5, 60), rng.uniform(-2, 2, (60, 2)), exponents])
    assert point.value <= polish(problem, starts).value.min() * (1 + 1e-9)


def test_squared_fits_agree_with_an_independent_solver() -> None:
    from scipy.optimize import least_squares

    data = runs(sd=0.01)
    ours = fit_law("hoffmann", data, objective="squared", residuals="raw")

    def residuals(t: np.ndarray) -> np.ndarray:
        E, a, b, alpha, beta = t
        return E + np.exp(a - alpha * np.log(data["params"])) + np.exp(b - beta * np.log(data["tokens"])) - data["loss"]

    theirs = least_squares(residuals, [1.8, 6, 7.6, 0.35, 0.37], x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert ours.objective == pytest.approx(2 * theirs.cost, rel=1e-9)
    assert ours.params["alpha"] == pytest.approx(theirs.x[3], rel=1e-5)


def test_a_tiny_delta_gives_least_absolute_deviations() -> None:
    data = runs(sd=0.02, seed=5)
    lad = fit_law("hoffmann", data, objective="lad")
    huber = fit_law("hoffmann", data, delta=1e-9)
    assert huber.objective / 1e-9 == pytest.approx(lad.objective, rel=1e-5)


@settings(max_examples=6, deadline=None)
@given(
    units=st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
    order=st.randoms(use_true_random=False),
    objective=st.sampled_from(["huber", "squared"]),
)
def test_estimates_do_not_depend_on_units_or_order(
    units: tuple[float, float], order: random.Random, objective: ObjectiveName
) -> None:
    data = runs(n=30, sd=0.01)
    index = list(range(30))
    order.shuffle(index)
    there = {name: column[index] for name, column in data.items()}
    there["params"] = there["params"] * 10 ** units[0]
    there["tokens"] = there["tokens"] * 10 ** units[1]
    here = fit_law("hoffmann", data, objective=objective)
    moved = fit_law("hoffmann", there, objective=objective)
    assert moved.objective == pytest.approx(here.objective, rel=1e-9)
    for name in ("E", "alpha", "beta"):
        assert moved.params[name] == pytest.approx(here.params[name], rel=1e-6)
    A = here.params["A"] * 10 ** (units[0] * here.params["alpha"])
    assert moved.params["A"] == pytest.approx(A, rel=1e-4)


def test_a_weight_of_two_is_a_row_given_twice() -> None:
    data = runs(n=30, sd=0.01)
    twice = {name: np.concatenate([column, column[:7]]) for name, column in data.items()}
    weights = np.ones(30)
    weights[:7] = 2
    here, there = fit_law("hoffmann", {**data, "w": weights}, weights="w"), fit_law("hoffmann", twice)
    assert here.objective == pytest.approx(there.objective, rel=1e-10)
    for name, value in there.params.items():
        assert here.params[name] == pytest.approx(value, rel=1e-6)


def test_every_draw_reaches_the_optimum_of_a_multi_start() -> None:
    problem = make_problem(LAWS["hoffmann"], runs(sd=0.02), objective=Objective())
    point = solve(problem)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(60, np.full(60, 1 / 60), size=40).astype(float)
    _, value = bootstrap_fits(problem, point.minima, drawn)
    for i in range(0, 40, 8):
        starts = point.phi + 0.3 * rng.standard_normal((40, 5))
        assert value[i] <= polish(problem, starts, drawn[i]).value.min() * (1 + 1e-6)


def test_long_tables_draw_in_blocks_what_short_ones_draw_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import analysis.uncertainty.bootstrap as resampling

    data, clusters = runs(n=60, sd=0.01), np.repeat(np.arange(12), 5)
    problem = make_problem(LAWS["hoffmann"], data, objective=Objective())
    point = solve(problem)
    whole = resampling.resample(problem, point.minima, clusters, num_draws=150, rng=np.random.default_rng(0))
    monkeypatch.setattr(resampling, "LONG_TABLE", 10)
    monkeypatch.setattr(resampling, "AT_ONCE", 60 * 40)
    blocks = resampling.resample(problem, point.minima, clusters, num_draws=150, rng=np.random.default_rng(0))
    np.testing.assert_allclose(np.median(blocks, axis=0), np.median(whole, axis=0), atol=0.02)
    np.testing.assert_allclose(blocks.std(axis=0), whole.std(axis=0), rtol=0.3)


def test_rows_in_blocks_sum_to_the_same_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    import analysis.solver.problem as module

    problem = make_problem(LAWS["hoffmann"], runs(), objective=Objective())
    phi = solve(problem).phi[None]
    whole = problem.value(phi, problem.weights), *problem.derivatives(phi, problem.weights)
    monkeypatch.setattr(module, "ROW_BLOCK", 17)
    for here, there in zip(
        whole, (problem.value(phi, problem.weights), *problem.derivatives(phi, problem.weights)), strict=True
    ):
        np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-12)


def test_intervals_contain_the_estimate_and_the_truth(fit: Fit) -> None:
    table = fit.conf_int()
    assert list(table.columns) == ["lo", "hi"]
    for name, value in fit.params.items():
        assert table["lo"][name] < value < table["hi"][name]
        assert fit.bse[name] > 0
    exponents = known(fit.frontier_estimates)
    assert known(exponents.a.lo) < TRUE_A < known(exponents.a.hi)
    assert exponents.a.value + exponents.b.value == pytest.approx(1)


def test_predictions_nest_and_cover(fit: Fit) -> None:
    held = {"params": [3e10, 1e11], "tokens": [6e11, 2e12]}
    band = fit.predict(held)
    truth = LAWS["hoffmann"](TRUTH, held)
    assert (band["prediction_lo"] < band["confidence_lo"]).all()
    assert (band["confidence_hi"] < band["prediction_hi"]).all()
    assert ((band["prediction_lo"] < truth) & (truth < band["prediction_hi"])).all()
    assert list(fit.predict(held, interval="none").columns) == ["loss"]
    by_flops = fit.predict({"params": [3e10], "flops": [6 * 3e10 * 6e11]})
    assert by_flops["loss"][0] == pytest.approx(band["loss"][0])
    with pytest.raises(ValueError, match="needs tokens to predict"):
        fit.predict({"params": [1e9]})
    with pytest.raises(ValueError, match="must be finite and above zero"):
        fit.predict({"params": [1e9], "tokens": [-1]})


def test_json_holds_the_whole_fit_without_nan(fit: Fit, tmp_path: Path) -> None:
    text = json.dumps(fit.to_dict(), allow_nan=False)
    back = Fit.from_dict(json.loads(text))
    assert back.params == fit.params
    assert set(json.loads(text)) >= {
        "schema",
        "law",
        "columns",
        "conventions",
        "params",
        "cov",
        "objective",
        "status",
        "num_rows",
        "residual_scale",
        "warnings",
        "frontier",
        "draws",
    }
    path = fit.save(tmp_path / "fit.json")
    again = Fit.load(path)
    held = {"params": [3e10], "tokens": [6e11]}
    pd.testing.assert_frame_equal(again.predict(held), fit.predict(held))
    assert again.summary() == fit.summary()
    (tmp_path / "fit.draws.parquet").unlink()
    without = Fit.load(path).predict(held)
    assert without["confidence_lo"][0] == pytest.approx(fit.predict(held)["confidence_lo"][0], rel=0.01)


def test_a_foreign_file_is_no_fit(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema": "other"}')
    with pytest.raises(ValueError, match="its schema is other, not isoflop") as caught:
        Fit.load(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="it names no schema isoflop") as nameless:
        Fit.load(tmp_path / "x.json")
    assert "None" not in str(caught.value) + str(nameless.value)
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Fit.load(tmp_path / "y.json")


def test_the_frontier_minimises_the_loss_at_each_budget(fit: Fit) -> None:
    frontier = parametric_frontier(fit, [1e20, 1e22])
    numeric = parametric_frontier(fit, [1e20, 1e22], flops_per_token=six_n)
    np.testing.assert_allclose(numeric.points["params"], frontier.points["params"], rtol=1e-5)
    assert numeric.a.value == pytest.approx(frontier.a.value, rel=1e-4)
    assert numeric.a.lo == pytest.approx(frontier.a.lo, rel=1e-3)
    np.testing.assert_allclose(
        frontier.at([1e21])["params"], parametric_frontier(fit, [1e21]).points["params"], rtol=1e-6
    )
    for row in frontier.points.to_dict(orient="records"):
        around = row["params"] * np.array([0.9, 1.0, 1.1])
        losses = fit.predict({"params": around, "flops": np.full(3, row["flops"])}, interval="none")["loss"]
        assert losses.argmin() == 1
        assert row["params_lo"] < row["params"] < row["params_hi"]


def test_counted_flops_move_the_frontier_along_the_ladder(fit: Fit) -> None:
    sizes = np.geomspace(1e6, 1e12, 25)
    counted = parametric_frontier(fit, [1e20, 1e22], flops_per_token=ladder(sizes, 6 * sizes + 4e4 * np.sqrt(sizes)))
    plain = parametric_frontier(fit, [1e20, 1e22])
    assert (counted.points["tokens"] < plain.points["tokens"]).all()
    assert (counted.points["loss"] > plain.points["loss"]).all()
    assert counted.convention == "counted"
    assert counted.line is None
    with pytest.raises(ValueError, match="both ascending"):
        ladder([1e6, 1e5], [1, 2])


def test_laws_without_sizes_have_no_frontier() -> None:
    fit = fit_law(
        "power", {"flops": np.geomspace(1e18, 1e21, 9), "loss": 2 + 1e3 * np.geomspace(1e18, 1e21, 9) ** -0.17}
    )
    assert fit.frontier_estimates is None
    with pytest.raises(ValueError, match="no compute-optimal frontier"):
        parametric_frontier(fit)
    assert fit.predict({"flops": [1e22]})["loss"][0] == pytest.approx(2 + 1e3 * 1e22**-0.17, rel=1e-6)


def test_clusters_widen_intervals_of_correlated_runs() -> None:
    data = runs(n=120, sd=0.001)
    rng = np.random.default_rng(0)
    trunk = np.repeat(np.arange(24), 5)
    data["loss"] = data["loss"] * np.exp(0.01 * rng.standard_normal(24)[trunk])
    together = fit_law("hoffmann", {**data, "trunk": trunk}, bootstrap=200, cluster="trunk")
    apart = fit_law("hoffmann", data, bootstrap=200)
    slopes = [known(f.frontier_estimates).a for f in (together, apart)]
    width = [known(a.hi) - known(a.lo) for a in slopes]
    assert width[0] > 1.3 * width[1]
    assert together.num_clusters == 24


def test_negative_losses_are_fitted_with_raw_residuals() -> None:
    x = np.geomspace(1e18, 1e22, 30)
    loss = -3 + 100 * x**-0.1 + 0.002 * np.random.default_rng(0).standard_normal(30)
    fit = fit_law("power", {"x": x, "loss": loss}, residuals="raw", bootstrap=50)
    assert fit.params["E"] == pytest.approx(-3, abs=0.1)
    assert fit.predict({"x": [1e23]})["prediction_lo"][0] < -3 + 100 * 1e23**-0.1
    with pytest.raises(ValueError, match="loss is not positive in row"):
        fit_law("power", {"x": x, "loss": loss})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": [1.0, np.nan, 2.0]}, "loss is missing in row 2"),
        ({"tokens": [1.0, 2.0, np.inf]}, "tokens is infinite in row 3"),
        ({"params": ["1e6", "many", "2e6"]}, "params is not a number in row 2"),
        ({"params": [0.0, 1.0, 2.0]}, "params is not positive in row 1"),
        ({"loss": [1.0, 2.0]}, "params has 3 values, tokens has 3 values, loss has 2 values"),
    ],
)
def test_bad_columns_are_named_with_their_rows(change: dict[str, Sequence[object]], message: str) -> None:
    data: dict[str, Sequence[object]] = {"params": [1e6, 2e6, 3e6], "tokens": [1e8, 2e8, 3e8], "loss": [3.0, 2.9, 2.8]}
    with pytest.raises(ValueError, match=message):
        fit_law("hoffmann", {**data, **change})


def test_bad_options_are_refused() -> None:
    data = runs(n=20)
    for options, message in (
        ({"objective": "l2"}, "no objective is called"),
        ({"delta": 0.0}, "needs a finite delta above zero"),
        ({"residuals": "both"}, "'log' or 'raw'"),
        ({"level": 95}, "between 0 and 1"),
        ({"bootstrap": -1}, "or 0 for none"),
        ({"bootstrap": 1}, "two draws or more"),
        ({"cluster": "trunk"}, "no column 'trunk'"),
        ({"weights": -np.ones(20)}, "weights are zero or more, and row 1 has -1;"),
        ({"weights": np.zeros(20)}, "every weight is zero"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_law("hoffmann", data, **options)
    with pytest.raises(ValueError, match="one row is left to fit; give at least 6 runs for hoffmann"):
        fit_law("hoffmann", {name: column[:1] for name, column in data.items()})
    with pytest.raises(ValueError, match="no column 'tokens'"):
        fit_law("hoffmann", {"params": [1.0, 2.0], "loss": [1.0, 2.0]})


@pytest.mark.parametrize("seed", range(10))
def test_hostile_tables_end_in_finite_json_without_a_warning(seed: int) -> None:
    rng = np.random.default_rng(seed)
    law = list(LAWS.values())[seed % len(LAWS)]
    n = int(rng.integers(2, 25))
    data = {}
    for name in law.inputs:
        low, high = np.sort(rng.uniform(np.log(1e2), np.log(1e15), 2))
        column = np.exp(rng.uniform(low, high, n))
        data[name] = [np.full(n, column[0]), np.resize(column[:2], n), column, column][rng.integers(4)]
    data["loss"] = np.exp(rng.normal(0, rng.choice([1e-6, 0.01, 1, 5]), n)) * rng.choice([1e-3, 1, 50])
    objectives: tuple[ObjectiveName, ...] = ("huber", "squared")
    fit = fit_law(law, data, objective=objectives[rng.choice(2)], bootstrap=int(rng.choice([0, 8])))
    json.dumps(fit.to_dict(), allow_nan=False)
    assert len(fit.predict(data)) == n
    assert fit.summary().startswith(law.name)
