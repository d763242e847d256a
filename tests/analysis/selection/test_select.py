"""Choosing among laws: what is held out, how errors are averaged, what a choice needs, and the JSON of it."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from analysis.runs.noise import noise_floor
from analysis.selection.averaging import average_laws, inverse_errors, weighted_quantiles
from analysis.selection.candidates import available
from analysis.selection.choice import noise_of_mean
from analysis.selection.extrapolation import Redraws, information_criteria, score
from analysis.selection.select import select_law
from analysis.selection.windows import compute_axis, expanding_windows, given_window
from analysis.solver.objectives import Objective, ObjectiveName
from tests.known import known

HOFFMANN = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
KAPLAN = (0.076, 0.103, 6.4e13, 1.8e13)
QUICK = ["power", "hoffmann", "kaplan", "gadre"]
"""Laws whose fits take a few milliseconds."""


def isoflop_runs(
    law: str = "hoffmann", theta: tuple[float, ...] = HOFFMANN, noise: float = 0.004, seed: int = 0
) -> dict[str, Array]:
    """Six budgets of seven sizes, drawn from a law."""
    flops = np.repeat(np.geomspace(1e18, 1e21, 6), 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 7), 6)
    data = {"params": params, "tokens": flops / (6 * params), "flops": flops}
    rng = np.random.default_rng(seed)
    return data | {"loss": LAWS[law](theta, data) * np.exp(noise * rng.standard_normal(flops.size))}


# -- windows ---------------------------------------------------------------------------------------------------------


def test_windows_are_nested_and_fit_only_what_is_smaller_than_what_they_hold_out() -> None:
    rng = np.random.default_rng(0)
    flops = np.exp(rng.uniform(np.log(1e17), np.log(1e21), 83))
    windows = expanding_windows("flops", flops)
    assert len(windows) == 5
    for window in windows:
        assert (window.fitted ^ window.held).all()
        assert flops[window.fitted].max() < flops[window.held].min()
        assert window.fitted.mean() >= 0.5
        assert window.held.sum() >= 3
    for small, large in itertools.pairwise(windows):
        assert (large.fitted | ~small.fitted).all()
        assert large.fitted.sum() > small.fitted.sum()


def test_cut_offs_fall_between_budgets_and_never_within_one() -> None:
    rng = np.random.default_rng(1)
    budget = np.repeat(np.geomspace(1e18, 1e21, 8), 6)
    flops = budget * np.exp(rng.uniform(-0.03, 0.03, 48))
    for window in expanding_windows("flops", flops):
        held = set(budget[window.held])
        assert not held & set(budget[window.fitted])


def test_one_gap_between_budgets_makes_one_window_and_even_runs_make_several() -> None:
    rng = np.random.default_rng(4)
    budget = np.repeat([4e9, 8e9, 1.6e10, 4.8e10], [4, 4, 4, 2])
    (window,) = expanding_windows("flops", budget * np.exp(rng.uniform(-0.01, 0.01, 14)))
    assert window.held.tolist() == (budget > 1e10).tolist()
    close = np.geomspace(1e18, 1.5e18, 20)
    assert len(expanding_windows("flops", close)) == 5


def test_windows_do_not_depend_on_the_order_of_the_rows() -> None:
    flops = np.geomspace(1e17, 1e21, 40)
    mixed = np.random.default_rng(2).permutation(40)
    first, second = expanding_windows("flops", flops), expanding_windows("flops", flops[mixed])
    assert [w.cutoff for w in first] == [w.cutoff for w in second]
    assert (first[0].held[mixed] == second[0].held).all()


def test_runs_of_one_size_of_compute_cannot_be_split_and_the_message_says_what_to_do() -> None:
    with pytest.raises(UserError, match="--holdout"):
        expanding_windows("flops", np.full(12, 1e18))
    with pytest.raises(UserError, match="holds out no run"):
        given_window(np.zeros(5, dtype=bool), name="flops > 1e30")
    with pytest.raises(UserError, match="none of flops"):
        compute_axis({"loss": np.ones(3)})


def test_without_flops_the_axis_is_six_params_tokens() -> None:
    name, values = compute_axis({"params": np.array([2.0, 3.0]), "tokens": np.array([5.0, 7.0])})
    assert name == "flops"
    assert values.tolist() == [60.0, 126.0]


# -- errors ----------------------------------------------------------------------------------------------------------


def test_every_window_counts_the_same_however_many_runs_it_holds_out() -> None:
    windows = expanding_windows("flops", np.geomspace(1e18, 1e21, 20))
    held = np.stack([w.held for w in windows])
    measured = np.full(20, 2.0)
    predicted = np.repeat(2.0 * (1 + 0.01 * np.arange(1, len(windows) + 1))[:, None], 20, axis=1)
    redraws = Redraws.of(windows, np.arange(20), draws=200, rng=np.random.default_rng(0))
    found = score(predicted, measured, windows, redraws, level=0.9)
    np.testing.assert_allclose(found.by_window, 0.01 * np.arange(1, len(windows) + 1))
    assert found.mape.value == pytest.approx(found.by_window.mean())
    assert found.rmse == pytest.approx(2 * math.sqrt((found.by_window**2).mean()))
    assert found.r2 is None
    assert found.mape.lo is not None
    assert found.mape.lo < found.mape.value < known(found.mape.hi)
    assert held.sum(axis=1).min() < held.sum(axis=1).max()


def test_r2_is_one_for_a_perfect_law_and_zero_for_the_mean() -> None:
    windows = given_window(np.arange(20) >= 8, name="later")
    measured = np.random.default_rng(0).uniform(2, 3, 20)
    redraws = Redraws.of(windows, np.arange(20), draws=50, rng=np.random.default_rng(0))
    assert score(measured[None], measured, windows, redraws, level=0.95).r2 == 1
    mean = np.full((1, 20), measured[8:].mean())
    assert score(mean, measured, windows, redraws, level=0.95).r2 == pytest.approx(0, abs=1e-12)


def test_few_held_out_runs_give_no_interval_but_the_reason() -> None:
    data = isoflop_runs()
    held = np.zeros(42, dtype=bool)
    held[-3:] = True
    found = select_law(data, laws=["power", "hoffmann"], holdout=held)
    assert found["hoffmann"].score.mape.lo is None
    assert "3 independent held-out runs are too few" in str(found["hoffmann"].score.mape.reason)
    labels = np.repeat(np.arange(6), 7)
    held = labels >= 4
    clustered = select_law(data | {"trunk": labels}, laws=["power", "hoffmann"], holdout=held, cluster="trunk")
    assert clustered["hoffmann"].score.mape.lo is None
    assert select_law(data, laws=["power", "hoffmann"], holdout=held)["hoffmann"].score.mape.lo is not None


def test_intervals_of_the_error_cover_the_error_on_new_runs_of_the_same_kind() -> None:
    rng = np.random.default_rng(3)
    windows = given_window(np.arange(31) > 0, name="all but one")
    hits = 0
    for _ in range(400):
        errors = rng.standard_t(4, 31) * 0.01
        redraws = Redraws.of(windows, np.arange(31), draws=200, rng=rng)
        found = score((1 + errors)[None], np.ones(31), windows, redraws, level=0.9).mape
        hits += found.covers(0.01)  # the mean of |t| with four degrees of freedom is one
    assert 0.82 <= hits / 400 <= 0.95


@pytest.mark.parametrize(("name", "delta"), [("squared", 0.0), ("lad", 0.0), ("huber", 0.02), ("huber", 1e-6)])
def test_the_likelihood_is_that_of_a_density_which_integrates_to_one(name: ObjectiveName, delta: float) -> None:
    objective = Objective(name=name, delta=delta)
    residuals = np.random.default_rng(4).normal(0, 0.01, 50)
    total = float(objective.rho(residuals).sum())
    found = objective.log_likelihood(total, np.ones(50))
    grid = np.linspace(-0.6, 0.6, 400_001)
    best = -np.inf
    for log_scale in np.linspace(math.log(total / 50) - 3, math.log(total / 50) + 3, 61):
        density = np.exp(-objective.rho(grid) / math.exp(log_scale))
        area = float(np.trapezoid(density, grid))
        best = max(best, -50 * math.log(area) - total / math.exp(log_scale))
    assert found == pytest.approx(best, abs=0.15)
    assert found >= best - 1e-6


def test_information_criteria_compare_log_and_raw_residuals_on_one_scale() -> None:
    losses = 3.0 + 1e-4 * np.random.default_rng(5).standard_normal(200)
    weights, squared = np.ones(200), Objective(name="squared")
    raw = float(((losses - 3) ** 2).sum())
    logs = float((np.log(losses / 3) ** 2).sum())
    criteria = partial(information_criteria, losses=losses, weights=weights, num_params=3)
    aic, bic = criteria(squared, raw, log_residuals=False)
    aic_log, _ = criteria(squared, logs, log_residuals=True)
    assert aic == pytest.approx(aic_log, rel=1e-5)
    assert known(bic) - known(aic) == pytest.approx(4 * (math.log(200) - 2))
    assert criteria(squared, 0.0, log_residuals=True) == (None, None)


# -- the choice ------------------------------------------------------------------------------------------------------


def test_laws_are_fitted_to_the_other_rows_alone() -> None:
    data = isoflop_runs()
    held = data["flops"] > 2e20
    found = select_law(data, laws=["power", "hoffmann"], holdout=held)
    small = {name: column[~held] for name, column in data.items()}
    large = {name: column[held] for name, column in data.items()}
    expected = fit_law("hoffmann", small).predict(large, interval="none")["loss"].to_numpy()
    np.testing.assert_allclose(found["hoffmann"].predicted[0, held], expected, rtol=1e-6)
    changed = data | {"loss": np.where(held, 9.0, data["loss"])}
    again = select_law(changed, laws=["power", "hoffmann"], holdout=held)
    np.testing.assert_allclose(again["hoffmann"].predicted[0, held], expected, rtol=1e-9)


@pytest.mark.parametrize(("law", "theta"), [("hoffmann", HOFFMANN), ("kaplan", KAPLAN)])
def test_the_true_law_is_chosen_where_laws_differ(law: str, theta: tuple[float, ...]) -> None:
    found = select_law(isoflop_runs(law, theta), laws=QUICK)
    assert found.chosen == law
    assert law in found.why
    assert found[law].score.mape.value < 0.5 * found["power"].score.mape.value


def test_what_the_runs_do_not_identify_is_never_chosen_and_the_reason_is_said() -> None:
    flops = np.geomspace(1e18, 1e21, 30)
    params = np.sqrt(flops / 120)
    data = {"params": params, "tokens": 20 * params, "flops": flops}
    data["loss"] = LAWS["hoffmann"](HOFFMANN, data)
    found = select_law(data, laws=["power", "hoffmann", "kaplan"])
    assert found.chosen in {"power", None}
    assert set(found.unscored) == {"hoffmann", "kaplan"}
    assert all("tokens follow params" in why for why in found.unscored.values())
    below = isoflop_runs()
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(42))
    below["loss"] = (20 * below["params"] ** -0.12 + 30 * below["tokens"] ** -0.14 - 0.25) * noise
    found = select_law(below, laws=["hoffmann"])
    assert found["hoffmann"].fit.identified["E"] is not None
    assert found.chosen is None
    assert "not identified" in found.why
    assert "E" in str(found["hoffmann"].reason)


def test_a_difference_below_the_noise_floor_is_a_tie_and_fewer_parameters_win_it() -> None:
    data = isoflop_runs(noise=0.006, seed=10)
    choose = partial(select_law, data, laws=["hoffmann", "skaling"], reference=None, bootstrap=50)
    plain = choose()
    gap = plain["hoffmann"].score.mape.value - plain["skaling"].score.mape.value
    assert 0 < gap < 0.002, "this seed ranks the larger law first by little"
    assert plain.chosen == "skaling"
    tied = choose(noise=Estimate(value=0.008, lo=0.005, hi=0.02))
    assert tied.chosen == "hoffmann"
    assert tied.ties[0].law == "skaling"
    assert tied.ties[0].difference == pytest.approx(gap)
    assert gap < tied.ties[0].floor < 0.008
    assert "fewer parameters" in tied.why
    sure = choose(noise=Estimate(value=1e-4, lo=1e-5, hi=1e-3))
    assert sure.chosen == "skaling"
    assert sure.ties == ()


def test_the_reference_is_kept_until_another_law_beats_it_for_sure() -> None:
    data = isoflop_runs(noise=0.01, seed=5)
    free = select_law(data, laws=QUICK, reference=None)
    assert free.chosen == free.candidates[0].name
    held = select_law(data, laws=QUICK, reference=free.candidates[1].name)
    assert held.chosen == free.candidates[1].name
    assert held.sureness is not None
    assert held.sureness < 0.975
    assert "is kept" in held.why
    bad = select_law(data, laws=QUICK, reference=free.candidates[-1].name)
    assert bad.chosen == free.chosen
    assert bad.sureness is not None
    assert bad.sureness >= 0.975


def test_no_law_is_taken_that_the_reference_outdoes_though_it_is_not_identified_itself() -> None:
    data = isoflop_runs()
    data["loss"] = (1.8 + 2000 * data["tokens"] ** -0.37) * data["loss"] / LAWS["hoffmann"](HOFFMANN, data)
    free = select_law(data, laws=["power", "hoffmann"], reference=None)
    assert free.chosen == "power"
    assert free["hoffmann"].reason is not None
    held = select_law(data, laws=["power", "hoffmann"])
    assert held.chosen is None
    assert "hoffmann errs by" in held.why
    assert "not identified" in held.why


def test_the_noise_floor_of_a_mean_is_what_simulated_seeds_give_it() -> None:
    windows = expanding_windows("flops", np.geomspace(1e18, 1e21, 30))
    held = np.stack([window.held for window in windows])
    seeds = 0.01 * np.random.default_rng(9).standard_normal((20_000, 30))
    means = ((seeds @ held.T.astype(float)) / held.sum(axis=1)).mean(axis=1)
    assert noise_of_mean(0.01, windows) == pytest.approx(means.std(), rel=0.03)


def test_outliers_are_flagged_with_reasons_and_stay_in() -> None:
    data = isoflop_runs()
    data["loss"][5] *= 1.2
    found = select_law(data, laws=["hoffmann"])
    assert 5 in found.outliers
    assert "above hoffmann" in found.outliers[5]
    assert found["hoffmann"].fit.num_rows == 42


def test_the_choice_does_not_depend_on_the_order_of_rows_or_the_units_of_inputs() -> None:
    data = isoflop_runs()
    first = select_law(data, laws=QUICK)
    mixed = np.random.default_rng(6).permutation(42)
    second = select_law({name: column[mixed] for name, column in data.items()}, laws=QUICK)
    assert second.chosen == first.chosen
    for one in first.candidates:
        assert second[one.name].score.mape.value == pytest.approx(one.score.mape.value, rel=1e-6)


def test_default_candidates_are_laws_of_the_loss_whose_inputs_are_there() -> None:
    assert available({"flops": 1, "loss": 1}) == [
        n for n, law in LAWS.items() if law.inputs == ("x",) and law.target == "loss" and law.by_default
    ]
    both = available({"params": 1, "flops": 1, "loss": 1})
    assert {"hoffmann", "kaplan", "skaling", "farseer"} <= set(both)
    assert "m3" not in both
    assert "gemstones" not in both
    assert "muennighoff" not in both
    shaped = available({"params": 1, "tokens": 1, "width": 1, "depth": 1, "unique_tokens": 1})
    assert {"gemstones", "gemstones-shape", "muennighoff"} <= set(shaped)
    assert all(LAWS[name].target == "loss" for name in shaped)


def test_asking_for_what_is_not_there_says_so() -> None:
    data = isoflop_runs()
    with pytest.raises(UserError, match="gemstones reads width"):
        select_law(data, laws=["gemstones"])
    with pytest.raises(UserError, match="no law is called"):
        select_law(data, laws=["chinchila"])
    few = {name: column[:6] for name, column in data.items()}
    with pytest.raises(UserError, match="no law could be scored"):
        select_law(few, laws=["hoffmann"], holdout=np.arange(6) > 3)


# -- seeds and averages ----------------------------------------------------------------------------------------------


def test_the_noise_floor_of_replicates_covers_the_seeds_standard_deviation() -> None:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"params": np.repeat(np.geomspace(1e6, 1e8, 12), 3), "seed": np.tile([0, 1, 2], 12)})
    frame["tokens"] = 20 * frame["params"]
    frame["loss"] = 3 * np.exp(0.01 * rng.standard_normal(36))
    rows, floor = noise_floor(frame)
    assert floor is not None
    assert floor.covers(0.01)
    assert rows["num_seeds"].tolist() == [3] * 12
    assert noise_floor(frame.drop(columns="seed"))[1] is None
    assert noise_floor(frame[frame["seed"] == 0])[1] is None


def test_weights_of_an_average_are_inverse_squared_errors() -> None:
    np.testing.assert_allclose(inverse_errors(np.array([1.0, 4.0, np.inf])), [0.8, 0.2, 0.0])
    np.testing.assert_allclose(inverse_errors(np.array([0.0, 4.0])), [1.0, 0.0])
    np.testing.assert_allclose(inverse_errors(np.full(2, np.inf)), [0.5, 0.5])


def test_an_average_is_weighed_by_smaller_windows_alone() -> None:
    data = isoflop_runs()
    found = select_law(data, laws=QUICK, average=True)
    assert found.average is not None
    assert sum(found.average.weights.values()) == pytest.approx(1)
    members = [found[name].predicted for name in found.average.weights]
    np.testing.assert_allclose(found.average.predicted[0], np.mean([m[0] for m in members], axis=0))
    last = found.windows[-1].held
    changed = np.where(last, 5.0, found.losses)
    again = average_laws(found.candidates, changed, found.windows, found.redraws, level=0.95)
    np.testing.assert_allclose(again.predicted, found.average.predicted)
    assert again.weights != found.average.weights


def test_quantiles_of_a_mixture_follow_the_shares() -> None:
    parts = [np.linspace(0, 1, 1000), np.linspace(10, 11, 50)]
    low, middle, high = weighted_quantiles(parts, [0.8, 0.2], [0.4, 0.79, 0.9])
    assert low == pytest.approx(0.5, abs=0.01)
    assert middle == pytest.approx(0.9875, abs=0.01)
    assert high == pytest.approx(10.5, abs=0.03)
