"""The held-out prediction: every held-out run beside what was predicted for it.

It draws what a study holds, and fits nothing.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.estimate import percent_text
from analysis.figures.drawing.axes import axes_or_new, log_axis, log_limits, panels, percent_axis
from analysis.figures.drawing.marks import DOTTED, mark
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_size
from analysis.study.study import HeldOut, Study

BAR = 0.36
"""Width of a bar; two bars stand at each run."""
HEADROOM = 0.19
"""Part of the height that is kept free for the words above the bars."""
MAX_LABELS = 8
"""About how many runs have their size written below."""


def draw_heldout(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_heldout` and `plot_heldout_errors`."""
    left, right = panels(figure, (1.35, 1), left=0.62, gap=0.95)
    plot_heldout(study, ax=left, theme=theme)
    plot_heldout_errors(study, ax=right, theme=theme)


def plot_heldout(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw every held-out run.

    Each shows its measured loss, the prediction with its interval, and the loss of the best smaller run carried
    forward.

    Parameters
    ----------
    study : Study
        With held-out runs.
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
    rows = _held(study).rows
    colours = theme.budget_colours(len(study.budgets))
    values = rows[["budget", "lo", "hi", "predicted", "measured"]].to_numpy(dtype=float)
    for place, (budget, lo, hi, predicted, measured) in enumerate(values):
        colour = colours[study.colour_index(budget)]
        ax.plot([place] * 2, [lo, hi], color=theme.accent, linewidth=5, alpha=0.35, solid_capstyle="butt")
        ax.plot(place, predicted, "_", color=theme.accent, markersize=11, markeredgewidth=1.8, zorder=3)
        ax.plot(place, measured, markersize=5, zorder=4, **mark("s", colour, paper=theme.paper))
    carried = rows["carried_forward"].to_numpy(dtype=float)
    if bool((carried == carried[0]).all()):
        ax.axhline(float(carried[0]), color=theme.muted, linewidth=1.0, linestyle=DOTTED)
    else:
        places = np.arange(len(rows))
        ax.hlines(carried, places - 0.4, places + 0.4, color=theme.muted, linewidth=1.0, linestyle=DOTTED)
    everything = np.concatenate([rows[name].to_numpy() for name in ("lo", "hi", "measured", "carried_forward")])
    low, high = log_limits(everything, pad=0.06)
    ax.set_yscale("log")
    ax.set_ylim(low, high * (high / low) ** 0.25)
    ax.set_xlim(-0.6, len(rows) - 0.4)
    _label_runs(ax, rows["params"].to_numpy(dtype=float))
    log_axis(ax, "y", f"validation loss, {study.loss_unit}", kind="number", target=6)
    ax.grid(False, axis="x")
    ax.set_title("Held-out runs")
    _draw_marker_key(ax, theme, colours[-1])
    return ax


def plot_heldout_errors(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the error of the prediction for every held-out run, beside that of carrying the best smaller run forward.

    Parameters
    ----------
    study : Study
        With held-out runs.
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
    held = _held(study)
    rows = held.rows
    errors = np.concatenate([rows["error_fraction"].to_numpy(), rows["carried_error"].to_numpy()]) * 100
    places = np.arange(len(rows))
    ax.axhline(0, color=theme.muted, linewidth=0.8)
    ax.bar(places - BAR / 2, 100 * rows["error_fraction"], BAR, color=theme.accent, label="law")
    ax.bar(places + BAR / 2, 100 * rows["carried_error"], BAR, color=theme.muted, label="carried forward")
    reach = float(np.abs(errors).max()) or 1.0
    lo = min(errors.min(), 0) - 0.08 * reach
    ax.set_ylim(lo, lo + (max(errors.max(), 0) + 0.03 * reach - lo) / (1 - HEADROOM))
    percent_axis(ax.yaxis, target=6)
    _label_runs(ax, rows["params"].to_numpy(dtype=float))
    ax.set_ylabel("predicted less measured")
    ax.grid(True, axis="y", linewidth=0.6)
    ax.set_title("Error of the prediction")
    text = f"law: mean {percent_text(held.mape)}", f"carried forward: mean {percent_text(held.carried_mape)}"
    for line, (words, colour) in enumerate(zip(text, (theme.accent, theme.muted), strict=True)):
        ax.text(0.03, 0.95 - 0.07 * line, words, transform=ax.transAxes, fontsize=7.6, color=colour, va="center")
    return ax


def _held(study: Study) -> HeldOut:
    assert study.heldout is not None, "the study holds no run out"
    return study.heldout


def _label_runs(ax: Axes, params: np.ndarray) -> None:
    """Sizes of the held-out runs along x, all or some of them."""
    step = max(1, math.ceil(params.size / MAX_LABELS))
    places = np.arange(params.size)
    ax.set_xticks(places[::step], [format_size(value) for value in params[::step]])
    ax.set_xlabel("N of the held-out run, parameters")


def _draw_marker_key(ax: Axes, theme: Theme, colour: str) -> None:
    """What the marks are, in the upper margin."""
    entries = (("s", colour, "measured"), ("_", theme.accent, "predicted, with prediction interval"))
    for row, (marker, shade, text) in enumerate(entries):
        height = 0.955 - 0.065 * row
        ax.plot(0.04, height, marker, color=shade, transform=ax.transAxes, markersize=6, markeredgewidth=1.6)
        ax.text(0.075, height, text, transform=ax.transAxes, fontsize=7.6, va="center", color=theme.ink)
    ax.plot([0.025, 0.055], [0.825] * 2, color=theme.muted, linestyle=DOTTED, transform=ax.transAxes)
    ax.text(0.075, 0.825, "best smaller run carried forward", transform=ax.transAxes, fontsize=7.6, va="center")
