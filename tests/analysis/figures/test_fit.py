"""Figures of a fit draw on the axes they are given and keep no state."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.figures.fit import plot_fit
from analysis.fitting.fit_law import fit_law, profile_law
from analysis.laws.registry import LAWS


def test_each_figure_draws_what_the_fit_says() -> None:
    params = np.repeat(np.geomspace(4e7, 1e10, 8), 5)
    data = {"params": params, "tokens": params * np.tile(np.geomspace(2.5, 160, 5), 8)}
    noise = 0.005 * np.random.default_rng(0).standard_normal(40)
    data["loss"] = LAWS["hoffmann"]([1.8, 480.0, 2000.0, 0.35, 0.37], data) * np.exp(noise)
    fit = fit_law("hoffmann", data, bootstrap=40)
    axes = plot_fit(fit)
    assert "quantile" in axes.get_xlabel()
    assert plot_fit(fit, ax=axes, kind="residuals", data=data) is axes
    drawn = np.asarray(axes.lines[-4].get_ydata(), dtype=np.float64)
    predicted = fit.predict(data, interval="none")["loss"].to_numpy()
    np.testing.assert_allclose(drawn, np.log(data["loss"] / predicted))
    bands = plot_fit(fit, kind="bands", along="tokens", at={"params": 1e9}, span=(1e9, 1e12))
    assert bands.get_xscale() == "log"
    assert len(bands.collections) == 2
    profile = profile_law("hoffmann", data, name="beta")
    figure = plot_fit(fit, kind="profile", profile=profile)
    assert figure.get_xlabel() == "beta"
    with pytest.raises(ValueError, match="profile=profile_law"):
        plot_fit(fit, kind="profile")
    with pytest.raises(ValueError, match="no figure 'pie'"):
        plot_fit(fit, kind="pie")  # type: ignore[arg-type]  # refused on purpose
