"""The first figure: IsoFLOP curves, N_opt by compute and D_opt by compute. Knows what is drawn, not how it was
found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.estimate import Estimate
from analysis.figures.axes import label_ends, log_axis, log_limits, panels
from analysis.figures.theme import Theme, hollow
from analysis.formatting import format_compute
from analysis.frontiers.frontier import Frontier
from analysis.study.study import Study

REFERENCE_STYLES = ((0, (7, 2)), (0, (2, 1.5)))
"""Dashes of Kaplan's and Hoffmann's slopes; both are grey."""
REFERENCE_SLOPES = {
    "params": (("Kaplan", 0.73), ("Hoffmann", 0.50)),
    "tokens": (("Kaplan", 0.27), ("Hoffmann", 0.50)),
}
"""Exponents of N_opt and D_opt: Kaplan et al. 2020, eq. 6.1 (N ~ C^.73, D ~ C^.27); Hoffmann et al. 2022, approach
1 (.50, .50)."""
MAX_LABELS = 10
"""With more budgets than this, only those with a curve are labelled."""
NAMES = {"params": "$N_{opt}$, parameters", "tokens": "$D_{opt}$, tokens"}
"""Axis labels of the frontier panels."""


def draw_isoflop(study: Study, figure: Figure, theme: Theme) -> None:
    """Three panels side by side on one figure."""
    left, middle, right = panels(figure, (1.25, 1, 1), right=0.85, gap=0.98)
    isoflop_panel(study, ax=left, theme=theme)
    frontier_panel(study, "params", ax=middle, theme=theme)
    frontier_panel(study, "tokens", ax=right, theme=theme)


def isoflop_panel(study: Study, *, ax: Axes, theme: Theme) -> Axes:
    """Loss by size for every budget: runs, curve with band, minimum with interval; held-out budgets dashed."""
    frame = study.table.frame
    shown = frame["role_shown"].isin(["fit", "heldout", "replicate"])
    colours = theme.budget_colours(len(study.budgets))
    ends: list[tuple[float, float, str, str]] = []
    curves = _curves(study)
    for index, budget in enumerate(study.budgets):
        rows = frame[shown & (frame["budget_group"].map(study.colour_index) == index)]
        if rows.empty:
            continue
        colour = colours[index]
        held = bool((rows["role_shown"] == "heldout").all())
        marker = "s" if held else "o"
        for size, loss, flag in zip(rows["params"], rows["loss"], study.table.flags[rows.index], strict=True):
            style = hollow(colour, bool(flag), theme.paper)
            ax.plot(size, loss, marker, **style, markersize=4.2, zorder=3)
        if index in curves:
            grid, middle, low, high = curves[index]
            ax.plot(grid, middle, color=colour, linestyle="--" if held else "-", zorder=2)
            if low is not None and high is not None:
                ax.fill_between(grid, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
        largest = rows.iloc[int(rows["params"].to_numpy().argmax())]
        if len(study.budgets) > MAX_LABELS and index not in curves:
            continue
        ends.append((float(largest["params"]), float(largest["loss"]), format_compute(budget), colour))
    for point, held in _minima(study):
        colour = colours[study.colour_index(float(point["flops"]))]
        _minimum(ax, point, colour, theme, held=held)
    everything = frame[shown]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*log_limits(everything["params"].to_numpy(), right=0.22))
    ax.set_ylim(*log_limits(everything["loss"].to_numpy()))
    log_axis(ax, "x", "N, parameters", kind="size", target=4)
    log_axis(ax, "y", "validation loss, nats per token", kind="number", target=6)
    ax.set_title("IsoFLOP curves, C at their ends")
    label_ends(ax, ends)
    return ax


def _minimum(ax: Axes, point: pd.Series, colour: str, theme: Theme, *, held: bool) -> None:
    """A diamond at the minimum of a budget with its interval in N, hollow when it is held out."""
    if not bool(point["bracketed"]):
        return
    if math.isfinite(point["params_lo"]):
        ax.plot([point["params_lo"], point["params_hi"]], [point["loss"]] * 2, color=theme.ink, linewidth=1.1, zorder=4)
    style = hollow(theme.ink, held, theme.paper) | {"markeredgewidth": 1.0}
    ax.plot(point["params"], point["loss"], "D", markersize=4.6, zorder=5, **style)


def _curves(study: Study) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """Colour index of a budget -> grid of N, curve and band."""
    out: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]] = {}
    fit = study.isoflop_all
    if fit is None:
        return out
    for place, runs in enumerate(fit.budgets):
        grid = np.linspace(runs.x[0], runs.x[-1], 80)
        values = fit.losses_at(place, grid)
        low = high = None
        if len(values) > 20:
            low, high = np.quantile(values[1:], [(1 - study.choices.level) / 2, (1 + study.choices.level) / 2], axis=0)
        out[study.colour_index(runs.flops)] = (np.exp(grid), values[0], low, high)
    return out


def _minima(study: Study) -> list[tuple[pd.Series, bool]]:
    """Minima of the fitted budgets as fitted, and of held-out budgets from the curves that include them."""
    fitted = study.comparison.isoflop
    if fitted is None or study.isoflop_all is None:
        return []
    out = [(point, False) for _, point in fitted.frontier.points.iterrows()]
    known = {study.colour_index(float(point["flops"])) for point, _ in out}
    every = study.isoflop_all.frontier.points
    return out + [(point, True) for _, point in every.iterrows() if study.colour_index(point["flops"]) not in known]


def frontier_panel(study: Study, name: str, *, ax: Axes, theme: Theme) -> Axes:
    """`params` or `tokens` at the optimum by compute: minima, power law, envelope and parametric law, and published
    slopes."""
    frame = study.table.frame
    colours = theme.budget_colours(len(study.budgets))
    fitted = frame[frame["role_shown"] == "fit"]
    inside = (float(fitted["flops"].min()), float(fitted["flops"].max()))
    reach = (float(frame["flops"].min()) / 1.6, float(frame["flops"].max()) * 2.2)
    grid = np.geomspace(*reach, 60)
    key: list[tuple[str, str, str]] = []
    heights: list[float] = []
    by_method = {frontier.method.split()[0]: frontier for frontier in study.comparison.frontiers}
    parametric = by_method["parametric"]
    draw_band(ax, parametric.points, name, inside, theme.second, reach)
    heights += list(parametric.points[parametric.points["flops"].between(*reach)][name])
    key.append((f"{_law_label(parametric)}  {_exponent(parametric, name)}", theme.second, "-"))
    isoflop = by_method.get("isoflop")
    if isoflop is not None and isoflop.line is not None:
        line = isoflop.at(grid)
        draw_band(ax, line, name, inside, theme.ink, reach)
        key.insert(0, (f"IsoFLOP minima  {_exponent(isoflop, name)}", theme.ink, "-"))
    envelope = by_method.get("envelope")
    if envelope is not None and bool(envelope.points["bracketed"].any()):
        points = envelope.points[envelope.points["bracketed"]]
        ax.plot(points["flops"], points[name], color=theme.muted, linestyle=(0, (1, 1)), linewidth=1.6, zorder=2)
        key.append((f"envelope  {_exponent(envelope, name)}", theme.muted, ":"))
    centre = None
    for point, held in _minima(study):
        if not bool(point["bracketed"]):
            continue
        colour = colours[study.colour_index(float(point["flops"]))]
        lo, hi = point[f"{name}_lo"], point[f"{name}_hi"]
        if math.isfinite(lo):
            ax.plot([point["flops"]] * 2, [lo, hi], color=colour, linewidth=1.3, zorder=4)
            heights += [lo, hi]
        ax.plot(point["flops"], point[name], "D", markersize=5, zorder=5, **hollow(colour, held, theme.paper))
        heights.append(float(point[name]))
    middle = math.sqrt(inside[0] * inside[1])
    if isoflop is not None and isoflop.line is not None:
        centre = (middle, float(isoflop.at(middle)[name].iloc[0]))
    elif bool(parametric.points[name].notna().any()):
        known = parametric.points[parametric.points[name].notna()]
        centre = (middle, math.exp(np.interp(math.log(middle), np.log(known["flops"]), np.log(known[name]))))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*reach)
    low, high = log_limits([value for value in heights if math.isfinite(value)], pad=0.05)
    ax.set_ylim(low, high * (high / low) ** 0.32)
    if centre is not None:
        for row, ((text, slope), style) in enumerate(zip(REFERENCE_SLOPES[name], REFERENCE_STYLES, strict=True)):
            law = centre[1] * (grid / centre[0]) ** slope
            shown = (law > low) & (law < high)
            ax.plot(grid[shown], law[shown], color=theme.muted, linestyle=style, linewidth=0.9, zorder=1)
            place: dict[str, Any] = {"transform": ax.transAxes, "color": theme.muted}
            ax.plot([0.60, 0.68], [0.05 + 0.062 * row] * 2, linestyle=style, linewidth=0.9, **place)
            ax.text(0.70, 0.05 + 0.062 * row, f"{text} {slope:.2f}", va="center", fontsize=7.0, **place)
    log_axis(ax, "x", f"C, FLOPs ({study.table.conventions.get('flops', 'as given')})", kind="flops", target=4)
    log_axis(ax, "y", NAMES[name], kind="size", target=5)
    ax.set_title("Optimal size by compute" if name == "params" else "Optimal tokens by compute")
    draw_key(ax, key, theme)
    return ax


def draw_key(ax: Axes, key: list[tuple[str, str, str]], theme: Theme, *, size: float = 7.2) -> None:
    """Short samples of lines with their names in the upper left corner, where nothing is drawn."""
    for row, (text, colour, style) in enumerate(key):
        height = 0.965 - 0.062 * row
        dash = (0, (1, 1)) if style == ":" else style
        ax.plot([0.03, 0.10], [height] * 2, color=colour, linestyle=dash, transform=ax.transAxes, linewidth=1.6)
        ax.text(0.125, height, text, transform=ax.transAxes, va="center", fontsize=size, color=theme.ink)


def _law_label(frontier: Frontier) -> str:
    """parametric law by its name, capitalised as a surname."""
    return f"{frontier.method.split()[-1].capitalize()}'s form"


def _exponent(frontier: Frontier, name: str) -> str:
    """The slope with its interval, short enough for a key."""
    estimate: Estimate | None = frontier.a if name == "params" else frontier.b
    if estimate is None or not math.isfinite(estimate.value):
        return "no slope"
    if estimate.lo is None or estimate.hi is None:
        return f"{estimate.value:.2f} (no interval)"
    return f"{estimate.value:.2f} ({estimate.lo:.2f}, {estimate.hi:.2f})"


def draw_band(
    ax: Axes, points: pd.DataFrame, name: str, inside: tuple[float, float], colour: str, reach: tuple[float, float]
) -> None:
    """A line that is solid inside the fitted range and dashed beyond, with its band."""
    shown = points[points["flops"].between(reach[0] * 0.999, reach[1] * 1.001) & points[name].notna()]
    within = shown["flops"].between(inside[0] * 0.999, inside[1] * 1.001)
    first, last = (int(np.flatnonzero(within)[edge]) if bool(within.any()) else 0 for edge in (0, -1))
    ax.plot(shown["flops"].iloc[first : last + 1], shown[name].iloc[first : last + 1], color=colour, zorder=3)
    for part in (shown.iloc[: first + 1], shown.iloc[last:]):
        ax.plot(part["flops"], part[name], color=colour, linestyle=(0, (4, 2)), zorder=3)
    banded = shown[shown[f"{name}_lo"].notna()]
    ax.fill_between(
        banded["flops"], banded[f"{name}_lo"], banded[f"{name}_hi"], color=colour, alpha=0.14, linewidth=0, zorder=1
    )
