"""The law of loss about the best rate and batch: what it is at its optimum, and what it finds in runs that missed
it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.arrays import Array
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import get_law

TRUTH = (1.7, 400.0, 2000.0, 0.35, 0.37, 0.02, 0.01, 1.79, -0.713, 0.307, 0.58, 0.571, 0.3)
"""E to r: Hoffmann's law with Step Law's optima."""


def untuned(num: int = 120, noise: float = 0.001) -> dict[str, Array]:
    """Runs whose rates and batches lie within a factor of four of their optima."""
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(5e7), np.log(2e9), num))
    tokens = params * np.exp(rng.uniform(np.log(5), np.log(100), num))
    batch = 0.58 * tokens**0.571 * np.exp(rng.uniform(-1.4, 1.4, num))
    rate = 1.79 * params**-0.713 * tokens**0.307 * np.exp(rng.uniform(-1.4, 1.4, num))
    data = {"params": params, "tokens": tokens, "lr": rate, "batch": batch}
    return data | {"loss": get_law("rate-batch")(TRUTH, data) * np.exp(noise * rng.standard_normal(num))}


def test_at_its_optimum_it_is_hoffmanns_law() -> None:
    data = {"params": np.array([1e8, 1e9]), "tokens": np.array([4e9, 2e10])}
    batch = 0.58 * data["tokens"] ** 0.571
    rate = 1.79 * data["params"] ** -0.713 * data["tokens"] ** 0.307
    tuned = get_law("rate-batch")(TRUTH, data | {"batch": batch, "lr": rate})
    np.testing.assert_allclose(tuned, get_law("hoffmann")(TRUTH[:5], data), rtol=1e-12)
    for factor in (0.5, 2.0):
        assert (get_law("rate-batch")(TRUTH, data | {"batch": batch, "lr": factor * rate}) > tuned).all()
        assert (get_law("rate-batch")(TRUTH, data | {"batch": factor * batch, "lr": rate}) > tuned).all()


def test_it_finds_the_optimum_of_runs_that_were_not_tuned() -> None:
    fit = fit_law("rate-batch", untuned(), bootstrap=0)
    assert all(reason is None for reason in fit.identified.values())
    for name, truth in zip(fit.law.param_names, TRUTH, strict=True):
        estimate = fit.estimates[name]
        assert estimate.se is not None
        assert abs(estimate.value - truth) < 4 * estimate.se


def test_it_does_not_depend_on_units() -> None:
    data = untuned()
    plain = fit_law("rate-batch", data, bootstrap=0)
    other = fit_law(
        "rate-batch",
        data | {"lr": 1e3 * data["lr"], "batch": data["batch"] / 2048, "tokens": data["tokens"] / 1e9},
        bootstrap=0,
    )
    assert other.objective == pytest.approx(plain.objective, rel=1e-6)
    for name in ("alpha", "a", "b", "e", "r", "h", "g"):
        assert other.params[name] == pytest.approx(plain.params[name], rel=1e-3)


def test_published_runs_over_rate_and_batch(published_data: Path) -> None:
    """The optima move as Li et al. 2025 say: lr with params**-.713 tokens**.307, batch with tokens**.571. Larger
    models, held out, are predicted."""
    frame = pd.read_csv(published_data / "scalebench" / "lr_bsz_train.csv")
    theirs = {"non_embedding_param_size": "params", "data_size": "tokens", "bsz": "batch", "lm_loss": "loss"}
    frame = frame.rename(columns=theirs)
    held = frame["params"] > 1e9
    fit = fit_law("rate-batch", frame[~held], bootstrap=0)
    assert fit.params["e"] == pytest.approx(0.571, abs=0.05)
    assert fit.params["b"] == pytest.approx(0.307, abs=0.1)
    assert -0.8 < fit.params["a"] < -0.4
    predicted = fit.predict(frame[held], interval="none")["loss"].to_numpy()
    assert np.median(np.abs(predicted / frame.loc[held, "loss"].to_numpy() - 1)) < 0.02
