"""Runs to add as a figure: existing runs, added runs and the target by size and data, and how sure the target becomes.

It draws what a plan holds, and designs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.advice.compute_optimal import compute_optimal
from analysis.design.plan import DesignPlan
from analysis.design.text import target_words
from analysis.figures.drawing.axes import axes_or_new, log_axis, log_limits, panels
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.fitting.derived import neighbourhood
from analysis.fitting.fit import Fit
from analysis.formatting import format_compute, format_percent
from analysis.laws.allocation import optimum

SIZE = (8.6, 4.2)
"""Inches."""
MARKER = 18.0
"""Area of a cell with one run, in points squared."""
MAX_CONTOURS = 6
"""About how many contours of compute are drawn."""
MIN_POINTS = 12
"""Fewest points of the grid inside the axes that make a contour worth drawing."""
GRID, BUDGETS = 60, 80
"""Points of a contour, and of the compute-optimal line."""


def draw_design(fit: Fit, plan: DesignPlan, figure: Figure, theme: Theme) -> None:
    """Fill a figure with the runs on the left, and the expected half-widths on the right."""
    left, right = panels(figure, (1.75, 1), left=0.72, gap=1.25, top=0.4, bottom=0.5)
    plot_design(fit, plan, ax=left, theme=theme)
    plot_widths(fit, plan, ax=right, theme=theme)


def plot_design(fit: Fit, plan: DesignPlan, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw existing runs, added runs and the target in the plane of N and D.

    Parameters
    ----------
    fit : Fit
        With the existing runs, and the law whose compute-optimal line is drawn.
    plan : DesignPlan
        With the added runs.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; the area of an added run says how often it is run.
    """
    ax = axes_or_new(ax)
    n = np.array([cell.size.params for cell in plan.cells])
    d = np.array([cell.tokens for cell in plan.cells])
    times = np.array([len(cell.seeds) for cell in plan.cells])
    old_n, old_d = (np.zeros(0), np.zeros(0)) if fit.runs is None else (fit.runs["params"], fit.runs["tokens"])
    goal = _goal(fit, plan)
    ends = ([], []) if goal is None else ([goal[0]], [goal[1]])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*log_limits(np.concatenate([old_n, n, ends[0]]), pad=0.07))
    ax.set_ylim(*log_limits(np.concatenate([old_d, d, ends[1]]), pad=0.07))
    ax.scatter(old_n, old_d, s=9, color=theme.muted, linewidths=0, label="existing runs", zorder=2)
    ax.scatter(
        n,
        d,
        s=MARKER * times,
        facecolor="none",
        edgecolor=theme.accent,
        linewidths=1.3,
        zorder=3,
        label="added (area: how often)",
    )
    if goal is not None:
        ax.scatter(*ends, s=110, marker="*", color=theme.ink, zorder=4, label="target")
    _draw_contours(plan, ax, theme)
    _draw_frontier(fit, plan, ax, theme)
    log_axis(ax, "x", "N, parameters", kind="size")
    log_axis(ax, "y", "D, tokens", kind="size")
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncol=4,
        frameon=False,
        fontsize=7.6,
        handletextpad=0.3,
        columnspacing=1.2,
        borderaxespad=0.2,
    )
    return ax


def _goal(fit: Fit, plan: DesignPlan) -> tuple[float, float] | None:
    """N and D of the target; None for an exponent."""
    target = plan.target
    if target.flops is not None:
        found = compute_optimal(fit, target.flops, plan.ladder)
        return found.params.value, found.tokens.value
    return None if target.params is None or target.tokens is None else (target.params, target.tokens)


def _compute_span(plan: DesignPlan, ax: Axes) -> tuple[float, float]:
    """C at the lower left and the upper right corner of the axes."""
    cost = plan.ladder.per_token(np.array(ax.get_xlim()))
    low_d, high_d = ax.get_ylim()
    return float(cost[0] * low_d), float(cost[-1] * high_d)


def _draw_contours(plan: DesignPlan, ax: Axes, theme: Theme) -> None:
    """Lines of equal compute at decades, labelled inside the axes."""
    low_d, high_d = ax.get_ylim()
    sizes = np.geomspace(*ax.get_xlim(), GRID)
    cost = plan.ladder.per_token(sizes)
    first, last = np.log10(_compute_span(plan, ax))
    step = max(1, round((last - first) / MAX_CONTOURS))
    for power in range(int(np.ceil(first)), int(last) + 1, step):
        line = 10.0**power / cost
        inside = (line >= low_d) & (line <= high_d)
        if inside.sum() < MIN_POINTS:
            continue
        ax.plot(sizes, line, color=theme.grid, linewidth=0.8, zorder=0, scaley=False, scalex=False)
        place = np.flatnonzero(inside)[-1]
        ax.annotate(
            format_compute(10.0**power, 1),
            (sizes[place], line[place]),
            xytext=(-2, 3),
            textcoords="offset points",
            fontsize=6.6,
            color=theme.muted,
            ha="right",
            va="bottom",
            annotation_clip=True,
        )


def _draw_frontier(fit: Fit, plan: DesignPlan, ax: Axes, theme: Theme) -> None:
    """The compute-optimal line within the axes."""
    first, last = np.log(_compute_span(plan, ax)).tolist()
    budgets = np.linspace(first, last, BUDGETS)
    log_n, log_d, _ = optimum(fit.law, neighbourhood(fit).centre, budgets, plan.ladder.per_token)
    sizes, tokens = np.exp(log_n[0]), np.exp(log_d[0])
    ax.plot(sizes, tokens, color=theme.second, linewidth=1.1, zorder=1, scalex=False, scaley=False, label="optimal")


class _Bar(NamedTuple):
    """One half-width."""

    name: str
    """What it is."""
    value: float
    """Half-width."""
    ends: tuple[float, float] | None
    """Its spread over the draws of the law; None for what is known."""
    colour: str
    """Of the bar."""


def plot_widths(fit: Fit, plan: DesignPlan, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the half-width of the target now, with the plan, and with the best uniform grid.

    Parameters
    ----------
    fit : Fit
        Whose level the intervals have.
    plan : DesignPlan
        With the half-widths.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; lines are spreads over the draws of the law.
    """
    ax = axes_or_new(ax)
    exponent = plan.target.exponent is not None
    scale = 1.0 if exponent else 100.0
    bars = _bars(plan, theme)
    reaches = [bar.value if bar.ends is None else max(bar.value, bar.ends[1]) for bar in bars]
    for place, (bar, reach) in enumerate(zip(bars, reaches, strict=True)):
        ax.barh(place, scale * bar.value, height=0.52, color=bar.colour, alpha=0.85)
        if bar.ends is not None:
            ax.plot([scale * end for end in bar.ends], [place, place], color=theme.ink, linewidth=1.2)
        words = f"{bar.value:.3g}" if exponent else format_percent(bar.value, 3)
        ax.text(scale * reach, place, f" {words}", va="center", fontsize=8, color=theme.ink)
    ax.set_yticks(range(len(bars)), [bar.name for bar in bars])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3 * scale * max(reaches))
    ax.grid(True, axis="x", linewidth=0.6)
    unit = "" if exponent else ", %"
    ax.set_xlabel(f"half-width of the {100 * fit.level:g} % interval{unit}")
    ax.set_title(target_words(plan), fontsize=8, fontweight="normal", pad=8)
    return ax


def _bars(plan: DesignPlan, theme: Theme) -> list[_Bar]:
    now = plan.half_width_now
    known = [] if now is None else [_Bar("now", now, None, theme.muted)]
    grid, runs = plan.grid, plan.expected
    return [
        *known,
        _Bar("best uniform\ngrid", grid.median, (grid.low, grid.high), theme.second),
        _Bar("these runs", runs.median, (runs.low, runs.high), theme.accent),
    ]
