"""Numbers with their intervals beside what they should be, or were elsewhere. It draws what is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.estimate import Estimate
from analysis.figures.drawing.axes import axes_or_new, size_inches
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_number

LABEL_INCHES, LETTER_INCHES, BOTTOM_INCHES = 0.25, 0.066, 0.48
"""Room left of a panel, for each letter of its longest label, and below it."""
TICK_INCHES = 0.55
"""Room for a tick's number along the axis."""


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
    groups: Sequence[tuple[str, Sequence[Row]]], figure: Figure, theme: Theme, *, digits: int = 3
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
    """
    width, height = figure.get_size_inches()
    right = 1.35 + 0.18 * max(digits - 3, 0)
    labels = [LABEL_INCHES + LETTER_INCHES * max(len(row.label) for row in rows) for _, rows in groups]
    free = (width - sum(labels) - right * len(groups)) / len(groups)
    start = 0.0
    for (label, rows), left in zip(groups, labels, strict=True):
        box = ((start + left) / width, BOTTOM_INCHES / height, free / width, 1 - (BOTTOM_INCHES + 0.2) / height)
        start += left + free + right
        ax = figure.add_axes(box)
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
    inches, _ = size_inches(ax)
    ax.xaxis.set_major_locator(MaxNLocator(int(np.clip(inches / TICK_INCHES, 2, 5))))
    ax.grid(True, axis="x", linewidth=0.6)
    ax.set_xlabel(label)
    return ax
