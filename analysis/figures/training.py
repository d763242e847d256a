"""Training curves: loss by tokens of every run that has a curve, one panel for each compute budget.

It draws what a study holds, and reads nothing.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.drawing.axes import EndLabel, axes_or_new, label_ends, log_axis, log_limits, panels
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_compute, format_size
from analysis.study.collapse import FRACTIONS
from analysis.study.study import Study

MAX_PANELS = 6
"""Most budgets with a panel of their own. With more, the smallest ones are left out, and the caption says so."""
LEFT, RIGHT, TOP, BOTTOM = 0.62, 0.25, 0.3, 0.48
"""Margins of the figure, inches."""
KEY_WIDTH = 0.85
"""Inches for the key of sizes right of the panels, where no cell is free for it."""
MAX_KEY = 12
"""Most sizes in the key; of more, evenly spaced ones are named."""
GAP_ACROSS, GAP_DOWN = 0.75, 0.85
"""Space between panels, inches."""
LONGEST_START = 1e3
"""The x-axis starts at most this factor before the end of the shortest run."""
OUTSIDE = 0.015
"""Part of the losses, the first and largest ones, that lies above the frame."""


def training_budgets(study: Study) -> list[float]:
    """Budgets that have curves.

    Parameters
    ----------
    study : Study
        With or without curves.

    Returns
    -------
    list of float
        C, ascending: the largest ones, at most MAX_PANELS.
    """
    frame = study.table.frame
    if "run_id" not in frame.columns:
        return []
    known = frame["run_id"].astype(str).isin(study.curves)
    indices = sorted({study.colour_index(value) for value in frame.loc[known, "budget_group"]})
    return [study.budgets[index] for index in indices][-MAX_PANELS:]


def training_size(study: Study) -> tuple[float, float]:
    """Inches of the figure."""
    count = max(1, len(training_budgets(study)))
    return 10.5, 0.35 + 2.65 * math.ceil(count / _columns(count))


def _columns(count: int) -> int:
    """Panels a row: up to three, and four in two rows of two."""
    return 2 if count == 4 else min(3, max(count, 1))


def draw_training(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_training` of each budget, on one scale of loss."""
    budgets = training_budgets(study)
    columns = _columns(len(budgets))
    rows = math.ceil(len(budgets) / columns)
    width, height = figure.get_size_inches()
    free_cell = len(budgets) < rows * columns
    right = RIGHT if free_cell else KEY_WIDTH
    wide = (width - LEFT - right - GAP_ACROSS * (columns - 1)) / columns
    tall = (height - TOP - BOTTOM - GAP_DOWN * (rows - 1)) / rows
    for place, budget in enumerate(budgets):
        row, column = divmod(place, columns)
        left, bottom = LEFT + column * (wide + GAP_ACROSS), height - TOP - tall - row * (tall + GAP_DOWN)
        ax = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
        plot_training(study, budget, ax=ax, theme=theme, key=False)
        if column > 0:
            ax.set_ylabel("")
        if place + columns < len(budgets):
            ax.set_xlabel("")
    if budgets:
        left = LEFT + (columns - 1) * (wide + GAP_ACROSS) if free_cell else width - right + 0.1
        top = TOP + (rows - 1) * (tall + GAP_DOWN) if free_cell else TOP
        _draw_sizes(study, figure, theme, left=left / width, top=1 - top / height)


def _shades(study: Study) -> dict[float, float]:
    """Depth of colour by size, the same in every panel: the larger the model, the deeper."""
    frame = study.table.frame
    known = sorted(frame.loc[frame["run_id"].astype(str).isin(study.curves), "params"].unique())
    return dict(zip(map(float, known), np.linspace(0.3, 1.0, max(len(known), 1)).tolist(), strict=True))


def _draw_sizes(study: Study, figure: Figure, theme: Theme, *, left: float, top: float) -> None:
    """The key: a sample line of each size in grey, the largest first, from a corner of the figure downwards."""
    sizes = sorted(_shades(study).items(), reverse=True)
    step = -(-len(sizes) // MAX_KEY)
    width, height = figure.get_size_inches()
    figure.text(left, top, "N, parameters", fontsize=7.5, color=theme.ink, va="top")
    for row, (size, shade) in enumerate(sizes[::step]):
        level = top - (0.27 + 0.16 * row) / height
        ends = [left, left + 0.25 / width]
        figure.add_artist(Line2D(ends, [level] * 2, color=theme.ink, alpha=shade, linewidth=1.2))
        figure.text(left + 0.32 / width, level, format_size(size), va="center", fontsize=7, color=theme.ink)


def plot_training(
    study: Study, budget: float, *, ax: Axes | None = None, theme: Theme = LIGHT, key: bool = True
) -> Axes:
    """Draw the training loss of the runs of one budget, deeper in colour for larger models.

    The dot at the end of a curve is the validation loss of the decayed model.

    Parameters
    ----------
    study : Study
        With curves.
    budget : float
        One of `training_budgets`.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.
    key : bool
        Whether sizes are written beside the ends of their curves.

    Returns
    -------
    Axes
        What was drawn on.
    """
    ax = axes_or_new(ax)
    frame, index = study.table.frame, study.colour_index(budget)
    colour = theme.budget_colours(len(study.budgets))[index]
    members = frame[frame["budget_group"].map(study.colour_index) == index].sort_values("params")
    shades = _shades(study)
    ends: dict[str, EndLabel] = {}
    starts, lasts = [], []
    for run_id, size, loss in zip(members["run_id"].astype(str), members["params"], members["loss"], strict=True):
        curve = study.curves.get(run_id)
        if curve is None:
            continue
        ax.plot(curve["tokens"], curve["train_loss"], color=colour, linewidth=0.9, alpha=shades[float(size)])
        starts.append(float(curve["tokens"].iloc[0]))
        lasts.append(float(curve["tokens"].iloc[-1]))
        ax.plot(lasts[-1], loss, "o", color=colour, markersize=3)
        ends[format_size(size)] = EndLabel(lasts[-1], float(loss), format_size(size), colour)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*log_limits([max(min(starts), min(lasts) / LONGEST_START), max(lasts)], pad=0.03))
    ax.set_ylim(*_loss_limits(study))
    log_axis(ax, "x", "D, tokens", kind="size", target=4)
    log_axis(ax, "y", "training loss, nats per token", kind="number", target=5)
    ax.set_title(f"C = {format_compute(budget)}", color=colour)
    if key:
        label_ends(ax, list(ends.values()), size=6.8, outside=True)
    return ax


def _loss_limits(study: Study) -> tuple[float, float]:
    """Of all panels: losses of runs, and of curves after their first twentieth."""
    settled = [curve["train_loss"].to_numpy()[len(curve) // 20 :] for curve in study.curves.values()]
    losses = np.concatenate([*settled, study.table.frame["loss"].to_numpy(dtype=float)])
    return log_limits([float(losses.min()), float(np.quantile(losses, 1 - OUTSIDE))], pad=0.05)


def draw_collapse(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_collapse`."""
    plot_collapse(study, ax=panels(figure, right=1.0)[0], theme=theme)


def plot_collapse(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the normalised training curves of all runs; those that leave the common one are named.

    Parameters
    ----------
    study : Study
        With a collapse.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; empty for a study without a collapse.
    """
    ax = axes_or_new(ax)
    if study.collapse is None:
        return ax
    frame = study.table.frame
    budgets = dict(zip(frame["run_id"].astype(str), frame["budget_group"], strict=True))
    colours = theme.budget_colours(len(study.budgets))
    ends = []
    for run_id, values in zip(study.collapse.run_ids, study.collapse.normalised, strict=True):
        colour = colours[study.colour_index(float(budgets[run_id]))]
        far = run_id in study.collapse.far
        ax.plot(FRACTIONS, values, color=colour, linewidth=1.6 if far else 0.8, alpha=1.0 if far else 0.55)
        if far:
            ends.append(EndLabel(x=float(FRACTIONS[-1]), y=float(values[-1]), text=run_id, colour=colour))
    common = study.collapse.common
    ax.plot(FRACTIONS, common, color=theme.ink, linewidth=1.2, linestyle="--")
    ends.append(EndLabel(x=float(FRACTIONS[-1]), y=float(common[-1]), text="common curve", colour=theme.ink))
    label_ends(ax, ends)
    ax.set_xlabel("part of a run's tokens")
    ax.set_ylabel("loss above E over its last value")
    ax.set_title("Normalised training curves")
    return ax
