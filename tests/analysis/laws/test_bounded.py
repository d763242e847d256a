"""The bounded law: at zero, at its ends, and fitted to curves with a row of zero examples."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import UserError
from analysis.fitting.fit_law import fit_law
from analysis.laws.registry import LAWS
from tests.known import known

TRUTH = {"E": 0.8, "I": 4.6, "m": 6e4, "b": 0.5}
EXAMPLES = np.array([0.0, *(200.0 * 2.0 ** np.arange(14))])


def test_the_loss_starts_at_the_ceiling_and_is_halfway_at_the_scale() -> None:
    loss = LAWS["bounded"](TRUTH, {"x": np.array([0.0, 6e4, 1e300])})
    np.testing.assert_allclose(loss, [4.6, 2.7, 0.8], rtol=1e-12)


def test_without_examples_the_loss_depends_on_the_size_alone() -> None:
    theta = {"E": 0.8, "I": 4.6, "n": 2e9, "a": 0.4, "m": 6e4, "b": 0.5}
    loss = LAWS["bounded-size"](theta, {"params": np.array([2e9, 2e9]), "x": np.array([0.0, 6e4])})
    np.testing.assert_allclose(loss, [2.7, 0.8 + 3.8 / 3], rtol=1e-12)


def test_a_curve_with_a_row_of_no_examples_is_recovered_in_any_unit() -> None:
    loss = LAWS["bounded"](TRUTH, {"x": EXAMPLES})
    fit = fit_law("bounded", {"x": EXAMPLES, "loss": loss}, objective="squared")
    assert fit.params == pytest.approx(TRUTH, rel=1e-5)
    other = fit_law("bounded", {"x": EXAMPLES / 1e3, "loss": loss}, objective="squared")
    assert other.params["m"] == pytest.approx(60.0, rel=1e-5)
    np.testing.assert_allclose(fit.predict({"x": EXAMPLES})["loss"], loss, rtol=1e-6)


def test_every_end_has_an_interval_or_says_that_it_is_not_identified() -> None:
    noise = np.exp(0.005 * np.random.default_rng(1).standard_normal(EXAMPLES.size))
    loss = LAWS["bounded"](TRUTH, {"x": EXAMPLES}) * noise
    for rows in (slice(None), slice(0, 8), slice(8, None)):
        fit = fit_law("bounded", {"x": EXAMPLES[rows], "loss": loss[rows]}, objective="squared", bootstrap=50)
        for name in "EI":
            estimate = fit.estimates[name]
            assert estimate.reason is not None or known(estimate.lo) <= estimate.value <= known(estimate.hi)


def test_inputs_below_zero_or_zero_everywhere_are_refused() -> None:
    loss = np.linspace(4.0, 2.0, 6)
    with pytest.raises(UserError, match="x is negative in row 2"):
        fit_law("bounded", {"x": [0.0, -1.0, 2.0, 3.0, 4.0, 5.0], "loss": loss})
    with pytest.raises(UserError, match="x is zero in every row"):
        fit_law("bounded", {"x": np.zeros(6), "loss": loss})
    with pytest.raises(UserError, match="x is not positive in row 1"):
        fit_law("power", {"x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "loss": loss})
