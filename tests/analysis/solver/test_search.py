"""A search ends at the global minimum, says how it knows, and does not depend on the unit of the loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.arrays import Array
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law
from analysis.solver import newton
from analysis.solver.newton import polish
from analysis.solver.objectives import Objective
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from analysis.uncertainty.bootstrap import bootstrap_rows
from analysis.uncertainty.profile import profile


def simulated(num_sizes: int = 8, noise: float = 0.01, seed: int = 0) -> dict[str, Array]:
    """Runs of Hoffmann's law."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(1e7, 1e10, num_sizes), 6)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(3, 200, 6), num_sizes)}
    loss = get_law("hoffmann")([1.8, 480.0, 2100.0, 0.35, 0.37], data)
    return data | {"loss": loss * np.exp(noise * rng.standard_normal(params.size))}


def minimum(law: str, frame: pd.DataFrame) -> float:
    """The least objective that a search finds."""
    columns = get_law(law).prepare({str(name): frame[name].to_numpy() for name in frame.columns})
    with np.errstate(all="ignore"):
        return solve(make_problem(get_law(law), columns, objective=Objective(name="huber", delta=1e-3))).value


@pytest.mark.parametrize(("table", "optimum"), [("nemotron", 2.17565285e-4), ("comma", 2.36997953e-4)])
def test_farseer_ends_at_its_global_minimum(published_data: Path, table: str, optimum: float) -> None:
    frame = pd.read_csv(published_data / "blindspots" / "marin_two.csv")
    assert minimum("farseer", frame[frame["experiment"].str.contains(table)]) <= optimum * (1 + 1e-6)


def test_muennighoff_on_repeated_data_ends_at_its_global_minimum(published_data: Path) -> None:
    frame = pd.read_csv(published_data / "blindspots" / "datablations_runs.csv")
    least = minimum("muennighoff", frame.rename(columns={"val_loss": "loss"}))
    assert least == pytest.approx(0.0191618285, rel=1e-6)


@pytest.mark.parametrize(
    ("law", "table", "experiment", "optimum"),
    [
        ("bnsl", "isoflops/isoflops.csv", "ml_scalefit__massivetext__chinchilla", 1.5491852e-3),
        ("bnsl:2", "blindspots/marin_two.csv", "marin_202603__nemotron__llama_2", 1.6987351e-3),
    ],
)
def test_breaks_through_scattered_runs_end_at_the_lowest_minimum_known(
    published_data: Path, law: str, table: str, experiment: str, optimum: float
) -> None:
    """All sizes of a budget lie above one value of compute, so that breaks have many local minima."""
    frame = pd.read_csv(published_data / table)
    frame = frame[frame["experiment"] == experiment]
    assert minimum(law, frame.assign(x=6 * frame["params"] * frame["tokens"])) <= optimum * (1 + 1e-6)


def test_a_floor_that_the_data_do_not_determine_is_refused(published_data: Path) -> None:
    frame = pd.read_csv(published_data / "blindspots" / "exp0.csv")
    columns = {"params": frame["N"].to_numpy(), "tokens": frame["D"].to_numpy(), "loss": frame["L"].to_numpy()}
    fit = fit_law("hoffmann", columns, bootstrap=50)
    assert all(fit.identified.values())


@pytest.mark.parametrize("law", ["hoffmann", "skaling", "power", "kaplan", "gadre"])
def test_a_fit_does_not_depend_on_the_unit_of_the_loss(law: str) -> None:
    data = simulated()
    data["flops"] = 6 * data["params"] * data["tokens"]
    plain = fit_law(law, data)
    for unit in (1e-9, 1e12):
        other = fit_law(law, data | {"loss": unit * data["loss"]})
        assert other.objective == pytest.approx(plain.objective, rel=1e-6)
        assert other.status == plain.status


def test_the_last_of_the_widening_objectives_is_the_one_asked_for() -> None:
    for typical in np.geomspace(1e-6, 10, 40):
        for graduated in (False, True):
            path = Objective(name="huber", delta=1e-4).widening(float(typical), graduated=graduated)
            assert not path or path[-1].delta == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize("ratio", [3, 25, 35, 60])
def test_newton_does_not_stop_in_a_kink(ratio: float) -> None:
    data = simulated(noise=0.003)
    problem = make_problem(get_law("hoffmann"), data, objective=Objective(name="huber", delta=0.003 / ratio))
    point = solve(problem)
    rng = np.random.default_rng(0)
    about = polish(problem, point.phi + 0.05 * rng.standard_normal((60, 5)), max_iterations=500, descent="graduated")
    assert point.value <= about.value.min() * (1 + 1e-9)


def test_steps_that_bend_end_curved_valleys_where_straight_ones_are_still_on_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    params = np.repeat(np.geomspace(5e3, 1e5, 6), 5)
    data = {"params": params, "tokens": np.tile(np.geomspace(1e5, 2e6, 5), 6)}
    loss = get_law("hoffmann")([0.6, 0.6, 60.0, 0.08, 0.57], data)  # the floor is hardly determined
    data |= {"loss": loss * np.exp(0.002 * rng.standard_normal(params.size))}
    problem = make_problem(get_law("hoffmann"), data, objective=Objective(name="huber", delta=1e-3))
    weights = bootstrap_rows(params.size, 200, rng=rng) * problem.weights
    starts = np.repeat(solve(problem).phi[None], 200, axis=0)
    bent = polish(problem, starts, weights)
    monkeypatch.setattr(newton, "PATIENCE", 10**9)
    straight = polish(problem, starts, weights)
    far = polish(problem, starts, weights, max_iterations=1000)
    assert bent.converged.all()
    assert straight.converged.mean() < 0.6
    assert far.iterations > 3 * bent.iterations
    assert bent.value == pytest.approx(far.value, rel=1e-9)


def test_constant_losses_determine_nothing() -> None:
    data = simulated()
    fit = fit_law("hoffmann", data | {"loss": np.full(data["params"].size, 3.0)}, bootstrap=20)
    assert all("equal" in (reason or "") for reason in fit.identified.values())
    assert fit.frontier_estimates is not None
    assert fit.frontier_estimates.reason is not None


def test_a_profile_from_a_local_minimum_ends_at_the_global_one() -> None:
    problem = make_problem(get_law("hoffmann"), simulated(), objective=Objective(name="huber", delta=1e-3))
    point = solve(problem)
    elsewhere = replace(point, phi=point.phi + np.array([-0.2, 0.1, 0.1, -0.02, -0.02]))
    elsewhere = replace(elsewhere, value=float(problem.value(elsewhere.phi[None, :], problem.weights)[0]))
    codes = np.arange(problem.num_rows)
    found = profile(problem, elsewhere, "alpha", codes)
    assert found.lo == pytest.approx(profile(problem, point, "alpha", codes).lo, rel=1e-2)
    assert (found.rise >= 0).all()


def test_a_certificate_survives_saving(tmp_path: Path) -> None:
    fit = fit_law("hoffmann", simulated())
    assert fit.certificate is not None
    assert fit.certificate.verdict == "agreed"
    assert Fit.load(fit.save(tmp_path / "fit.json")).certificate == fit.certificate
    assert "agreed" in fit.summary()
