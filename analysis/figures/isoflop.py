"""IsoFLOP curves: loss by size at each compute budget, and the figure that opens a report.

It draws what a study holds, and finds no minimum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.arrays import Array
from analysis.figures.drawing.axes import EndLabel, axes_or_new, label_ends, log_axis, log_limits, panels
from analysis.figures.drawing.marks import draw_budget_bar, mark, run_marks
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.figures.frontier import plot_frontier
from analysis.formatting import format_compute
from analysis.study.study import Study

MAX_LABELS = 10
"""With more budgets than this, a bar of their colours stands in place of labels at the curves' ends."""
BAR_GAP = 1.35
"""Inches between the panels where the first one has a bar of colours."""
GRID = 80
"""Points of a curve."""
MIN_BAND = 20
"""Fewest draws, and the curve itself, that make a band."""


def draw_isoflop(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with the IsoFLOP curves, N_opt by compute and D_opt by compute."""
    gap = BAR_GAP if len(study.budgets) > MAX_LABELS else 0.98
    left, middle, right = panels(figure, (1.25, 1, 1), right=0.85, gap=gap, bottom=1.0)
    plot_isoflop(study, ax=left, theme=theme)
    plot_frontier(study, "params", ax=middle, theme=theme)
    plot_frontier(study, "tokens", ax=right, theme=theme)


def plot_isoflop(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw loss by size for every budget: runs, curve with band, and minimum with its interval in N.

    Parameters
    ----------
    study : Study
        What is shown.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on. Curves of held-out budgets are dashed, and their minima hollow.
    """
    ax = axes_or_new(ax)
    frame = study.shown
    colours = theme.budget_colours(len(study.budgets))
    curves = isoflop_curves(study)
    ends: list[EndLabel] = []
    for index, budget in enumerate(study.budgets):
        rows = frame[frame["budget_group"].map(study.colour_index) == index]
        if rows.empty:
            continue
        colour = colours[index]
        for size, loss, marker in zip(rows["params"], rows["loss"], run_marks(study, rows, theme), strict=True):
            ax.plot(size, loss, markersize=4.2, zorder=3, **marker)
        if index in curves:
            held = bool((rows["role_shown"] == "heldout").all())
            _draw_curve(ax, curves[index], colour, dashed=held)
        if len(study.budgets) <= MAX_LABELS:
            largest = rows.iloc[int(rows["params"].to_numpy().argmax())]
            ends.append(EndLabel(float(largest["params"]), float(largest["loss"]), format_compute(budget), colour))
    for point, held in study.minima():
        _draw_minimum(ax, point, theme, held=held)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*log_limits(frame["params"].to_numpy(), right=0.22 if ends else 0.0))
    ax.set_ylim(*log_limits(frame["loss"].to_numpy()))
    log_axis(ax, "x", "N, parameters", kind="size", target=4)
    log_axis(ax, "y", f"validation loss, {study.loss_unit}", kind="number", target=6)
    ax.set_title("IsoFLOP curves, C at their ends" if ends else "IsoFLOP curves by C")
    label_ends(ax, ends)
    if not ends:
        draw_budget_bar(ax, study.budgets, colours, theme)
    return ax


class DrawnCurve(NamedTuple):
    """The curve of one budget, with its band."""

    params: Array
    """N, shape (GRID,)."""
    loss: Array
    """Loss there."""
    band: tuple[Array, Array] | None
    """Lower and upper end of the interval there; None without draws."""


def isoflop_curves(study: Study) -> dict[int, DrawnCurve]:
    """Curves by the colour index of their budget, those of held-out budgets too."""
    fit, level = study.isoflop_all, study.choices.level
    out: dict[int, DrawnCurve] = {}
    for place, runs in enumerate(fit.budgets if fit is not None else ()):
        assert fit is not None
        grid = np.linspace(runs.x[0], runs.x[-1], GRID)
        values = fit.losses_at(place, grid)
        band = None
        if len(values) > MIN_BAND:
            low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
            band = (low, high)
        out[study.colour_index(runs.flops)] = DrawnCurve(np.exp(grid), values[0], band)
    return out


def _draw_curve(ax: Axes, curve: DrawnCurve, colour: str, *, dashed: bool) -> None:
    ax.plot(curve.params, curve.loss, color=colour, linestyle="--" if dashed else "-", zorder=2)
    if curve.band is not None:
        ax.fill_between(curve.params, *curve.band, color=colour, alpha=0.18, linewidth=0, zorder=1)


def _draw_minimum(ax: Axes, point: pd.Series, theme: Theme, *, held: bool) -> None:
    """A diamond at the minimum of a budget with its interval in N, hollow when it is held out."""
    if not bool(point["bracketed"]):
        return
    if math.isfinite(point["params_lo"]):
        ends = [point["params_lo"], point["params_hi"]]
        ax.plot(ends, [point["loss"]] * 2, color=theme.ink, linewidth=1.1, zorder=4)
    diamond = mark("D", theme.ink, paper=theme.paper, flagged=held, edge=1.0)
    ax.plot(point["params"], point["loss"], markersize=4.6, zorder=5, **diamond)
