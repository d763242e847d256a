"""Fresh text against text that is repeated: loss by tokens, and the cost by passes. It fits nothing."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.drawing.axes import EndLabel, axes_or_new, label_ends, log_axis, log_limits, panels, percent_axis
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_size


def draw_repeated(pairs: pd.DataFrame, figure: Figure, theme: Theme) -> None:
    """Fill a figure with both panels."""
    left, right = panels(figure, [1.0, 1.0], right=0.75, gap=1.95)
    plot_losses(pairs, ax=left, theme=theme)
    plot_cost(pairs, ax=right, theme=theme)


def plot_losses(pairs: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the loss by tokens of every size, on fresh text and on repeated text.

    Parameters
    ----------
    pairs : DataFrame
        params, tokens, fresh, repeated.
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
    sizes = sorted(pairs["params"].unique())
    ends = []
    for size, colour in zip(sizes, theme.budget_colours(len(sizes)), strict=True):
        mine = pairs[pairs["params"] == size].sort_values("tokens")
        ax.plot(mine["tokens"], mine["fresh"], "o-", color=colour, markersize=4)
        ax.plot(mine["tokens"], mine["repeated"], "o--", color=colour, markersize=4, markerfacecolor=theme.paper)
        last = mine.iloc[-1]
        for name in ("fresh", "repeated"):
            words = f"{format_size(float(size))}, {name}"
            ends.append(EndLabel(x=float(last["tokens"]), y=float(last[name]), text=words, colour=colour))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*log_limits(pairs["tokens"].to_numpy(dtype=float)))
    ax.set_ylim(*log_limits([*pairs["fresh"], *pairs["repeated"]]))
    log_axis(ax, "x", "D, tokens", kind="size", target=4)
    log_axis(ax, "y", "loss, nats per token", kind="number", target=5)
    ax.grid(True, linewidth=0.6)
    ax.set_title("Loss by tokens")
    label_ends(ax, ends, size=6.8, outside=True)
    return ax


def plot_cost(pairs: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw how much higher the loss on repeated text is, by passes over it.

    Parameters
    ----------
    pairs : DataFrame
        params, epochs, cost.
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
    sizes = sorted(pairs["params"].unique())
    ends = []
    for size, colour in zip(sizes, theme.budget_colours(len(sizes)), strict=True):
        mine = pairs[pairs["params"] == size].sort_values("epochs")
        ax.plot(mine["epochs"], 100 * mine["cost"], "o-", color=colour, markersize=4)
        last = mine.iloc[-1]
        words = format_size(float(size))
        ends.append(EndLabel(x=float(last["epochs"]), y=100 * float(last["cost"]), text=words, colour=colour))
    ax.axhline(0, color=theme.muted, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(pairs["epochs"].to_numpy(dtype=float)))
    log_axis(ax, "x", "passes over the text", kind="number", target=5)
    percent_axis(ax.yaxis, target=6)
    ax.grid(True, linewidth=0.6)
    ax.set_ylabel("loss above that of fresh text")
    ax.set_title("What repetition costs")
    label_ends(ax, ends, size=6.8, outside=True)
    return ax
