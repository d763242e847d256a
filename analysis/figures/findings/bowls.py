"""Loss by peak learning rate, a bowl for each cell, a panel for each arm. It fits nothing."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.drawing.axes import axes_or_new, log_axis, log_limits, panels, percent_axis
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_size

TOP = 12.0
"""Per cent above the least loss at which the panels end."""


def draw_bowls(runs: pd.DataFrame, cells: pd.DataFrame, figure: Figure, theme: Theme) -> None:
    """Fill a figure with one panel for each arm.

    Parameters
    ----------
    runs : DataFrame
        arm, params, tokens, lr, loss.
    cells : DataFrame
        arm, params, tokens, rate.
    figure : Figure
        Which is filled.
    theme : Theme
        Colours.
    """
    arms = list(dict.fromkeys(runs["arm"]))
    axes = panels(figure, [1.0] * len(arms), right=1.1, bottom=0.55)
    for place, (ax, arm) in enumerate(zip(axes, arms, strict=True)):
        plot_bowls(runs[runs["arm"] == arm], cells[cells["arm"] == arm], ax=ax, theme=theme)
        ax.set_title(str(arm))
        if place == len(arms) - 1:
            _key(ax, runs, theme)


def plot_bowls(runs: pd.DataFrame, cells: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the loss over the least of its cell by peak rate, one line for each cell.

    Parameters
    ----------
    runs : DataFrame
        params, tokens, lr, loss.
    cells : DataFrame
        params, tokens, rate: the best rates, drawn as triangles below.
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
    sizes, tokens = sorted(runs["params"].unique()), sorted(runs["tokens"].unique())
    colours = dict(zip(sizes, theme.budget_colours(len(sizes)), strict=True))
    for (size, read), group in runs.groupby(["params", "tokens"]):
        line = group.groupby("lr")["loss"].mean()
        strength = 0.35 + 0.65 * (tokens.index(read) + 1) / len(tokens)
        above = 100 * (line / line.min() - 1)
        ax.plot(line.index, above, "o-", color=colours[size], alpha=strength, markersize=3.5, linewidth=1.1)
    for row in cells.to_dict("records"):
        size = min(sizes, key=lambda one: abs(one - row.get("params", one)))
        ax.plot(row["rate"], -0.6, "^", color=colours[size], markersize=5, clip_on=False)
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(runs["lr"].to_numpy(dtype=float)))
    ax.set_ylim(-1.0, TOP)
    log_axis(ax, "x", "peak learning rate", kind="number", target=4)
    percent_axis(ax.yaxis, target=6)
    ax.set_ylabel("loss above the least of its cell")
    ax.grid(True, linewidth=0.6)
    return ax


def _key(ax: Axes, runs: pd.DataFrame, theme: Theme) -> None:
    """Colours of the sizes, right of the last panel."""
    sizes = sorted(runs["params"].unique())
    colours = theme.budget_colours(len(sizes))
    marks = [Line2D([], [], color=colour, marker="o", markersize=3.5) for colour in colours]
    names = [f"N = {format_size(float(size))}" for size in sizes]
    ax.legend(marks, names, frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(1.01, 1.0))
