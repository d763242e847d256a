"""Errors from losses: the laws, and the chain from size to loss to error with its intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.figures.fit import plot_fit
from analysis.fitting.downstream import predict_error
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.laws.registry import LAWS
from analysis.solver.problem import Residuals
from benchmarks.chained import study

LOSS = np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658])
ERROR = {"downstream-exponential": (0.85, 2.08, 0.756), "downstream-sigmoid": (0.15, 0.6, 3.0, 2.6)}
AT = {"params": np.array([2e10, 5e10]), "tokens": np.array([4e11, 1e12])}


def runs(law: str = "downstream-exponential", loss_noise: float = 0.01, error_noise: float = 0.004) -> pd.DataFrame:
    """Sixty runs with losses, and errors at the losses that they reached."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(4e7, 1e10, 12), 5)
    frame = pd.DataFrame({"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), 12)})
    loss = LAWS["hoffmann"](LOSS, frame) * np.exp(loss_noise * rng.standard_normal(60))
    error = LAWS[law](ERROR[law], {"loss": loss}) + error_noise * rng.standard_normal(60)
    return frame.assign(loss=loss, error=error)


def fits(frame: pd.DataFrame, law: str = "downstream-exponential", bootstrap: int = 100) -> tuple[Fit, Fit]:
    """Both fits."""
    return fit_law("hoffmann", frame, bootstrap=bootstrap), fit_law(law, frame, residuals="raw", bootstrap=bootstrap)


@pytest.mark.parametrize("law", list(ERROR))
@pytest.mark.parametrize("residuals", ["log", "raw"])
def test_errors_are_recovered_without_noise(law: str, residuals: Residuals) -> None:
    frame = runs(law, 0.0, 0.0)
    fit = fit_law(law, frame, residuals=residuals)
    np.testing.assert_allclose(fit.predict(frame, interval="none")["error"], frame["error"], rtol=1e-8)
    np.testing.assert_allclose(list(fit.params.values()), ERROR[law], rtol=1e-4)


@pytest.mark.parametrize("law", list(ERROR))
def test_a_loss_in_bits_gives_the_same_errors(law: str) -> None:
    frame = runs(law)
    bits = frame.assign(loss=frame["loss"] / np.log(2))
    here, there = (fit_law(law, f, residuals="raw", objective="squared") for f in (frame, bits))
    assert there.objective == pytest.approx(here.objective, rel=1e-7)
    np.testing.assert_allclose(there.predict(bits)["error"], here.predict(frame)["error"], rtol=1e-6)


def test_published_errors_of_gadre_et_al_are_those_of_least_squares() -> None:
    from scipy.optimize import curve_fit

    frame = runs()
    fit = fit_law("downstream-exponential", frame, residuals="raw", objective="squared")
    theirs, _ = curve_fit(
        lambda x, eps, k, g: eps - k * np.exp(-g * x), frame["loss"], frame["error"], p0=(0.8, 2, 0.7), xtol=1e-14
    )
    np.testing.assert_allclose(list(fit.params.values()), theirs, rtol=1e-5)


@pytest.mark.parametrize("bootstrap", [0, 100])
def test_the_chain_goes_through_both_laws_and_its_intervals_nest(bootstrap: int) -> None:
    fit, error_fit = fits(runs(), bootstrap=bootstrap)
    band = predict_error(fit, error_fit, AT)
    straight = error_fit.predict({"loss": fit.predict(AT, interval="none")["loss"]}, interval="none")
    np.testing.assert_allclose(band["error"], straight["error"])
    assert (band["prediction_lo"] < band["confidence_lo"]).all()
    assert (band["confidence_lo"] < band["error"]).all()
    assert (band["error"] < band["confidence_hi"]).all()
    assert (band["confidence_hi"] < band["prediction_hi"]).all()
    truth = LAWS["downstream-exponential"](ERROR["downstream-exponential"], {"loss": LAWS["hoffmann"](LOSS, AT)})
    assert ((band["prediction_lo"] < truth) & (truth < band["prediction_hi"])).all()


def test_the_chain_carries_the_uncertainty_of_each_fit() -> None:
    fit, error_fit = fits(runs(), bootstrap=400)
    sure_loss, sure_error = fits(runs(loss_noise=1e-6, error_noise=1e-6), bootstrap=400)
    bands = (
        predict_error(a, b, AT)
        for a, b in ((fit, error_fit), (fit, sure_error), (sure_loss, error_fit), (sure_loss, sure_error))
    )
    both, first, second, none = ((band["confidence_hi"] - band["confidence_lo"]).to_numpy() for band in bands)
    np.testing.assert_allclose(both, np.hypot(first, second), rtol=0.15)
    assert (none < 0.01 * both).all()
    alone = error_fit.predict({"loss": sure_loss.predict(AT, interval="none")["loss"]})
    np.testing.assert_allclose(second, alone["confidence_hi"] - alone["confidence_lo"], rtol=0.1)


def test_the_same_seed_gives_the_same_chain() -> None:
    fit, error_fit = fits(runs(), bootstrap=40)
    one, same, other = (predict_error(fit, error_fit, AT, rng=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    np.testing.assert_allclose(one, other, rtol=0.05)


def test_fits_that_do_not_follow_on_each_other_are_refused() -> None:
    frame = runs()
    fit, error_fit = fits(frame, bootstrap=0)
    with pytest.raises(ValueError, match="chain a law of loss with a law of error"):
        predict_error(error_fit, fit, AT)
    with pytest.raises(ValueError, match="same --level"):
        predict_error(fit, fit_law("downstream-exponential", frame, level=0.9), AT)
    few = fit_law("downstream-exponential", frame.iloc[:3], residuals="raw")
    band = predict_error(fit, few, AT)
    assert np.isfinite(band["error"]).all()
    assert band[["confidence_lo", "prediction_hi"]].isna().all().all()


def test_intervals_of_the_chain_cover() -> None:
    studies = [study(seed, FitSpec(bootstrap=100)) for seed in range(1000, 1016)]
    assert np.mean([s[0] for s in studies]) > 0.85
    assert 0.86 < np.mean([s[1] for s in studies]) < 1.0


def test_the_record_of_coverage_is_within_two_points_of_nominal() -> None:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "chained.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for setting in record["settings"].values():
        assert setting["studies"] >= 500
        for kind in ("confidence", "prediction"):
            assert 0.93 <= setting[kind] <= 0.97


def test_the_shell_adds_the_error_beside_the_loss(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table, loss, error = (str(tmp_path / name) for name in ("runs.csv", "loss.json", "error.json"))
    runs().rename(columns={"error": "err_avg"}).to_csv(table)
    assert main(["fit", table, "--law", "hoffmann", "--bootstrap", "40", "--out", loss]) == 0
    names = ["--columns", "error=err_avg", "--residuals", "raw", "--bootstrap", "40"]
    assert main(["fit", table, "--law", "downstream-exponential", *names, "--out", error]) == 0
    capsys.readouterr()
    point = "params=7e10,tokens=1.4e12"
    assert main(["predict", loss, "--downstream", error, "--at", point, "--json"]) == 0
    text, notes = capsys.readouterr()
    row = json.loads(text)
    assert set(row) == {"loss", "confidence", "prediction", "extrapolates", "reason", "downstream"}
    below = row["downstream"]
    assert set(below) == {"error", "confidence", "prediction"}
    assert below["prediction"][0] < below["confidence"][0] < below["error"]
    assert "their errors are extrapolated" in notes
    assert main(["predict", loss, "--downstream", error, "--at", point]) == 0
    assert "\n  error " in capsys.readouterr().out
    assert main(["predict", loss, "--downstream", error, "--table", table, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 60
    assert all("downstream" in row for row in rows)
    assert main(["predict", error, "--downstream", loss, "--at", "loss=2.5"]) == 2
    assert "chain a law of loss" in capsys.readouterr().err


def test_figures_of_a_fit_are_drawn_for_errors_too() -> None:
    frame = runs()
    fit = fit_law("downstream-sigmoid", frame, residuals="raw")
    ax = plot_fit(fit, kind="bands")
    assert ax.get_ylabel() == "error"
    assert plot_fit(fit, kind="residuals", data=frame).get_ylabel() == "residual of error"
