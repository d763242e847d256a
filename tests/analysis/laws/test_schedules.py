"""Laws over a learning-rate schedule: the papers' sums, derivatives, recovery, and what makes a curve a curve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.figures.fit import plot_fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from analysis.laws.schedules.base import read_curve
from analysis.runs.columns import as_columns
from analysis.solver.objectives import Objective, ObjectiveName
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from benchmarks.multipower_cv import GAMMA, chosen, paired

TRUTHS = {
    "multipower": np.array([2.9, 0.55, 0.5, 450.0, 1.5, 0.5, 0.6]),
    "tissue": np.array([3.0, 0.52, 0.5, 1.2, 0.998]),
}
"""Parameters near those of a model of 25M."""
PEAK = 3e-4


def rates(name: str, steps: int) -> np.ndarray:
    """Rates of steps 1 to `steps` after a linear warm-up over a tenth of them."""
    warm, step = steps // 10, np.arange(1, steps + 1)
    after = (step - warm) / (steps - warm)
    shapes = {
        "cosine": 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * after)),
        "constant": np.ones(steps),
        "drop": np.where(after < 0.4, 1.0, 0.3),
        "again": np.where(after < 0.3, 1.0, np.where(after < 0.6, 0.2, 0.8)),
    }
    return PEAK * np.where(step <= warm, step / warm, shapes[name])


def curves(names: tuple[str, ...] = ("cosine", "constant", "drop"), steps: int = 6000, every: int = 50) -> pd.DataFrame:
    """Rows of some schedules from the end of the warm-up."""
    parts = []
    for name in names:
        rows = np.arange(steps // 10, steps + 1, every)
        parts.append(pd.DataFrame({"step": rows, "lr": rates(name, steps)[rows - 1], "curve": name}))
    return pd.concat(parts, ignore_index=True)


def with_loss(law: str, frame: pd.DataFrame, noise: float = 0.0) -> pd.DataFrame:
    """The frame with losses of the law at TRUTHS."""
    loss = LAWS[law](TRUTHS[law], frame)
    return frame.assign(loss=loss * np.exp(noise * np.random.default_rng(0).standard_normal(loss.size)))


def sums(law: str, rate: np.ndarray) -> np.ndarray:
    """The papers' double sums over steps, written out."""
    lr = np.concatenate([[0.0], rate])
    out = []
    for t in range(1, lr.size):
        k = np.arange(1, t + 1)
        fall = lr[k - 1] - lr[k]
        if law == "multipower":
            L0, A, alpha, B, C, beta, gamma = TRUTHS[law]
            since = np.array([lr[j : t + 1].sum() for j in k])
            reduction = B * (fall * (1 - (1 + C * lr[k] ** -gamma * since) ** -beta)).sum()
        else:
            L0, A, alpha, B, decay = TRUTHS[law]
            momentum = [sum((lr[j - 1] - lr[j]) * decay ** (i - j) for j in range(1, i + 1)) for i in k]
            reduction = B * sum(momentum)
        out.append(L0 + A * lr[1 : t + 1].sum() ** -alpha - reduction)
    return np.array(out)


@pytest.mark.parametrize("law", list(TRUTHS))
@pytest.mark.parametrize("name", ["cosine", "again"])
def test_a_row_for_every_step_gives_the_sum_over_steps(law: str, name: str) -> None:
    rate = rates(name, 40)
    frame = pd.DataFrame({"step": np.arange(1, 41), "lr": rate})
    np.testing.assert_allclose(LAWS[law](TRUTHS[law], frame), sums(law, rate), rtol=1e-12)


@pytest.mark.parametrize("law", list(TRUTHS))
def test_few_rows_of_a_curve_come_within_a_thousandth_and_more_come_closer(law: str) -> None:
    rate = rates("cosine", 1500)
    dense = LAWS[law](TRUTHS[law], {"step": np.arange(1, 1501), "lr": rate})

    def error(every: int) -> float:
        rows = np.arange(150, 1501, every)
        return float(np.abs(LAWS[law](TRUTHS[law], {"step": rows, "lr": rate[rows - 1]}) - dense[rows - 1]).max())

    assert error(15) < 0.5 * error(60) < 5e-4


def test_area_and_falls_of_a_curve_add_up() -> None:
    step, rate = np.array([100.0, 200.0, 300.0]), np.array([2.0, 2.0, 1.0])
    curve = read_curve(step, rate)
    assert curve.fall.sum() == pytest.approx(-rate[-1])
    assert curve.area[1] - curve.area[0] == pytest.approx(200.0)
    assert curve.fall[-1] == 1.0
    assert curve.first[-1] == 2
    assert curve.at_step[-1] == 249.5


@pytest.mark.parametrize("law", list(TRUTHS))
def test_derivatives_agree_with_central_differences(law: str) -> None:
    the = LAWS[law]
    frame, theta = with_loss(law, curves(("cosine", "again"), every=200)), TRUTHS[law]
    x = {
        name: np.asarray(column, float) for name, column in the.prepare(as_columns(frame)).items() if name in the.inputs
    }
    problem = make_problem(the, frame, objective=Objective())
    phi = the.to_working(theta[None], problem.log_refs)
    np.testing.assert_allclose(the.to_public(phi, problem.log_refs)[0], theta, rtol=1e-9)
    value, jacobian = the.working_jacobian(phi, problem.z)
    np.testing.assert_allclose(value[0], frame["loss"], rtol=1e-10)
    np.testing.assert_allclose(the.working_value(phi, problem.z), value, rtol=1e-13)
    weights = np.random.default_rng(1).normal(size=value.shape)
    curvature = the.working_curvature(phi, problem.z, weights, jacobian)[0]
    public = the.jacobian([np.array([t]) for t in theta], x)
    for j in range(theta.size):

        def moved(at: np.ndarray, step: float, j: int = j) -> np.ndarray:
            out = at.copy()
            out[..., j] += step
            return out

        step = 1e-6 * abs(theta[j])
        slope = (the(moved(theta, step), frame) - the(moved(theta, -step), frame)) / (2 * step)
        assert np.abs(public[j] - slope).max() < 2e-6 * np.abs(slope).max()
        slope = (
            the.working_value(moved(phi, 1e-6), problem.z) - the.working_value(moved(phi, -1e-6), problem.z)
        ) / 2e-6
        assert np.abs(jacobian[0, j] - slope[0]).max() < 1e-6 * np.abs(slope).max()
        up, down = (the.working_jacobian(moved(phi, s), problem.z)[1][0] @ weights[0] for s in (1e-5, -1e-5))
        assert np.abs(curvature[j] - (up - down) / 2e-5).max() < 1e-5 * max(np.abs(curvature).max(), 1.0)


@pytest.mark.parametrize("objective", ["huber", "squared", "lad"])
@pytest.mark.parametrize("law", list(TRUTHS))
def test_noiseless_curves_are_recovered(law: str, objective: ObjectiveName) -> None:
    frame = with_loss(law, curves(every=300 if objective == "lad" else 120))  # its fit takes the square of rows in time
    spec = Objective(name=objective, delta=1e-3 if objective == "huber" else 0.0)
    problem = make_problem(LAWS[law], frame, objective=spec)
    point = solve(problem)
    found = LAWS[law].working_value(point.phi[None], problem.z)[0]
    np.testing.assert_allclose(found, frame["loss"], rtol=1e-8)
    unseen = curves(("again",), steps=9000)
    predicted = LAWS[law](LAWS[law].to_public(point.phi[None], problem.log_refs)[0], unseen)
    np.testing.assert_allclose(predicted, LAWS[law](TRUTHS[law], unseen), rtol=1e-5)


@pytest.mark.parametrize("law", list(TRUTHS))
def test_predictions_depend_on_neither_the_unit_of_the_rate_nor_the_order_of_rows_nor_the_labels(law: str) -> None:
    frame = with_loss(law, curves(every=150), noise=2e-4)
    other = frame.assign(lr=1e4 * frame["lr"], curve=frame["curve"].map({"cosine": 7, "constant": 30, "drop": 2}))
    other = other.sample(frac=1.0, random_state=0)
    here, there = fit_law(law, frame), fit_law(law, other)
    assert there.objective == pytest.approx(here.objective, rel=1e-7)
    predicted = there.predict(other, interval="none")["loss"].to_numpy()
    np.testing.assert_allclose(predicted, here.predict(frame, interval="none")["loss"][other.index], rtol=1e-6)


def test_a_curve_recorded_twice_as_often_counts_no_more() -> None:
    law = LAWS["multipower"]
    frame = pd.concat([curves(("cosine",), every=50), curves(("drop",), every=100)], ignore_index=True)
    weights = make_problem(law, with_loss("multipower", frame), objective=Objective()).weights
    cosine = (frame["curve"] == "cosine").to_numpy()
    assert weights[cosine].sum() == pytest.approx(weights[~cosine].sum())
    assert weights.sum() == pytest.approx(len(frame))
    given = make_problem(law, with_loss("multipower", frame), objective=Objective(), weights=np.full(len(frame), 2.0))
    assert (given.weights == 2.0).all()


def test_rows_without_weight_have_no_part_in_a_fit_or_in_its_residuals() -> None:
    frame = with_loss("tissue", curves())
    early = frame["step"] < 1800
    moved = frame.assign(loss=frame["loss"] * np.where(early, 1 + 0.05 * (1800 - frame["step"]) / 1200, 1.0))
    fit = fit_law("tissue", moved, weights=np.where(early, 0.0, 1.0), bootstrap=0)
    np.testing.assert_allclose(fit.predict(frame, interval="none")["loss"], frame["loss"], rtol=1e-6)
    assert np.abs(fit.predictor.residuals).max() < 1e-6
    everywhere = fit_law("tissue", moved, weights=np.ones(len(moved)), bootstrap=0)
    assert everywhere.objective > 1e3 * fit.objective


def test_rows_left_out_still_complete_their_curves_and_need_no_loss() -> None:
    frame = with_loss("multipower", curves(every=100))
    late = (frame["step"] > 2000).to_numpy()
    blind = frame.assign(loss=frame["loss"].where(late))
    fit = fit_law("multipower", blind, rows=late)
    assert fit.num_rows == late.sum()
    np.testing.assert_allclose(fit.predict(frame, interval="none")["loss"], frame["loss"], rtol=1e-7)
    shortened = fit_law("multipower", frame[late])
    assert shortened.objective > 100 * fit.objective


def test_curves_without_a_fall_say_that_they_cannot_tell_what_one_does() -> None:
    fit = fit_law("multipower", with_loss("multipower", curves(("constant",))))
    for name in ("B", "C", "beta", "gamma"):
        assert "no rate falls" in str(fit.identified[name])
    assert any("share their errors" in w for w in fit.warnings)


@pytest.mark.parametrize("law", list(TRUTHS))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(curve="all"), "two rows at step"),
        (lambda f: f.iloc[[0, -1]].assign(curve=["a", "b"]), "needs the rows of the whole schedule"),
        (lambda f: f.assign(lr=f["lr"] - f["lr"].min()), "lr is not positive"),
    ],
)
def test_what_is_no_schedule_is_refused(law: str, change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_law(law, change(with_loss(law, curves())))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of one command."""
    status = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_several_files_are_several_curves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = with_loss("multipower", curves(every=120))
    paths = []
    for name, rows in frame.groupby("curve"):
        paths.append(tmp_path / f"{name}.csv")
        rows.rename(columns={"step": "t", "lr": "eta", "loss": "L"}).drop(columns="curve").to_csv(
            paths[-1], index=False
        )
    names = ["--columns", "step=t,lr=eta,loss=L", "--bootstrap", 0]
    out = tmp_path / "fit.json"
    status, text, _ = run(capsys, "fit", *paths, "--law", "multipower", *names, "--out", out, "--json")
    assert status == 0
    assert json.loads(text)["num_rows"] == len(frame)
    status, text, _ = run(capsys, "predict", out, "--table", *paths, "--json")
    rows = json.loads(text)["rows"]
    ordered = frame.sort_values("curve", kind="stable")["loss"]
    np.testing.assert_allclose([row["loss"] for row in rows], ordered, rtol=1e-7)
    assert all(row["prediction"][0] < row["loss"] * (1 + 1e-9) < row["prediction"][1] * (1 + 1e-6) for row in rows)
    status, text, errors = run(
        capsys, "fit", *paths, "--law", "multipower", *names, "--where", "t > 2000", "--out", tmp_path / "late.json"
    )
    assert "rows left out: --where t > 2000" in errors
    status, text, _ = run(capsys, "predict", tmp_path / "late.json", "--table", *paths, "--json")
    np.testing.assert_allclose([row["loss"] for row in json.loads(text)["rows"]], ordered, rtol=1e-6)
    status, _, errors = run(capsys, "predict", out, "--at", "step=100,lr=3e-4")
    assert status == 2
    assert "needs the rows of the whole schedule" in errors


def test_a_band_along_one_input_is_refused_for_a_schedule() -> None:
    fit = fit_law("tissue", with_loss("tissue", curves(), noise=1e-4))
    assert plot_fit(fit, kind="residuals", data=curves().assign(loss=3.0)).get_xlabel() == "step"
    with pytest.raises(ValueError, match="predicts along a schedule"):
        plot_fit(fit, kind="bands")


def test_the_choices_of_the_multi_power_law_are_summed_from_curves_left_out_and_never_from_test_curves() -> None:
    record = json.loads(
        (Path(__file__).resolve().parents[3] / "benchmarks" / "multipower_cv.json").read_text(encoding="utf-8")
    )
    cells = record["cells"]
    assert {(c["size"], c["counted_alike"], c["gamma"]) for c in cells} == {
        (size, counted, gamma) for size in ("25M", "100M") for counted in ("curves", "rows") for gamma in GAMMA
    }
    assert record["least_mean"] == chosen(cells)
    assert record["paired"] == paired(cells)
    without = [{name: value for name, value in cell.items() if name != "test"} for cell in cells]
    assert chosen(without) == chosen(cells)
    assert record["paired"]["rows less curves"]["mean"] > 0
