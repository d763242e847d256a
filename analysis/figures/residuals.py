"""Residuals: of a study's runs against size, data and compute, and of one fit.

It draws what it is given, and fits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from analysis.arrays import Array
from analysis.figures.drawing.axes import TickKind, axes_or_new, log_axis, log_limits, panels, percent_axis
from analysis.figures.drawing.marks import DOTTED, run_marks
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.fitting.fit import Fit
from analysis.runs.columns import as_columns
from analysis.study.study import Study
from analysis.uncertainty.quantiles import normal_quantile

Against = Literal["params", "tokens", "flops"]
"""What is on the x-axis."""
AXES: dict[Against, tuple[str, TickKind]] = {
    "params": ("N, parameters", "size"),
    "tokens": ("D, tokens", "size"),
    "flops": ("C, FLOPs", "flops"),
}
"""Label and ticks of each x-axis."""


class _Scale(NamedTuple):
    """Per cent of the loss."""

    residuals: Array
    """Of the rows that are shown, shape (n,)."""
    band: float
    """Two standard deviations of the fit."""
    seeds: float | None
    """Two standard deviations between seeds; None when they are not drawn."""
    reach: float
    """Half-height of the axes."""


def draw_residuals(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_run_residuals` against N, D and C, on one scale."""
    axes = panels(figure, (1, 1, 1), gap=0.3, left=0.7)
    for ax, name in zip(axes, AXES, strict=True):
        plot_run_residuals(study, name, ax=ax, theme=theme)
        if ax is not axes[0]:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
    axes[0].set_title("Residuals of the law")
    axes[1].set_title("shaded: 2 sd of the fit", fontweight="normal", fontsize=8)
    if _scale_of(study).seeds is not None:
        axes[2].set_title("dotted: 2 sd between seeds", fontweight="normal", fontsize=8)


def plot_run_residuals(
    study: Study, against: Against = "flops", *, ax: Axes | None = None, theme: Theme = LIGHT
) -> Axes:
    """Draw measured over predicted loss, less one, of every run.

    The band is two standard deviations of the fit; dotted lines, where they are near enough, are two standard
    deviations between seeds.

    Parameters
    ----------
    study : Study
        What is shown.
    against : "params", "tokens" or "flops"
        The x-axis.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on.
    """
    ax = axes_or_new(ax)
    label, kind = AXES[against]
    shown, scale = study.shown, _scale_of(study)
    ax.axhspan(-scale.band, scale.band, color=theme.second, alpha=0.12, linewidth=0)
    ax.axhline(0, color=theme.muted, linewidth=0.8)
    if scale.seeds is not None:
        for end in (-scale.seeds, scale.seeds):
            ax.axhline(end, color=theme.muted, linewidth=0.9, linestyle=DOTTED)
    for x, y, marker in zip(shown[against], scale.residuals, run_marks(study, shown, theme), strict=True):
        ax.plot(x, y, markersize=4.4, zorder=3, **marker)
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(shown[against].to_numpy(), pad=0.08))
    ax.set_ylim(-scale.reach, scale.reach)
    log_axis(ax, "x", label, kind=kind, target=4)
    percent_axis(ax.yaxis, target=7)
    ax.set_ylabel("measured over predicted, less 1")
    return ax


def plot_residuals(
    fit: Fit,
    *,
    ax: Axes | None = None,
    data: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    against: str | None = None,
) -> Axes:
    """Draw the residuals of some runs, with two residual scales dashed.

    Parameters
    ----------
    fit : Fit
        What is shown.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    data : mapping or DataFrame, optional
        The law's inputs and its target. Without it, the sorted residuals that the fit kept are drawn against the
        quantiles of a normal distribution.
    against : str, optional
        The column on the x-axis; flops by default where it is there, else the law's first input.

    Returns
    -------
    Axes
        What was drawn on.
    """
    ax = axes_or_new(ax)
    target = fit.law.target
    if data is None:
        kept = fit.predictor.residuals
        normal = [normal_quantile((i + 0.5) / kept.size) for i in range(kept.size)]
        ax.plot(normal, kept, "o", ms=3)
        ax.axline((0.0, 0.0), slope=fit.residual_scale, color="0.5", lw=1)
        ax.set_xlabel("normal quantile")
    else:
        predicted = fit.predict(data, interval="none")[target].to_numpy()
        measured = np.asarray(data[target], dtype=float)
        residuals = np.log(measured / predicted) if fit.predictor.log_residuals else measured - predicted
        name = against or ("flops" if "flops" in data else fit.law.inputs[0])
        ax.semilogx(np.asarray(data[name], dtype=float), residuals, "o", ms=3)
        ax.axhline(0.0, color="0.5", lw=1)
        for side in (-2, 2):
            ax.axhline(side * fit.residual_scale, color="0.5", lw=1, ls="--")
        ax.set_xlabel(name)
    ax.set_ylabel(f"residual of {f'log {target}' if fit.predictor.log_residuals else target}")
    return ax


def _scale_of(study: Study) -> _Scale:
    """What the three panels share; seeds are shown where they do not make the residuals small."""
    fit, shown = study.comparison.fit, study.shown
    predicted = fit.predict(as_columns(shown, fit.law.inputs), interval="none")["loss"].to_numpy()
    residuals = 100 * (shown["loss"].to_numpy(dtype=float) / predicted - 1)
    band = 200 * fit.residual_scale
    seeds = 0.0 if study.noise_floor is None else 200 * study.noise_floor.value
    largest = max(float(np.abs(residuals).max()), band, 1e-9)
    reach = 1.18 * max(largest, seeds if seeds < 2 * largest else 0.0)
    return _Scale(residuals, band, seeds if 0 < seeds < reach else None, reach)
