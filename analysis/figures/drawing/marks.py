"""Marks that every figure of a study shares: runs, a line with its band, and the key of lines.

Circles were fitted, squares were held out, and flagged runs are hollow. A line is solid inside the fitted range and
dashed beyond it. It must not know which quantities a figure shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.drawing.axes import size_inches
from analysis.figures.drawing.theme import Theme
from analysis.formatting import format_compute
from analysis.study.study import Study

DOTTED = (0, (1, 1))
"""Dashes of a line of dots."""
DASHED = (0, (4, 2))
"""Dashes of a line beyond the fitted range."""
FIRST_KEY_ROW = 0.965
"""Height of the first row of a key, as a part of the axes."""
KEY_ROW = 0.062
"""Distance of the rows of a key, as a part of the axes."""
KEY_BELOW, KEY_INCHES = 0.58, 0.16
"""Inches from the axes down to the first row of a key below them, and from row to row."""
MAX_BAR_LABELS = 8
"""Most labels beside a bar of colours."""

Span = tuple[float, float]
"""Smallest and largest compute."""


class Mark(TypedDict):
    """One marker without a line, as keyword arguments of `Axes.plot`."""

    marker: str
    """Its form."""
    linestyle: Literal["none"]
    """No line."""
    markerfacecolor: str
    """Inside."""
    markeredgecolor: str
    """Edge."""
    markeredgewidth: float
    """Width of the edge, points."""


class KeyLine(NamedTuple):
    """One row of a key of lines."""

    text: str
    """What the line is."""
    colour: str
    """Its colour."""
    style: Literal["-", ":"] = "-"
    """Solid or dotted."""


def mark(form: str, colour: str, *, paper: str, flagged: bool = False, edge: float = 1.2) -> Mark:
    """A marker: filled, or hollow for what is flagged.

    Parameters
    ----------
    form : str
        Of matplotlib's markers: "o", "s" or "D".
    colour : str
        Of the edge, and of the inside.
    paper : str
        Of the background, which a hollow marker shows.
    flagged : bool
        Whether it is hollow.
    edge : float
        Width of the edge, points.

    Returns
    -------
    Mark
        Keyword arguments of `Axes.plot`.
    """
    return {
        "marker": form,
        "linestyle": "none",
        "markerfacecolor": paper if flagged else colour,
        "markeredgecolor": colour,
        "markeredgewidth": edge,
    }


def run_marks(study: Study, rows: pd.DataFrame, theme: Theme) -> list[Mark]:
    """The marker of each run: in the colour of its budget, a square when it was held out, hollow when it is flagged.

    Parameters
    ----------
    study : Study
        Whose budgets and flags are used.
    rows : DataFrame
        Rows of the study's table.
    theme : Theme
        Colours.

    Returns
    -------
    list of Mark
        One for each row.
    """
    colours = theme.budget_colours(len(study.budgets))
    return [
        mark(
            "s" if role == "heldout" else "o",
            colours[study.colour_index(budget)],
            paper=theme.paper,
            flagged=bool(flag),
        )
        for budget, role, flag in zip(
            rows["budget_group"], rows["role_shown"], study.table.flags[rows.index], strict=True
        )
    ]


def draw_band(ax: Axes, points: pd.DataFrame, name: str, *, inside: Span, reach: Span, colour: str) -> None:
    """Draw a line over compute with its band: solid inside the fitted range and dashed beyond it.

    Parameters
    ----------
    ax : Axes
        With compute along x.
    points : DataFrame
        flops, NAME, NAME_lo and NAME_hi; rows without NAME are not drawn.
    name : str
        The quantity along y.
    inside : (float, float)
        Compute that was fitted.
    reach : (float, float)
        Compute that is drawn.
    colour : str
        Of line and band.
    """
    shown = points[points["flops"].between(reach[0] * 0.999, reach[1] * 1.001) & points[name].notna()]
    within = shown["flops"].between(inside[0] * 0.999, inside[1] * 1.001)
    first, last = (int(np.flatnonzero(within)[edge]) if bool(within.any()) else 0 for edge in (0, -1))
    solid = shown.iloc[first : last + 1]
    ax.plot(solid["flops"], solid[name], color=colour, zorder=3)
    for part in (shown.iloc[: first + 1], shown.iloc[last:]):
        ax.plot(part["flops"], part[name], color=colour, linestyle=DASHED, zorder=3)
    banded = shown[shown[f"{name}_lo"].notna()]
    low, high = banded[f"{name}_lo"], banded[f"{name}_hi"]
    ax.fill_between(banded["flops"], low, high, color=colour, alpha=0.14, linewidth=0, zorder=1)


def draw_budget_bar(ax: Axes, budgets: Sequence[float], colours: Sequence[str], theme: Theme) -> None:
    """Draw a bar of the budgets' colours within the right edge of the axes, some of them labelled.

    Parameters
    ----------
    ax : Axes
        Where the budgets are drawn.
    budgets : sequence of float
        C, ascending.
    colours : sequence of str
        Of each budget.
    theme : Theme
        Colour of the labels.
    """
    bar = ax.inset_axes((1.03, 0.0, 0.035, 1.0))
    for index, colour in enumerate(colours):
        bar.axhspan(index, index + 1, color=colour, linewidth=0)
    bar.set(xlim=(0, 1), ylim=(0, len(budgets)), xticks=[])
    step = -(-len(budgets) // MAX_BAR_LABELS)
    shown = range(0, len(budgets), step)
    bar.yaxis.tick_right()
    bar.set_yticks([index + 0.5 for index in shown], [format_compute(budgets[index]) for index in shown], fontsize=6.5)
    bar.tick_params(length=0, pad=2, colors=theme.ink)
    for spine in bar.spines.values():
        spine.set_visible(False)


def draw_key(ax: Axes, lines: Sequence[KeyLine], theme: Theme, *, size: float = 7.2, below: bool = False) -> None:
    """Draw short samples of lines with their names.

    They stand in the upper left corner, which callers leave free, or below the label of the x-axis.

    Parameters
    ----------
    ax : Axes
        Where the lines are.
    lines : sequence of KeyLine
        From top to bottom.
    theme : Theme
        Colour of the names.
    size : float
        Of the letters, points.
    below : bool
        Whether they stand below the axes, where callers leave `KEY_INCHES` a row.
    """
    _, inches = size_inches(ax)
    for row, line in enumerate(lines):
        height = -(KEY_BELOW + KEY_INCHES * row) / inches if below else FIRST_KEY_ROW - KEY_ROW * row
        style = DOTTED if line.style == ":" else line.style
        ax.plot(
            [0.03, 0.10],
            [height] * 2,
            color=line.colour,
            linestyle=style,
            transform=ax.transAxes,
            linewidth=1.6,
            clip_on=False,
        )
        ax.text(0.125, height, line.text, transform=ax.transAxes, va="center", fontsize=size, color=theme.ink)
