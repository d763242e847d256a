"""What is special of each law: limits in which it becomes another, and quantities that it defines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from analysis.__main__ import main
from analysis.catalogue.expert_tables import LEVERAGED
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.laws.one_input.m4 import generalised_sigmoid
from analysis.laws.registry import LAWS, get_law
from analysis.laws.size_and_data.hernandez import HERNANDEZ
from analysis.published.constants import GADRE_RUNS
from analysis.published.refits import gadre_table
from tests.known import known

X = np.geomspace(1e3, 1e9, 40)
rng = np.random.default_rng(3)
N = np.exp(rng.uniform(np.log(1e7), np.log(1e10), 40))
D = N * np.exp(rng.uniform(np.log(2), np.log(200), 40))


# -- m4 ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0, 2.5])
def test_m4_solves_its_equation(alpha: float) -> None:
    E, top, A, b = 1.9, 9.0, 40.0, 0.3
    loss = LAWS["m4"]([E, top, A, alpha, b], {"x": X})
    assert ((loss > E) & (loss < top)).all()
    inside = top - loss > 1e-9
    np.testing.assert_allclose(((loss - E) / (top - loss) ** alpha)[inside], (A * X**-b)[inside], rtol=1e-6)


@pytest.mark.parametrize("log_u", [-30.0, -1.0, 0.0, 1e-9, 0.7, 40.0])
@pytest.mark.parametrize("alpha", [0.05, 0.7, 1.0, 4.0, 20.0])
def test_the_generalised_sigmoid_agrees_with_bisection(log_u: float, alpha: float) -> None:
    def excess(v: float) -> float:
        return float(-np.logaddexp(0, -v) + alpha * np.logaddexp(0, v) - log_u)

    v = brentq(excess, -700, 1500, xtol=1e-14, rtol=1e-15)
    s, rest = generalised_sigmoid(np.array(log_u), np.array(alpha))
    assert s == pytest.approx(1 / (1 + np.exp(-v)), rel=1e-10)
    assert rest == pytest.approx(float(np.exp(-np.logaddexp(0, v))), rel=1e-10)
    assert s + rest == pytest.approx(1.0, rel=1e-15)


def test_m4_becomes_a_power_cut_off_at_the_ceiling_as_alpha_goes_to_zero() -> None:
    cut = np.minimum(LAWS["power"]([1.9, 40.0, 0.3], {"x": X}), 5.0)
    np.testing.assert_allclose(LAWS["m4"]([1.9, 5.0, 40.0, 1e-12, 0.3], {"x": X}), cut, rtol=1e-10)


def test_m4_becomes_a_power_as_the_ceiling_goes_to_infinity() -> None:
    top, alpha = 1e12, 0.8
    loss = LAWS["m4"]([1.9, top, 40.0 / (top - 1.9) ** alpha, alpha, 0.3], {"x": X})
    np.testing.assert_allclose(loss, LAWS["power"]([1.9, 40.0, 0.3], {"x": X}), rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_m4_finds_a_plain_power_and_says_that_its_start_is_not_determined(seed: int) -> None:
    noise = np.exp(0.003 * np.random.default_rng(seed).standard_normal(X.size))
    fit = fit_law("m4", {"x": X, "loss": LAWS["power"]([1.9, 40.0, 0.3], {"x": X}) * noise}, bootstrap=60)
    assert fit.identified["alpha"]
    for name, value in (("E", 1.9), ("b", 0.3)):
        assert fit.identified[name] is None
        assert fit.params[name] == pytest.approx(value, abs=0.01)


# -- bnsl --------------------------------------------------------------------------------------------------------------
def test_bnsl_without_breaks_is_the_power_law() -> None:
    theta = (1.7, 30.0, 0.2)
    law = get_law("bnsl", breaks=0)
    np.testing.assert_allclose(law(theta, {"x": X}), LAWS["power"](theta, {"x": X}), rtol=1e-14)
    noisy = {"x": X, "loss": law(theta, {"x": X}) * np.exp(0.01 * rng.standard_normal(X.size))}
    ours, plain = fit_law(law, noisy), fit_law("power", noisy)
    np.testing.assert_allclose(list(ours.params.values()), list(plain.params.values()), rtol=1e-5)


TRUE_BREAKS = {
    1: (1.7, 30.0, 0.1, 0.3, 1e6, 0.6),
    2: (1.7, 30.0, 0.02, 0.3, 1e5, 0.6, -0.2, 1e7, 0.3),
    3: (1.0, 30.0, 0.02, 0.3, 3e4, 0.3, -0.25, 1e6, 0.3, 0.4, 3e7, 0.4),
}


@pytest.mark.parametrize("breaks", TRUE_BREAKS)
def test_every_break_changes_the_local_exponent_by_its_c(breaks: int) -> None:
    theta = np.array(TRUE_BREAKS[breaks])
    sharp = theta.copy()
    sharp[0], sharp[5::3] = 0.0, 0.01
    law = get_law("bnsl", breaks=breaks)
    ends = np.sqrt(np.concatenate([[1e3], theta[4::3]]) * np.concatenate([theta[4::3], [1e9]]))
    slopes = [np.diff(np.log(law(sharp, {"x": [x, 1.01 * x]})))[0] / np.log(1.01) for x in ends]
    np.testing.assert_allclose(slopes, -(theta[2] + np.concatenate([[0.0], np.cumsum(theta[3::3])])), atol=1e-9)


@pytest.mark.parametrize("breaks", TRUE_BREAKS)
def test_noiseless_breaks_are_recovered(breaks: int) -> None:
    law = get_law("bnsl", breaks=breaks)
    x = np.geomspace(1e3, 1e9, 60)
    truth = law(TRUE_BREAKS[breaks], {"x": x})
    fit = fit_law(law, {"x": x, "loss": truth})
    np.testing.assert_allclose(fit.predict({"x": x}, interval="none")["loss"], truth, rtol=1e-8)
    np.testing.assert_allclose(list(fit.params.values()), TRUE_BREAKS[breaks], rtol=1e-4)


def test_the_number_of_breaks_goes_through_the_file(tmp_path: Path) -> None:
    law = get_law("bnsl:2")
    truth = law(TRUE_BREAKS[2], {"x": X})
    fit = fit_law(law, {"x": X, "loss": truth})
    loaded = Fit.load(fit.save(tmp_path / "fit.json"))
    assert loaded.law == get_law("bnsl", breaks=2)
    np.testing.assert_allclose(loaded.predict({"x": X})["loss"], fit.predict({"x": X})["loss"], rtol=1e-14)


def test_breaks_are_an_option_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "runs.csv", tmp_path / "fit.json"
    loss = get_law("bnsl", breaks=2)(TRUE_BREAKS[2], {"x": X})
    table.write_text(
        "\n".join(["flops,loss", *(f"{x!r},{y!r}" for x, y in zip(X.tolist(), loss.tolist(), strict=True))])
    )
    asked = ["fit", str(table), "--law", "bnsl", "--breaks", "2", "--bootstrap", "0", "--out", str(out), "--json"]
    assert main(asked) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["law"], printed["law_options"], len(printed["params"])) == ("bnsl", {"breaks": 2}, 9)
    assert main(["predict", str(out), "--at", f"flops={float(X[7])!r}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(loss[7], rel=1e-8)
    assert main(["fit", str(table), "--law", "power", "--breaks", "2"]) == 2
    assert "power takes no option breaks" in capsys.readouterr().err


def test_options_that_a_law_does_not_take_are_errors() -> None:
    with pytest.raises(ValueError, match="from 0 to 4 breaks, not 9"):
        get_law("bnsl", breaks=9)
    with pytest.raises(ValueError, match="power takes no option breaks"):
        get_law("power", breaks=1)
    with pytest.raises(ValueError, match="write bnsl:2"):
        get_law("bnsl:two")


# -- gadre -------------------------------------------------------------------------------------------------------------
def test_gadre_is_hoffmann_with_both_exponents_twice_eta() -> None:
    E, a, b, eta = 1.51, 141.0, 190.0, 0.121
    scale = 6**-eta
    hoffmann = LAWS["hoffmann"]([E, a * scale, b * scale, 2 * eta, 2 * eta], {"params": N, "tokens": D})
    np.testing.assert_allclose(LAWS["gadre"]([E, a, b, eta], {"params": N, "tokens": D}), hoffmann, rtol=1e-13)


def test_gadre_reads_compute_and_the_ratio_of_tokens_to_params() -> None:
    E, a, b, eta = 1.51, 141.0, 190.0, 0.121
    ratio, flops = D / N, 6 * N * D
    stated = E + (a * ratio**eta + b * ratio**-eta) * flops**-eta
    np.testing.assert_allclose(LAWS["gadre"]([E, a, b, eta], {"params": N, "tokens": D}), stated, rtol=1e-13)


@pytest.mark.parametrize("data_set", ["c4_original", "rw_original"])
def test_five_small_runs_predict_the_largest_within_five_percent(data_set: str, published_data: Path) -> None:
    small = gadre_table(published_data, data_set, GADRE_RUNS).frame
    large = gadre_table(published_data, data_set, "N > 1e9").frame
    assert (len(small), len(large)) == (5, 3)
    fit = fit_law("gadre", small, objective="squared", residuals="raw")
    predicted = fit.predict(large, interval="none")["loss"].to_numpy()
    assert np.abs(predicted / large["loss"].to_numpy() - 1).max() < 0.05


# -- muennighoff -------------------------------------------------------------------------------------------------------
REPEATED = (1.8, 480.0, 2000.0, 0.35, 0.37, 15.4, 5.3)


def optimal_size(unique: np.ndarray) -> np.ndarray:
    """The N that minimises A / N**alpha + B / D**beta at N D = N unique, along C = 6 N D, when D is `unique`."""
    _, A, B, alpha, beta = REPEATED[:5]
    balance = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    share = beta / (alpha + beta)  # N = balance (C / 6)**share, D = (C / 6)**(1 - share) / balance
    return balance * (unique * balance) ** (share / (1 - share))


def test_one_epoch_at_sizes_up_to_the_optimum_is_hoffmann() -> None:
    size = np.minimum(N, optimal_size(D))
    data = {"params": size, "tokens": D, "unique_tokens": D}
    hoffmann = LAWS["hoffmann"](REPEATED[:5], data)
    np.testing.assert_allclose(LAWS["muennighoff"](REPEATED, data), hoffmann, rtol=1e-12)
    del data["unique_tokens"]
    np.testing.assert_allclose(LAWS["muennighoff"](REPEATED, data), hoffmann, rtol=1e-12)
    more = {"params": size, "tokens": D, "unique_tokens": 10 * D}
    np.testing.assert_allclose(LAWS["muennighoff"](REPEATED, more), hoffmann, rtol=1e-12)


def test_repeated_tokens_are_worth_what_the_paper_says() -> None:
    E, A, B, alpha, beta, r_d, _ = REPEATED
    unique, epochs = 1e9, np.array([1.0, 2.0, 5.0, 40.0, 4000.0])
    size = np.full(5, 0.5 * optimal_size(np.array([unique]))[0])
    loss = LAWS["muennighoff"](REPEATED, {"params": size, "tokens": epochs * unique, "unique_tokens": [unique] * 5})
    effective = ((loss - E - A / size**alpha) / B) ** (-1 / beta)
    np.testing.assert_allclose(effective, unique * (1 + r_d * (1 - np.exp(-(epochs - 1) / r_d))), rtol=1e-10)
    assert effective[1] == pytest.approx(2 * unique, rel=0.04)
    assert effective[-1] == pytest.approx((1 + r_d) * unique, rel=1e-10)


def test_size_beyond_the_optimum_for_the_unique_tokens_is_worth_less() -> None:
    E, A, B, alpha, beta, _, r_n = REPEATED
    unique = 1e9
    base = optimal_size(np.array([unique]))[0]
    times = np.array([0.5, 1.0, 1.0001, 3.0, 500.0])
    data = {"params": times * base, "tokens": [unique] * 5, "unique_tokens": [unique] * 5}
    loss = LAWS["muennighoff"](REPEATED, data)
    effective = ((loss - E - B / unique**beta) / A) ** (-1 / alpha) / base
    excess = np.maximum(times - 1, 0)
    np.testing.assert_allclose(effective, np.minimum(times, 1) + r_n * (1 - np.exp(-excess / r_n)), rtol=1e-7)


# -- zhang, parallel, vocabulary ---------------------------------------------------------------------------------------
def test_fine_tuning_data_are_worth_more_to_larger_models_by_zhang() -> None:
    theta = (0.9, 400.0, 0.15, 0.2)
    at = {"params": [1e9, 1e10], "finetune_tokens": [1e6, 1e6]}
    more = {"params": [1e9, 1e10], "finetune_tokens": [1e7, 1e7]}
    ratio = (LAWS["zhang"](theta, more) - 0.9) / (LAWS["zhang"](theta, at) - 0.9)
    np.testing.assert_allclose(ratio, 10**-0.2, rtol=1e-12)


def test_one_stream_is_the_power_law() -> None:
    E, A, k, alpha = 1.3, 2e8, 0.35, 0.2
    one = LAWS["parallel"]([E, A, k, alpha], {"params": N, "parallel_size": np.ones(40)})
    np.testing.assert_allclose(one, LAWS["power"]([E, A**alpha, alpha], {"x": N}), rtol=1e-13)


def test_streams_act_as_a_larger_model() -> None:
    E, A, k, alpha = 1.3, 2e8, 0.35, 0.2
    streams = LAWS["parallel"]([E, A, k, alpha], {"params": N, "parallel_size": np.full(40, 8)})
    larger = LAWS["parallel"]([E, A, k, alpha], {"params": N * (k * np.log(8) + 1), "parallel_size": np.ones(40)})
    np.testing.assert_allclose(streams, larger, rtol=1e-13)


def test_a_negative_floor_needs_raw_residuals_and_comes_back() -> None:
    theta = (-5.5, 300.0, 5.0, 1500.0, 0.3, 0.4, 0.35)
    data = {"params": N, "tokens": D, "vocab": np.exp(rng.uniform(np.log(4e3), np.log(1e5), 40))}
    data["loss"] = LAWS["vocabulary"](theta, data)
    with pytest.raises(ValueError, match="--residuals raw"):
        fit_law("vocabulary", data)
    fit = fit_law("vocabulary", data, residuals="raw", objective="squared")
    np.testing.assert_allclose(list(fit.params.values()), theta, rtol=1e-4)


# -- hernandez ---------------------------------------------------------------------------------------------------------
TRANSFER = (0.076, 0.103, 6.4e13, 1.8e13, 1.9e4, 0.18, 0.38)


def test_from_scratch_hernandez_is_kaplan() -> None:
    data = {"params": N, "finetune_tokens": D, "pretrained": np.zeros(40)}
    kaplan = LAWS["kaplan"](TRANSFER[:4], {"params": N, "tokens": D})
    np.testing.assert_allclose(HERNANDEZ(TRANSFER, data), kaplan, rtol=1e-13)


def test_pretraining_is_worth_the_data_transferred() -> None:
    tokens = np.geomspace(1e5, 1e9, 40)
    alpha_d, d_c, k, alpha, beta = TRANSFER[1], TRANSFER[3], *TRANSFER[4:]
    moved = k * tokens**alpha * N**beta
    tuned = HERNANDEZ(TRANSFER, {"params": N, "finetune_tokens": tokens, "pretrained": np.ones(40)})
    scratch = LAWS["kaplan"](TRANSFER[:4], {"params": N, "tokens": tokens + moved})
    np.testing.assert_allclose(tuned, scratch, rtol=1e-13)
    size = (TRANSFER[2] / N) ** (TRANSFER[0] / alpha_d)
    np.testing.assert_allclose(d_c / (tuned ** (1 / alpha_d) - size) - tokens, moved, rtol=1e-6)
    theta = [np.array([t]) for t in TRANSFER]
    x = {"params": N, "finetune_tokens": tokens, "pretrained": np.ones(40)}
    effective, transferred = HERNANDEZ.effective_data(theta, x)
    np.testing.assert_allclose(transferred, moved, rtol=1e-13)
    np.testing.assert_allclose(effective, tokens + moved, rtol=1e-13)


def test_runs_without_the_column_pretrained_are_pretrained() -> None:
    data = {"params": N, "finetune_tokens": D}
    marked = {**data, "pretrained": np.ones(40, dtype=bool)}
    np.testing.assert_array_equal(HERNANDEZ(TRANSFER, data), HERNANDEZ(TRANSFER, marked))


# -- what the runs cannot say ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "theta", "more", "parameter", "reason"),
    [
        ("parallel", (1.3, 2e8, 0.35, 0.2), {"parallel_size": np.ones(40)}, "k", "same number of streams"),
        ("muennighoff", REPEATED, {"tokens": D, "unique_tokens": D}, "R_D", "no run repeats its data"),
        ("hernandez", TRANSFER, {"finetune_tokens": D, "pretrained": np.zeros(40)}, "k", "no run is pretrained"),
    ],
)
def test_runs_that_cannot_determine_a_parameter_are_told_why(
    name: str, theta: tuple[float, ...], more: dict[str, np.ndarray], parameter: str, reason: str
) -> None:
    data = {"params": N, **more}
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(40))
    fit = fit_law(name, {**data, "loss": LAWS[name](theta, data) * noise})
    assert reason in str(fit.identified[parameter])
    assert fit.estimates[parameter].lo is None


def test_two_numbers_of_streams_determine_the_floor() -> None:
    data = {"params": N, "parallel_size": np.resize([1.0, 4.0], 40)}
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(40))
    fit = fit_law("parallel", {**data, "loss": LAWS["parallel"]((1.3, 2e8, 0.35, 0.2), data) * noise})
    assert set(fit.identified.values()) == {None}
    assert known(fit.estimates["k"].lo) < 0.35 < known(fit.estimates["k"].hi)


def test_the_interval_of_a_positive_parameter_is_positive() -> None:
    size, data = np.array([6.7e3, 3.3e4, 1.2e5, 6.7e3, 3.3e4]), np.array([8e5, 8e5, 8e5, 3.2e6, 3.2e6])
    best = np.array([0.039, 0.035, 0.009, 0.019, 0.009])
    fit = fit_law("lr-batch", {"params": size, "tokens": data, "optimum": best}, objective="squared", bootstrap=200)
    assert 0 < known(fit.estimates["c"].lo) < known(fit.estimates["c"].hi)


@pytest.mark.parametrize("name", ["m4", "muennighoff", "gadre", "vocabulary", "zhang", "hernandez", "parallel"])
def test_hostile_tables_end_in_finite_json_without_a_warning(name: str) -> None:
    law, hostile = LAWS[name], np.random.default_rng(len(name))
    data = {column: np.exp(hostile.uniform(5, 30, 9)) for column in law.inputs}
    data[law.inputs[-1]] = np.resize([0.0, 1.0] if name == "hernandez" else [3.0], 9)
    data["loss"] = np.exp(hostile.normal(0, 5, 9))
    fit = fit_law(law, data)
    json.dumps(fit.to_dict(), allow_nan=False)
    assert len(fit.predict(data)) == 9


# -- experts and repetition --------------------------------------------------------------------------------------------
def test_the_published_leverage_gives_the_papers_own_best_granularity_and_gain() -> None:
    granularity = np.linspace(1.5, 40.0, 4000)
    share = 1 / (1 / (0.031 + 0.0163) + 1 / 5.28e16)
    at = {"active_fraction": np.full(4000, share), "flops": np.full(4000, 1e22), "granularity": granularity}
    gain = LAWS["leverage"](LEVERAGED, at)
    assert 8 < granularity[np.argmax(gain)] < 12
    assert 7 < np.interp(12.0, granularity, gain) < 7.5


def test_the_saturating_law_is_hoffmanns_without_repetition_far_below_its_ceiling() -> None:
    E, G, alpha, beta = 1.7, 1e9, 0.34, 0.28
    few = LAWS["saturating"](
        [E, G, 400.0 / G, 410.0 / G, 1e-30, alpha, beta, 0.5, 0.5], {"params": N, "tokens": D, "unique_tokens": D}
    )
    np.testing.assert_allclose(
        few, LAWS["hoffmann"]([E, 400.0, 410.0, alpha, beta], {"params": N, "tokens": D}), rtol=1e-8
    )


def test_the_saturating_law_stays_below_its_ceiling_and_rises_with_size_over_few_unique_tokens() -> None:
    sizes = np.geomspace(1e6, 1e12, 50)
    at = {"params": sizes, "tokens": np.full(50, 1e11), "unique_tokens": np.full(50, 1e6)}
    loss = LAWS["saturating"]([1.7, 8.0, 60.0, 60.0, 0.01, 0.34, 0.28, 0.9, 0.8], at)
    assert (loss < 1.7 + 8.0).all()
    assert loss[-1] > loss.min() + 1
    assert loss[0] > loss.min()
