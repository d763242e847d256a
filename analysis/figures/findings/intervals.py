"""Numbers with their intervals beside what they should be, or were elsewhere. It draws what is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.estimate import Estimate
from analysis.figures.drawing.axes import axes_or_new, panels
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_number


class Row(NamedTuple):
    """One number of a figure."""

    label: str
    """What it is."""
    estimate: Estimate
    """The number with its interval."""
    truth: float | None = None
    """What it should be; None where nothing says so."""
    reference: bool = False
    """Whether it is somebody else's, and drawn grey."""


def draw_intervals(
    groups: Sequence[tuple[str, Sequence[Row]]], figure: Figure, theme: Theme, *, digits: int = 3, left: float = 1.7
) -> None:
    """Fill a figure with one panel for each group of numbers that share a unit.

    Parameters
    ----------
    groups : sequence of (str, sequence of Row)
        Label of the axis, and the numbers on it.
    figure : Figure
        Which is filled.
    theme : Theme
        Colours.
    digits : int
        Of the numbers that are written.
    left : float
        Inches for the labels of the first panel; further ones have the same.
    """
    right = 1.35 + 0.06 * max(digits - 3, 0) * 3
    axes = panels(figure, [1.0] * len(groups), left=left, right=right, gap=left + right)
    for ax, (label, rows) in zip(axes, groups, strict=True):
        plot_intervals(rows, label=label, ax=ax, theme=theme, digits=digits)


def plot_intervals(
    rows: Sequence[Row], *, label: str, ax: Axes | None = None, theme: Theme = LIGHT, digits: int = 3
) -> Axes:
    """Draw numbers with their intervals, one a line, and a tick where each should be.

    Parameters
    ----------
    rows : sequence of Row
        From top to bottom.
    label : str
        Of the x-axis.
    ax : Axes, optional
        Where it is drawn; new axes by default. Values are written right of them.
    theme : Theme
        Colours.
    digits : int
        Of the numbers that are written.

    Returns
    -------
    Axes
        What was drawn on.
    """
    ax = axes_or_new(ax)
    ends = [end for row in rows for end in (row.estimate.value, row.estimate.lo, row.estimate.hi, row.truth)]
    known = [end for end in ends if end is not None]
    pad = 0.08 * (max(known) - min(known) or abs(known[0]) or 1.0)
    ax.set_xlim(min(known) - pad, max(known) + pad)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for place, row in enumerate(rows):
        item, colour = row.estimate, theme.muted if row.reference else theme.ink
        if item.lo is not None and item.hi is not None:
            ax.plot([item.lo, item.hi], [place] * 2, color=colour, linewidth=1.6)
        ax.plot(item.value, place, "D", color=colour, markersize=5)
        if row.truth is not None:
            ax.plot([row.truth] * 2, [place - 0.34, place + 0.34], color=theme.accent, linewidth=2.2)
        words = item.text(digits) if item.has_interval else f"{format_number(item.value, digits)} (no interval)"
        ax.text(1.02, place, words, transform=ax.get_yaxis_transform(), va="center", fontsize=7.6, color=colour)
    ax.set_yticks(range(len(rows)), [row.label for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(True, axis="x", linewidth=0.6)
    ax.set_xlabel(label)
    return ax
