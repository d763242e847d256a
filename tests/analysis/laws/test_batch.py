"""Laws of best rates and batches: what they say, and fits whose target is no loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS

STEP_LAW = {"lr": (1.79, -0.713, 0.307), "batch": (0.58, 0.0, 0.571)}
"""Li et al. 2025, arXiv 2503.04715: c, and the powers of N and D."""


def optima(theta: tuple[float, ...], noise: float = 0.02) -> pd.DataFrame:
    """Best rates or batches of a grid of sizes and data."""
    params = np.repeat(np.geomspace(6e7, 1e9, 6), 6)
    tokens = np.tile(np.geomspace(2e9, 1e11, 6), 6)
    best = LAWS["lr-batch"](theta, {"params": params, "tokens": tokens})
    scatter = np.exp(noise * np.random.default_rng(0).standard_normal(36))
    return pd.DataFrame({"params": params, "tokens": tokens, "optimum": best * scatter})


@pytest.mark.parametrize("which", list(STEP_LAW))
def test_published_powers_come_back_within_their_intervals(which: str) -> None:
    fit = fit_law("lr-batch", optima(STEP_LAW[which]), objective="squared")
    for name, value in zip(("c", "a", "b"), STEP_LAW[which], strict=True):
        assert fit.estimates[name].covers(value)
        assert fit.identified[name] is None
    assert fit.frontier_estimates is None


def test_least_squares_in_logarithms_is_linear_regression() -> None:
    frame = optima(STEP_LAW["lr"], noise=0.1)
    fit = fit_law("lr-batch", frame, objective="squared")
    columns = np.column_stack([np.ones(36), np.log(frame["params"]), np.log(frame["tokens"])])
    c, a, b = np.linalg.lstsq(columns, np.log(frame["optimum"]), rcond=None)[0]
    np.testing.assert_allclose([np.log(fit.params["c"]), fit.params["a"], fit.params["b"]], [c, a, b], rtol=1e-7)


def test_predictions_are_named_after_the_target() -> None:
    fit = fit_law("lr-batch", optima(STEP_LAW["lr"]))
    band = fit.predict({"params": [7e9], "tokens": [1.4e12]})
    assert band.columns[0] == "optimum"
    assert band["prediction_lo"][0] < band["optimum"][0] < band["prediction_hi"][0]


def test_steps_and_data_trade_off_as_mccandlish_et_al_say() -> None:
    S_min, B_crit = 2500.0, 3e5
    batch = np.geomspace(1e3, 1e8, 30)
    steps = LAWS["batch-tradeoff"]([S_min, B_crit], {"batch": batch})
    data = steps * batch
    np.testing.assert_allclose((steps / S_min - 1) * (data / (S_min * B_crit) - 1), 1.0, rtol=1e-9)


def test_steps_of_several_batches_give_the_critical_batch() -> None:
    batch = np.tile(np.geomspace(2e4, 4e6, 8), 3)
    steps = LAWS["batch-tradeoff"]([2500.0, 3e5], {"batch": batch})
    steps *= np.exp(0.01 * np.random.default_rng(1).standard_normal(24))
    fit = fit_law("batch-tradeoff", {"batch": batch, "steps": steps}, objective="squared")
    assert fit.estimates["B_crit"].covers(3e5)
    assert fit.bse["B_crit"] < 2e4


def test_kaplans_critical_batch_doubles_as_loss_falls_by_an_eighth() -> None:
    law = LAWS["critical-batch"]
    at = law([2e8, 0.21], {"loss": [3.0, 3.0 * (1 - 0.135), 1.0]})
    assert at[1] / at[0] == pytest.approx(2.0, rel=0.01)
    assert at[2] == pytest.approx(2e8)


def test_the_shell_fits_an_optimum_and_says_what_is_fitted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table, out = tmp_path / "best.csv", tmp_path / "fit.json"
    frame = optima(STEP_LAW["lr"])
    frame.rename(columns={"params": "N", "tokens": "D", "optimum": "best_lr"}).to_csv(table)
    names = ["--columns", "params=N,tokens=D,optimum=best_lr", "--bootstrap", "40"]
    assert main(["fit", str(table), "--law", "lr-batch", *names, "--out", str(out), "--json"]) == 0
    fit = json.loads(capsys.readouterr().out)
    assert fit["frontier"] is None
    assert fit["params"]["a"]["lo"] < -0.713 < fit["params"]["a"]["hi"]
    assert main(["predict", str(out), "--at", "params=7e9,tokens=1.4e12", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"optimum", "confidence", "prediction", "extrapolates", "reason"}
    assert main(["laws", "lr-batch"]) == 0
    assert "fitted column: optimum" in capsys.readouterr().out
    assert main(["laws", "--json"]) == 0
    targets = {law["law"]: law["target"] for law in json.loads(capsys.readouterr().out)["laws"]}
    assert targets["critical-batch"] == "batch"
    assert targets["hoffmann"] == "loss"
    assert main(["fit", str(table), "--law", "lr-batch", "--columns", "params=N,tokens=D"]) == 2
    assert "no column 'optimum'" in capsys.readouterr().err
    assert main(["fit", str(table), "--law", "lr-batch", *names, "--drop-largest-losses", "1"]) == 2
    assert "--drop-largest-losses needs a column loss" in capsys.readouterr().err
