"""Figures of one fit: residuals, bands and profiles, each `f(fit, *, ax=None) -> Axes`; nothing is shown and no state
is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import UserError
from analysis.uncertainty.quantiles import normal_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.fitting.fit import Fit
    from analysis.uncertainty.profile import Profile

KINDS = ("residuals", "bands", "profile")


def plot_fit(fit: Fit, *, ax: Axes | None = None, kind: str = "residuals", **options: Any) -> Axes:
    """Draw one of KINDS; see `plot_residuals`, `plot_bands` and `plot_profile` for their options."""
    if kind not in KINDS:
        raise UserError(f"there is no figure {kind!r} of a fit; there are {', '.join(KINDS)}")
    if kind == "residuals":
        return plot_residuals(fit, ax=ax, **options)
    return plot_bands(fit, ax=ax, **options) if kind == "bands" else plot_profile(fit, ax=ax, **options)


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def plot_residuals(fit: Fit, *, ax: Axes | None = None, data: Any = None, against: str | None = None) -> Axes:
    """Residuals of `data` against an input (flops where it is there), with two residual scales dashed.

    Without `data` the sorted residuals that the fit kept are drawn against normal quantiles.
    """
    ax = _axes(ax)
    target = fit.law.target
    unit = f"log {target}" if fit.predictor.log_residuals else target
    if data is None:
        kept = fit.predictor.residuals
        normal = [normal_quantile((i + 0.5) / kept.size) for i in range(kept.size)]
        ax.plot(normal, kept, "o", ms=3)
        ax.axline((0.0, 0.0), slope=fit.residual_scale, color="0.5", lw=1)
        ax.set_xlabel("normal quantile")
    else:
        predicted = fit.predict(data, interval="none")[target].to_numpy()
        measured = np.asarray(data[target], dtype=float)
        rest = np.log(measured / predicted) if fit.predictor.log_residuals else measured - predicted
        name = against or ("flops" if "flops" in data else fit.law.inputs[0])
        ax.semilogx(np.asarray(data[name], dtype=float), rest, "o", ms=3)
        ax.axhline(0.0, color="0.5", lw=1)
        for side in (-2, 2):
            ax.axhline(side * fit.residual_scale, color="0.5", lw=1, ls="--")
        ax.set_xlabel(name)
    ax.set_ylabel(f"residual of {unit}")
    return ax


def plot_bands(fit: Fit, *, ax: Axes | None = None, along: str | None = None, at: Any = None, span: Any = None) -> Axes:
    """Predicted loss (or other target) along one input with its confidence band and prediction interval.

    Parameters
    ----------
    along : input on the x-axis; the law's first by default
    at : values of the other inputs; the middle of the data by default
    span : (low, high) of `along`; a factor of 100 on each side of the middle by default
    """
    if not fit.law.row_by_row:
        raise UserError(
            f"{fit.law.name} predicts along a schedule, not along one input; plot fit.predict(rows) by step"
        )
    ax = _axes(ax)
    middle = dict(zip(fit.law.inputs, np.exp(fit.predictor.log_refs), strict=True))
    name = along or fit.law.inputs[0]
    low, high = span or (middle[name] / 100, middle[name] * 100)
    x = np.geomspace(low, high, 120)
    grid = {**{k: np.full(x.size, float(v)) for k, v in {**middle, **(at or {})}.items()}, name: x}
    band = fit.predict(grid)
    ax.fill_between(x, band["prediction_lo"], band["prediction_hi"], alpha=0.15, lw=0, label="one run")
    ax.fill_between(x, band["confidence_lo"], band["confidence_hi"], alpha=0.35, lw=0, label="law")
    ax.plot(x, band[fit.law.target], lw=1.5)
    ax.set_xscale("log")
    ax.set_xlabel(name)
    ax.set_ylabel(fit.law.target)
    ax.legend(frameon=False)
    return ax


def plot_profile(fit: Fit, *, ax: Axes | None = None, profile: Profile | None = None) -> Axes:
    """The rise of the scaled objective along one parameter, the cutoff, and the interval; `profile` from
    `profile_law`."""
    if profile is None:
        raise UserError("a profile figure needs profile=profile_law(law, data, name=...)")
    ax = _axes(ax)
    ax.plot(profile.public, profile.rise, "o-", ms=3, lw=1)
    ax.axhline(profile.cutoff, color="0.5", lw=1, ls="--")
    for end in (profile.lo, profile.hi):
        if end is not None:
            ax.axvline(end, color="0.5", lw=1)
    ax.set_ylim(0.0, 3 * profile.cutoff)
    ax.set_xlabel(profile.name)
    ax.set_ylabel(f"rise of the objective ({fit.law.name})")
    return ax
