"""The choice of a law: errors by law with intervals, and the held-out predictions of the best ones.

It draws what a selection holds, and fits nothing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.arrays import Array
from analysis.figures.drawing.axes import TickKind, axes_or_new, log_axis, log_limits, percent_axis
from analysis.figures.drawing.render import save_figure, save_png
from analysis.figures.drawing.theme import DARK, LIGHT, Theme
from analysis.formatting import format_compute, format_number, format_percent
from analysis.selection.candidates import Candidate
from analysis.selection.select import SelectionResult

MAX_LAWS = 6
"""Laws whose predictions are drawn: the best, and the chosen one and the reference in any case."""
COLUMNS = 3
"""Panels of predictions in a row."""
SIZE = (11.0, 5.4)
"""Inches."""
AXES: dict[str, tuple[str, TickKind]] = {
    "flops": ("C, FLOPs", "flops"),
    "tokens": ("D, tokens", "size"),
    "params": ("N, parameters", "size"),
    "step": ("step", "number"),
    "x": ("x", "number"),
}
"""Label and ticks of what the windows grow in."""
ERROR_LABEL = "predicted over measured, less 1"
"""Label of the y-axis of predictions."""
BEYOND = 1e9
"""Per cent that stand for a prediction that is not finite."""


def shown_laws(selection: SelectionResult) -> list[Candidate]:
    """The laws whose predictions are drawn.

    Parameters
    ----------
    selection : SelectionResult
        With all laws.

    Returns
    -------
    list of Candidate
        At most MAX_LAWS, in the order of the ranking.
    """
    first = [one.name for one in selection.candidates if one.name in (selection.chosen, selection.reference)]
    wanted = first + [one.name for one in selection.candidates if one.reason is None and one.name not in first]
    wanted += [one.name for one in selection.candidates if one.name not in wanted]
    kept = set(wanted[:MAX_LAWS])
    return [one for one in selection.candidates if one.name in kept]


def draw_selection(selection: SelectionResult, figure: Figure, theme: Theme) -> None:
    """Fill a figure with the errors by law on the left, and the predictions of the best laws on the right."""
    width, height = figure.get_size_inches()
    errors = figure.add_axes((1.35 / width, 0.55 / height, 2.35 / width, (height - 1.0) / height))
    plot_law_errors(selection, ax=errors, theme=theme)
    laws = shown_laws(selection)
    columns = min(len(laws), COLUMNS)
    rows = -(-len(laws) // COLUMNS)
    left, right, gap, top, bottom = 4.85, 0.95, 0.3, 0.45, 0.55
    wide = (width - left - right - gap * (columns - 1)) / columns
    high = (height - top - bottom - 0.45 * (rows - 1)) / rows
    for place, law in enumerate(laws):
        row, column = divmod(place, COLUMNS)
        corner = (left + column * (wide + gap), height - top - (row + 1) * high - row * 0.45)
        ax = figure.add_axes((corner[0] / width, corner[1] / height, wide / width, high / height))
        plot_predictions(selection, law, ax=ax, theme=theme)
        if column:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
        if place + COLUMNS < len(laws):
            ax.set_xlabel("")
    _draw_key(selection, figure, theme, x=(width - right + 0.12) / width, top=(height - top) / height)


def plot_law_errors(selection: SelectionResult, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the mean absolute held-out error of every law, with its interval.

    Parameters
    ----------
    selection : SelectionResult
        What is shown.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours: the chosen law in the accent, laws that are not identified in grey.

    Returns
    -------
    Axes
        What was drawn on.
    """
    ax = axes_or_new(ax)
    laws = selection.candidates
    low, high = _error_limits(laws)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(len(laws) - 0.4, -0.6)
    for place, one in enumerate(laws):
        chosen, colour = one.name == selection.chosen, _colour(selection, one, theme)
        value, lo, hi = one.score.mape.value, one.score.mape.lo, one.score.mape.hi
        if lo is not None and hi is not None:
            ends = [max(100 * lo, low), min(100 * hi, high)]
            ax.plot(ends, [place] * 2, color=colour, linewidth=1.8 if chosen else 1.3)
        if 100 * value < high:
            inside = theme.paper if one.reason is not None else colour
            ax.plot(100 * value, place, "o", color=colour, markerfacecolor=inside, markersize=6.5 if chosen else 5)
        else:
            ax.plot(high, place, ">", color=colour, markersize=5, clip_on=False)
    ax.set_yticks(range(len(laws)), [one.name for one in laws], fontsize=8.5)
    for label, one in zip(ax.get_yticklabels(), laws, strict=True):
        label.set_color(_colour(selection, one, theme))
        label.set_fontweight("bold" if one.name == selection.chosen else "normal")
    ax.tick_params(axis="y", length=0)
    log_axis(ax, "x", "held-out error, %", kind="number", target=4)
    ax.grid(False, axis="y")
    ax.set_title("Error on larger runs")
    return ax


def _error_limits(laws: tuple[Candidate, ...]) -> tuple[float, float]:
    """Limits of the axis of errors, per cent: errors of half the loss or more are beyond it."""
    mapes = [one.score.mape for one in laws]
    finite = [mape.value for mape in mapes if np.isfinite(mape.value)]
    ends = [end for mape in mapes for end in (mape.lo, mape.hi) if end is not None and np.isfinite(end)]
    ceiling = 100 * min(finite)
    inside = 100 * np.array([value for value in (*finite, *ends) if 0 < value < ceiling / 2])
    return log_limits(inside, pad=0.1) if inside.size else (0.1, 10.0)


def _colour(selection: SelectionResult, law: Candidate, theme: Theme) -> str:
    if law.name == selection.chosen:
        return theme.accent
    return theme.ink if law.reason is None else theme.muted


def plot_predictions(
    selection: SelectionResult, law: Candidate, *, ax: Axes | None = None, theme: Theme = LIGHT
) -> Axes:
    """Draw the errors of a law's held-out predictions by compute, in a colour for each window.

    Parameters
    ----------
    selection : SelectionResult
        What is shown.
    law : Candidate
        One of its laws.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; errors beyond it are triangles at its edge.
    """
    ax = axes_or_new(ax)
    reach = _reach(selection)
    errors = np.nan_to_num(_errors(selection, law), nan=BEYOND, posinf=BEYOND, neginf=-BEYOND)
    colours = theme.budget_colours(len(selection.windows))
    ax.axhline(0, color=theme.muted, linewidth=0.8)
    for window, row, colour in zip(selection.windows, errors, colours, strict=True):
        x, y = selection.compute[window.held], row[window.held]
        inside = np.abs(y) <= reach
        ax.plot(x[inside], y[inside], "o", color=colour, markersize=3.2, alpha=0.8, markeredgewidth=0)
        for marker, edge, beyond in (("^", 0.97 * reach, y > reach), ("v", -0.97 * reach, y < -reach)):
            edges = np.full(int(beyond.sum()), edge)
            ax.plot(x[beyond], edges, marker, color=colour, markersize=3.6, markeredgewidth=0)
    ever = selection.held.any(axis=0)
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(selection.compute[ever], pad=0.07))
    ax.set_ylim(-reach, reach)
    label, kind = AXES[selection.axis]
    log_axis(ax, "x", label, kind=kind, target=2)
    ax.xaxis.label.set_fontsize(8.5)
    ax.tick_params(axis="x", labelsize=7.0)
    percent_axis(ax.yaxis, target=5, symmetric=True)
    ax.set_ylabel(ERROR_LABEL, fontsize=8.5)
    title, weight = f"{law.name}: {format_percent(law.score.mape.value)}", "normal"
    if law.name == selection.chosen:
        weight = "bold"
    ax.set_title(title, color=_colour(selection, law, theme), fontsize=8.5, fontweight=weight)
    return ax


def _reach(selection: SelectionResult) -> float:
    """Half-height of the panels in per cent: all errors of the chosen (or best) law fit, and most of the others'."""
    laws = shown_laws(selection)
    by_law = {one.name: np.abs(_errors(selection, one)[selection.held]) for one in laws}
    main = by_law.get(selection.chosen or laws[0].name, by_law[laws[0].name])
    typical = [float(np.quantile(values, 0.9)) for values in by_law.values() if np.isfinite(values).all()]
    largest = float(main[np.isfinite(main)].max(initial=0.1))
    return 1.12 * max(largest, min(max(typical, default=0.1), 2.5 * largest))


def _errors(selection: SelectionResult, law: Candidate) -> Array:
    """Errors in per cent, shape (W, n)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(100 * (law.predicted - selection.losses) / np.abs(selection.losses))


def _draw_key(selection: SelectionResult, figure: Figure, theme: Theme, *, x: float, top: float) -> None:
    """Which colour is which cut-off, below each other from (x, top) of the figure."""
    colours = theme.budget_colours(len(selection.windows))
    height = float(figure.get_size_inches()[1])
    figure.text(x, top, "fitted up to", fontsize=7.6, va="top", color=theme.ink)
    write = format_compute if selection.axis == "flops" else format_number
    for place, (window, colour) in enumerate(zip(selection.windows, colours, strict=True), start=1):
        text = "the other runs" if window.cutoff is None else write(window.cutoff)
        figure.text(x, top - 0.19 * place / height, f"● {text}", fontsize=7.6, va="top", color=colour)
    if any(one.reason is not None for one in selection.candidates):
        text = "grey: not\nidentified"
        figure.text(x, 0.55 / height, text, fontsize=7.6, va="bottom", color=theme.muted, linespacing=1.3)


def save_selection(selection: SelectionResult, folder: Path) -> None:
    """Write selection.png, selection-dark.png and selection.svg.

    Parameters
    ----------
    selection : SelectionResult
        What is shown.
    folder : Path
        Where they go.
    """
    draw = partial(draw_selection, selection)
    save_figure(draw, folder, "selection", size=SIZE)
    save_png(draw, folder / "selection-dark.png", size=SIZE, theme=DARK)
