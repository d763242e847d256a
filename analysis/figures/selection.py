"""Figure of a choice of law: errors by law with intervals, and every held-out prediction of the best. Draws; fits
nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.axes import log_axis, log_limits
from analysis.figures.render import save_png, standalone_svg, svg_text
from analysis.figures.theme import DARK, Theme
from analysis.formatting import format_percent
from analysis.selection.candidates import Candidate
from analysis.selection.select import SelectionResult
from experiments.files import write_atomic

SHOWN_LAWS = 6
"""Laws whose predictions are drawn: the best, and the chosen one and the reference in any case."""
SIZE = (11.0, 5.4)
"""Inches."""
AXIS_LABELS = {"flops": "C, FLOPs", "tokens": "D, tokens", "params": "N, parameters", "step": "step", "x": "x"}


def shown_laws(selection: SelectionResult) -> list[Candidate]:
    """The laws drawn on the right, in the order of the ranking."""
    first = [one.name for one in selection.candidates if one.name in (selection.chosen, selection.reference)]
    wanted = first + [one.name for one in selection.candidates if one.reason is None and one.name not in first]
    wanted += [one.name for one in selection.candidates if one.name not in wanted]
    kept = set(wanted[:SHOWN_LAWS])
    return [one for one in selection.candidates if one.name in kept]


def draw_selection(selection: SelectionResult, figure: Figure, theme: Theme) -> None:
    """Errors by law on the left, predicted over measured against compute for each law on the right."""
    width, height = figure.get_size_inches()
    errors = figure.add_axes((1.35 / width, 0.55 / height, 2.35 / width, (height - 1.0) / height))
    _draw_errors(selection, errors, theme)
    laws = shown_laws(selection)
    columns = min(len(laws), 3)
    rows = -(-len(laws) // 3)
    left, right, gap, top, bottom = 4.85, 0.95, 0.3, 0.45, 0.55
    wide = (width - left - right - gap * (columns - 1)) / columns
    high = (height - top - bottom - 0.45 * (rows - 1)) / rows
    reach = _reach(selection, laws)
    axes = []
    for place, law in enumerate(laws):
        row, column = divmod(place, 3)
        corner = (left + column * (wide + gap), height - top - (row + 1) * high - row * 0.45)
        ax = figure.add_axes((corner[0] / width, corner[1] / height, wide / width, high / height))
        _draw_predictions(selection, law, ax, theme, reach=reach)
        if column:
            ax.tick_params(labelleft=False)
        if place + 3 < len(laws):
            ax.set_xlabel("")
        axes.append(ax)
    axes[0].set_ylabel("predicted over measured, less 1", fontsize=8.5)
    if len(axes) > 3:
        axes[3].set_ylabel("predicted over measured, less 1", fontsize=8.5)
    _key(selection, figure, theme, x=(width - right + 0.12) / width, top=(height - top) / height)


def _draw_errors(selection: SelectionResult, ax: Axes, theme: Theme) -> None:
    """Mean absolute held-out error of every law, with its interval, on a log axis."""
    laws = selection.candidates
    finite = [one.score.mape.value for one in laws if np.isfinite(one.score.mape.value)]
    ends = [e for one in laws for e in (one.score.mape.lo, one.score.mape.hi) if e is not None and np.isfinite(e)]
    ceiling = 100 * min(finite)
    inside = 100 * np.array([v for v in (*finite, *ends) if 0 < v < ceiling / 2])
    low, high = log_limits(inside, pad=0.1) if inside.size else (0.1, 10.0)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(len(laws) - 0.4, -0.6)
    for place, one in enumerate(laws):
        chosen = one.name == selection.chosen
        colour = theme.accent if chosen else theme.ink if one.reason is None else theme.muted
        value, lo, hi = (
            None if v is None else 100 * v for v in (one.score.mape.value, one.score.mape.lo, one.score.mape.hi)
        )
        assert value is not None
        if lo is not None and hi is not None:
            ax.plot([max(lo, low), min(hi, high)], [place] * 2, color=colour, linewidth=1.8 if chosen else 1.3)
        if value < high:
            paper = theme.paper if one.reason is not None else colour
            ax.plot(value, place, "o", color=colour, markerfacecolor=paper, markersize=6.5 if chosen else 5)
        else:
            ax.plot(high, place, ">", color=colour, markersize=5, clip_on=False)
    ax.set_yticks(range(len(laws)), [one.name for one in laws], fontsize=8.5)
    for label, one in zip(ax.get_yticklabels(), laws, strict=True):
        label.set_color(
            theme.accent if one.name == selection.chosen else theme.ink if one.reason is None else theme.muted
        )
        label.set_fontweight("bold" if one.name == selection.chosen else "normal")
    ax.tick_params(axis="y", length=0)
    log_axis(ax, "x", "held-out error, %", kind="number", target=4)
    ax.grid(False, axis="y")
    ax.set_title("Error on larger runs")


def _reach(selection: SelectionResult, laws: list[Candidate]) -> float:
    """Half-height of the panels in per cent: all errors of the chosen (or best) law fit, and most of the others'."""
    held = selection.held
    by_law = {one.name: np.abs(_errors(selection, one)[held]) for one in laws}
    main = by_law.get(selection.chosen or laws[0].name, by_law[laws[0].name])
    typical = [float(np.quantile(values, 0.9)) for values in by_law.values() if np.isfinite(values).all()]
    largest = float(main[np.isfinite(main)].max(initial=0.1))
    return 1.12 * max(largest, min(max(typical, default=0.1), 2.5 * largest))


def _errors(selection: SelectionResult, law: Candidate) -> np.ndarray:
    """Errors in per cent, shape (W, n)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return 100 * (law.predicted - selection.losses) / np.abs(selection.losses)


def _draw_predictions(selection: SelectionResult, law: Candidate, ax: Axes, theme: Theme, *, reach: float) -> None:
    """Errors of one law's held-out predictions by compute, one colour a window; beyond the panel as triangles."""
    errors = np.nan_to_num(_errors(selection, law), nan=1e9, posinf=1e9, neginf=-1e9)
    colours = theme.budget_colours(len(selection.windows))
    ax.axhline(0, color=theme.muted, linewidth=0.8)
    for place, window in enumerate(selection.windows):
        x, y = selection.compute[window.held], errors[place, window.held]
        inside = np.abs(y) <= reach
        ax.plot(x[inside], y[inside], "o", color=colours[place], markersize=3.2, alpha=0.8, markeredgewidth=0)
        for mark, beyond in (("^", y > reach), ("v", y < -reach)):
            ax.plot(
                x[beyond], np.full(int(beyond.sum()), np.copysign(0.97 * reach, 1 if mark == "^" else -1)), mark,
                color=colours[place], markersize=3.6, markeredgewidth=0,
            )  # fmt: skip
    ever = selection.held.any(axis=0)
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(selection.compute[ever], pad=0.07))
    ax.set_ylim(-reach, reach)
    kind = {"flops": "flops", "tokens": "size", "params": "size"}.get(selection.axis, "number")
    log_axis(ax, "x", AXIS_LABELS[selection.axis], kind=kind, target=2)
    ax.xaxis.label.set_fontsize(8.5)
    ax.tick_params(axis="x", labelsize=7.0)
    ax.yaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    chosen = law.name == selection.chosen
    colour = theme.accent if chosen else theme.ink if law.reason is None else theme.muted
    title = f"{law.name}: {format_percent(law.score.mape.value)}"
    ax.set_title(title, color=colour, fontsize=8.5, fontweight="bold" if chosen else "normal")


def _key(selection: SelectionResult, figure: Figure, theme: Theme, *, x: float, top: float) -> None:
    """Which colour is which cut-off."""
    colours = theme.budget_colours(len(selection.windows))
    height = float(figure.get_size_inches()[1])
    figure.text(x, top, "fitted up to", fontsize=7.6, va="top", color=theme.ink)
    for place, window in enumerate(selection.windows):
        text = "the other runs" if window.cutoff is None else window.name.split(" above ")[1]
        figure.text(x, top - 0.19 * (place + 1) / height, f"● {text}", fontsize=7.6, va="top", color=colours[place])
    if any(one.reason is not None for one in selection.candidates):
        figure.text(
            x, 0.55 / height, "grey: not\nidentified", fontsize=7.6, va="bottom", color=theme.muted, linespacing=1.3
        )


def save_selection(selection: SelectionResult, folder: Path) -> None:
    """Write selection.svg, selection.png and selection-dark.png."""

    def draw(figure: Figure, theme: Theme) -> None:
        draw_selection(selection, figure, theme)

    save_png(draw, folder / "selection.png", size=SIZE)
    save_png(draw, folder / "selection-dark.png", size=SIZE, theme=DARK)
    text = standalone_svg(svg_text(draw, size=SIZE), num_budgets=len(selection.windows))
    write_atomic(folder / "selection.svg", text)
