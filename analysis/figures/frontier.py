"""Compute-optimal size or tokens by compute: minima, power law, envelope, fitted law, and published slopes.

It draws what a study holds, and fits nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from analysis.estimate import Estimate
from analysis.figures.drawing.axes import axes_or_new, log_axis, log_limits
from analysis.figures.drawing.marks import DOTTED, KeyLine, draw_band, draw_key, mark
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.frontiers.frontier import Frontier
from analysis.published.constants import PUBLISHED_SLOPES
from analysis.study.study import Study

Quantity = Literal["params", "tokens"]
"""N_opt or D_opt."""
TITLES: dict[Quantity, str] = {"params": "Optimal size by compute", "tokens": "Optimal tokens by compute"}
"""Titles of the axes."""
LABELS: dict[Quantity, str] = {"params": "$N_{opt}$, parameters", "tokens": "$D_{opt}$, tokens"}
"""Labels of the y-axis."""
SLOPE_STYLES = ((0, (7, 2)), (0, (2, 1.5)))
"""Dashes of the published slopes, all grey."""
GRID = 60
"""Points of a line."""


def plot_frontier(study: Study, name: Quantity, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw what is compute-optimal, by every approach, with published slopes through the middle of ours.

    Parameters
    ----------
    study : Study
        What is shown.
    name : "params" or "tokens"
        N_opt or D_opt.
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
    flops = study.table.frame["flops"]
    reach = (float(flops.min()) / 1.6, float(flops.max()) * 2.2)
    key = _draw_approaches(study, name, ax, theme, reach)
    parametric = study.comparison.frontiers[-1].points
    heights = [*parametric[parametric["flops"].between(*reach)][name], *_draw_minima(study, name, ax, theme)]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*reach)
    low, high = log_limits([value for value in heights if math.isfinite(value)], pad=0.05)
    ax.set_ylim(low, high)
    _draw_slopes(study, name, ax, theme, within=(*reach, low, high))
    log_axis(ax, "x", f"C, FLOPs ({study.flops_convention})", kind="flops", target=4)
    log_axis(ax, "y", LABELS[name], kind="size", target=5)
    ax.set_title(TITLES[name])
    draw_key(ax, key, theme, below=True)
    return ax


def _by_method(study: Study) -> dict[str, Frontier]:
    """Frontiers by approach: parametric, and isoflop and envelope where there are any."""
    return {frontier.method.split()[0]: frontier for frontier in study.comparison.frontiers}


def _draw_approaches(
    study: Study, name: Quantity, ax: Axes, theme: Theme, reach: tuple[float, float]
) -> Sequence[KeyLine]:
    """The lines of the three approaches, and their rows in the key."""
    found, inside = _by_method(study), study.fitted_span
    parametric = found["parametric"]
    draw_band(ax, parametric.points, name, inside=inside, reach=reach, colour=theme.second)
    form = f"{parametric.method.split()[-1].capitalize()}'s form"
    key = [KeyLine(f"{form}  {_exponent(parametric, name)}", theme.second)]
    isoflop = found.get("isoflop")
    if isoflop is not None and isoflop.line is not None:
        line = isoflop.at(np.geomspace(*reach, GRID))
        draw_band(ax, line, name, inside=inside, reach=reach, colour=theme.ink)
        key.insert(0, KeyLine(f"IsoFLOP minima  {_exponent(isoflop, name)}", theme.ink))
    envelope = found.get("envelope")
    if envelope is not None and bool(envelope.points["bracketed"].any()):
        points = envelope.points[envelope.points["bracketed"]]
        ax.plot(points["flops"], points[name], color=theme.muted, linestyle=DOTTED, linewidth=1.6, zorder=2)
        key.append(KeyLine(f"envelope  {_exponent(envelope, name)}", theme.muted, ":"))
    return key


def _draw_minima(study: Study, name: Quantity, ax: Axes, theme: Theme) -> list[float]:
    """The minima of the budgets with their intervals; the heights that the axes have to hold."""
    colours = theme.budget_colours(len(study.budgets))
    heights: list[float] = []
    for point, held in study.minima():
        if not bool(point["bracketed"]):
            continue
        colour = colours[study.colour_index(float(point["flops"]))]
        low, high = point[f"{name}_lo"], point[f"{name}_hi"]
        if math.isfinite(low):
            ax.plot([point["flops"]] * 2, [low, high], color=colour, linewidth=1.3, zorder=4)
            heights += [low, high]
        diamond = mark("D", colour, paper=theme.paper, flagged=held)
        ax.plot(point["flops"], point[name], markersize=5, zorder=5, **diamond)
        heights.append(float(point[name]))
    return heights


def _centre(study: Study, name: Quantity) -> tuple[float, float] | None:
    """Compute in the middle of the fitted runs, and what is optimal there; None when no approach says it."""
    first, last = study.fitted_span
    middle = math.sqrt(first * last)
    found = _by_method(study)
    isoflop = found.get("isoflop")
    if isoflop is not None and isoflop.line is not None:
        return middle, float(isoflop.at(middle)[name].iloc[0])
    points = found["parametric"].points
    known = points[points[name].notna()]
    if known.empty:
        return None
    return middle, math.exp(np.interp(math.log(middle), np.log(known["flops"]), np.log(known[name])))


def _draw_slopes(
    study: Study, name: Quantity, ax: Axes, theme: Theme, *, within: tuple[float, float, float, float]
) -> None:
    """Published slopes as grey lines inside (left, right, low, high), with their key in the lower right corner."""
    centre = _centre(study, name)
    if centre is None:
        return
    left, right, low, high = within
    grid = np.geomspace(left, right, GRID)
    for row, ((text, slope), style) in enumerate(zip(PUBLISHED_SLOPES[name], SLOPE_STYLES, strict=True)):
        line = centre[1] * (grid / centre[0]) ** slope
        shown = (line > low) & (line < high)
        ax.plot(grid[shown], line[shown], color=theme.muted, linestyle=style, linewidth=0.9, zorder=1)
        height, place = 0.05 + 0.062 * row, ax.transAxes
        ax.plot([0.60, 0.68], [height] * 2, linestyle=style, linewidth=0.9, transform=place, color=theme.muted)
        ax.text(0.70, height, f"{text} {slope:.2f}", va="center", fontsize=7.0, transform=place, color=theme.muted)


def _exponent(frontier: Frontier, name: Quantity) -> str:
    """The slope with its interval, short enough for a key."""
    estimate: Estimate | None = frontier.a if name == "params" else frontier.b
    if estimate is None or not math.isfinite(estimate.value):
        return "no slope"
    if estimate.lo is None or estimate.hi is None:
        return f"{estimate.value:.2f} (no interval)"
    return f"{estimate.value:.2f} ({estimate.lo:.2f}, {estimate.hi:.2f})"
