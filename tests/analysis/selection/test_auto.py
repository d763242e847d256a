"""A weighted set of laws: what its weights, its record at cut-offs and its intervals must be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.api import fit_law
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.registry import get_law
from analysis.selection.auto import AutoFit, Predicted, fit_auto, mixture_ends
from analysis.selection.auto_saved import load_any, save_auto
from analysis.selection.cutoffs import CutOff, Member, law_weights, track_record, widening
from analysis.selection.windows import expanding_windows
from analysis.solver.objectives import Objective
from analysis.solver.problem import make_problem
from analysis.solver.search import solve

BESIROGLU = [1.8172, 482.01, 2085.43, 0.3478, 0.3658]
FAR = {"params": [7e9], "tokens": [1.4e11]}


def runs(
    law: str = "hoffmann", theta: list[float] | None = None, noise: float = 0.003, seed: int = 0
) -> dict[str, Array]:
    """Nine budgets of seven sizes."""
    flops = np.repeat(np.geomspace(1e18, 1e21, 9), 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.15, 7, 7), 9)
    data = {"params": params, "tokens": flops / (6 * params)}
    errors = np.random.default_rng(seed).standard_normal(params.size)
    return data | {"loss": get_law(law)(theta or BESIROGLU, data) * np.exp(noise * errors)}


@pytest.fixture(scope="module")
def auto() -> AutoFit:
    """The set of laws on runs of Hoffmann's law."""
    return fit_auto(runs())


def half_width(frame: pd.DataFrame) -> float:
    """Of the interval of the law, in log loss."""
    return float(np.log(frame["confidence_hi"].iloc[0] / frame["confidence_lo"].iloc[0])) / 2


def test_weights_sum_to_one_and_leave_out_a_law_without_a_floor(auto: AutoFit) -> None:
    assert sum(auto.weights.values()) == pytest.approx(1)
    assert list(auto.weights.values()) == sorted(auto.weights.values(), reverse=True)
    assert "kaplan" in auto.left_out
    assert "hoffmann" in auto.weights


def test_the_interval_is_not_narrower_than_the_narrowest_law_and_holds_the_prediction(auto: AutoFit) -> None:
    said = auto.predict(FAR)
    narrowest = min(half_width(fit.predict(FAR, "confidence")) for fit in auto.fits.values())
    assert half_width(said) >= 0.99 * narrowest
    for kind in ("confidence", "prediction"):
        assert said[f"{kind}_lo"].iloc[0] < said["loss"].iloc[0] < said[f"{kind}_hi"].iloc[0]
    assert said["prediction_lo"].iloc[0] < said["confidence_lo"].iloc[0]
    assert half_width(auto.at_level(0.8).predict(FAR)) < half_width(said)


def test_a_break_beyond_the_first_cutoffs_widens_every_interval() -> None:
    data = runs()
    flops = 6 * data["params"] * data["tokens"]
    bent = data["loss"] * np.where(flops > 2e20, (flops / 2e20) ** -0.01, 1.0)
    auto = fit_auto(data | {"loss": bent}, laws=["hoffmann"])
    single = fit_law("hoffmann", data | {"loss": bent}, bootstrap=0)
    assert auto.widening > 1.5
    ratio = half_width(auto.predict(FAR)) / half_width(single.predict(FAR, "confidence"))
    assert ratio == pytest.approx(auto.widening, rel=0.03)
    assert "times what they expected" in auto.verdict


def test_weights_count_parameters_against_a_law_and_errors_at_cutoffs_against_fits() -> None:
    same = law_weights([1.0, 1.0], [5, 9], 40)
    assert same[0] > same[1]
    better = law_weights([1.0, 0.4], [5, 9], 40)
    assert better[1] > better[0]
    assert law_weights([1.0, 0.4], [5, 9], 40, dispersion=9.0)[0] > better[0]
    assert law_weights([1.0, 1e-9], [5, 39], 40)[1] == 0


def test_the_widening_is_the_ratio_of_errors_to_what_was_expected() -> None:
    expected = tuple([0.01] * 50)
    honest = CutOff(name="", num_fitted=10, errors=expected, expected=expected)
    off = CutOff(name="", num_fitted=10, errors=tuple([0.03] * 50), expected=expected)
    assert widening([]) == 1
    assert widening([honest]) == pytest.approx(1)
    assert widening([off]) == pytest.approx(3, rel=0.03)


def test_runs_of_more_than_ten_times_a_cutoff_are_asked_for_only_where_none_is_nearer() -> None:
    data = runs()  # budgets a factor of 2.37 apart, cut-offs below the last four
    axis = 6 * data["params"] * data["tokens"]
    problem = make_problem(get_law("hoffmann"), data, objective=Objective())
    member = Member(problem=problem, phi=solve(problem).phi, codes=np.arange(axis.size))
    windows = expanding_windows("flops", axis)
    near, all_of_them, next_only = (track_record([member], windows, axis, horizon=h) for h in (10.0, np.inf, 1.0))
    assert [len(one.errors) for one in all_of_them] == [4, 3, 2, 1]
    assert [len(one.errors) for one in near] == [2, 2, 2, 1]
    assert [len(one.errors) for one in next_only] == [1, 1, 1, 1]
    assert [one.errors for one in near] == [one.errors[:2] for one in all_of_them]
    assert track_record([member], windows, axis) == near


def test_a_mixture_of_one_law_has_students_quantiles() -> None:
    one = Predicted(middle=np.array([2.0]), scale=np.array([0.1]), dof=10)
    lo, hi = mixture_ends([one], np.ones(1), 0.9, None)[0]
    assert (hi - lo) / 2 == pytest.approx(0.1 * 1.812, rel=0.02)
    apart = Predicted(middle=np.array([3.0]), scale=np.array([0.1]), dof=10)
    assert mixture_ends([one, apart], np.array([0.5, 0.5]), 0.9, None)[0][1] > 3


def test_copies_of_runs_in_clusters_do_not_narrow_the_interval(auto: AutoFit) -> None:
    data = runs()
    twice = {name: np.concatenate([column, column]) for name, column in data.items()}
    clusters = np.tile(np.arange(data["loss"].size), 2)
    again = fit_auto(twice, cluster=clusters)
    assert half_width(again.predict(FAR)) == pytest.approx(half_width(auto.predict(FAR)), rel=0.15)


def test_it_survives_saving_and_the_verbs(auto: AutoFit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    back = load_any(save_auto(auto, tmp_path / "auto.json"))
    assert isinstance(back, AutoFit)
    pd.testing.assert_frame_equal(back.predict(FAR), auto.predict(FAR))
    assert back.summary() == auto.summary()
    pd.DataFrame(runs()).to_csv(tmp_path / "runs.csv", index=False)
    out = tmp_path / "set.json"
    assert main(["fit", str(tmp_path / "runs.csv"), "--law", "auto", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["weights"]) == set(auto.weights)
    assert main(["predict", str(out), "--at", "params=7e9,tokens=1.4e11", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["confidence"][0] == pytest.approx(auto.predict(FAR)["confidence_lo"].iloc[0], rel=1e-6)
    assert "compute" in json.dumps(said["verdict"])
    assert main(["predict", str(out), "--at", "params=7e9,tokens=1.4e11", "--register", str(tmp_path / "r")]) == 2
    assert "weighted set of laws" in capsys.readouterr().err


def test_one_input_is_fitted_by_laws_of_one_input() -> None:
    x = np.geomspace(1e18, 1e21, 24)
    loss = (1.7 + 30 * (x / 1e15) ** -0.2) * np.exp(0.002 * np.random.default_rng(0).standard_normal(x.size))
    auto = fit_auto({"x": x, "loss": loss}, laws=["power", "shifted"])
    assert set(auto.fits) <= {"power", "shifted"}
    assert auto.predict({"x": [1e22]})["confidence_lo"].iloc[0] > 1.7


def test_runs_that_share_few_trunks_are_drawn_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame(runs())
    table["flops"] = 6 * table["params"] * table["tokens"]
    table["trunk"] = np.tile(np.arange(7), 9)
    table.to_csv(tmp_path / "runs.csv", index=False)
    assert main(["fit", str(tmp_path / "runs.csv"), "--law", "auto"]) == 0
    assert "7 trunks (shared first steps) are too few" in capsys.readouterr().err


def test_too_few_runs_are_refused() -> None:
    few = {name: column[:6] for name, column in runs().items()}
    with pytest.raises(UserError, match="give more runs"):
        fit_auto(few)


BENT = [1.8172, 482.01, 2085.43, 0.3478, 0.3658, 0.08, 1e20 / 6]


def test_the_law_with_a_break_is_in_the_set_only_where_runs_determine_the_break() -> None:
    straight = [fit_auto(runs(seed=seed), laws=["hoffmann", "hoffmann-break"]) for seed in (1, 2, 3)]
    assert all("do not determine a break" in one.left_out["hoffmann-break"] for one in straight)
    data = runs("hoffmann-break", BENT)
    bent = fit_auto(data, laws=["hoffmann", "skaling", "hoffmann-break"])
    without = fit_auto(data, laws=["hoffmann", "skaling"])
    assert bent.best.law.name == "hoffmann-break"
    assert half_width(bent.predict(FAR)) < half_width(without.predict(FAR))


def test_intervals_of_95_percent_hold_a_law_with_a_break_in_four_of_five_studies_or_more() -> None:
    truth = float(get_law("hoffmann-break")(BENT, {name: np.array(value) for name, value in FAR.items()})[0])
    found = [
        fit_auto(runs("hoffmann-break", BENT, seed=seed), laws=["hoffmann", "skaling", "hoffmann-break"]).predict(FAR)
        for seed in range(5)
    ]
    held = [one["confidence_lo"].iloc[0] < truth < one["confidence_hi"].iloc[0] for one in found]
    assert sum(held) >= 4
