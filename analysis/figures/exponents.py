"""The exponent a of N_opt ~ C^a by each approach, beside the published ones.

It draws what a study holds, and fits nothing.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.estimate import Estimate
from analysis.figures.drawing.axes import axes_or_new, panels
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_number
from analysis.published.constants import PUBLISHED_EXPONENTS
from analysis.study.study import Study

APPROACHES = {
    "envelope": "approach 1: envelope",
    "isoflop": "approach 2: IsoFLOP minima",
    "parametric": "approach 3: parametric",
}
"""The approaches of Hoffmann et al. 2022 by the first word of a frontier's method."""
WIDEST = (-0.5, 1.6)
"""Exponents beyond these are outside the figure."""


def draw_exponents(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_exponents`."""
    (ax,) = panels(figure, left=2.15, right=1.35, top=0.3)
    plot_exponents(study, ax=ax, theme=theme)


def plot_exponents(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the exponents with their intervals, ours in ink and the published ones in grey.

    Parameters
    ----------
    study : Study
        What is shown.
    ax : Axes, optional
        Where it is drawn; new axes by default. Values are written right of them.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on.
    """
    ax = axes_or_new(ax)
    rows = [(name, estimate, theme.ink) for name, estimate in _ours(study)]
    rows += [(name, estimate, theme.muted) for name, estimate in PUBLISHED_EXPONENTS]
    ends = [value for _, item, _ in rows for value in (item.value, item.lo, item.hi) if value is not None]
    low, high = max(min(ends) - 0.05, WIDEST[0]), min(max(ends) + 0.05, WIDEST[1])
    ax.set_xlim(low, high)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for place, (_, item, colour) in enumerate(rows):
        if item.lo is not None and item.hi is not None:
            ax.plot([max(item.lo, low), min(item.hi, high)], [place] * 2, color=colour, linewidth=1.6)
        ax.plot(item.value, place, "D", color=colour, markersize=5)
        words = item.text(2) if item.has_interval else f"{format_number(item.value, 2)} (no interval)"
        ax.text(1.02, place, words, transform=ax.get_yaxis_transform(), va="center", fontsize=7.6, color=colour)
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.grid(True, axis="x", linewidth=0.6)
    ax.set_xlabel("a, exponent of the optimal size by compute")
    ax.set_title("Three approaches, and what was published")
    return ax


def _ours(study: Study) -> list[tuple[str, Estimate]]:
    """a by every approach that gives one, and under C = 6 N D where C was counted otherwise."""
    found = [
        (APPROACHES[one.method.split()[0]], one.a) for one in study.comparison.frontiers if math.isfinite(one.a.value)
    ]
    closed = study.comparison.fit.frontier_estimates
    if closed is not None and study.flops_convention != "6ND":
        found.append(("approach 3 under C = 6ND", closed.a))
    return found
