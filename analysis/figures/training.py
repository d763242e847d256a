"""Training loss by tokens for every run that has a curve, one panel per compute budget. Draws; reads nothing."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.axes import log_axis, log_limits
from analysis.figures.theme import Theme
from analysis.formatting import format_compute, format_size
from analysis.study.study import Study

MAX_PANELS = 6
"""Most budgets with a panel of their own; with more, the smallest ones are left out and the caption says so."""


def training_budgets(study: Study) -> list[float]:
    """Budgets that have curves, ascending, at most MAX_PANELS of the largest."""
    frame = study.table.frame
    known = (
        frame["run_id"].astype(str).isin(study.curves)
        if "run_id" in frame.columns
        else np.zeros(len(frame), dtype=bool)
    )
    indices = sorted({study.colour_index(value) for value in frame.loc[known, "budget_group"]})
    return [study.budgets[index] for index in indices][-MAX_PANELS:]


def training_size(study: Study) -> tuple[float, float]:
    """Inches of the figure."""
    count = max(1, len(training_budgets(study)))
    return 10.5, 0.35 + 2.65 * math.ceil(count / training_columns(count))


def training_columns(count: int) -> int:
    """Panels a row: up to three, and four in two rows of two."""
    return 2 if count == 4 else min(3, max(count, 1))


def draw_training(study: Study, figure: Figure, theme: Theme) -> None:
    """Training loss (dots at the end: validation loss of the decayed model) with sizes listed where no curve runs."""
    frame = study.table.frame
    budgets = training_budgets(study)
    columns = training_columns(len(budgets))
    rows = math.ceil(len(budgets) / columns)
    width, height = figure.get_size_inches()
    colours = theme.budget_colours(len(study.budgets))
    curves = list(study.curves.values())
    settled = np.concatenate([curve["train_loss"].to_numpy()[len(curve) // 20 :] for curve in curves])
    losses = np.concatenate([settled, frame["loss"].to_numpy(dtype=float)])
    limits = log_limits([float(losses.min()), float(np.quantile(losses, 0.985))], pad=0.05)
    wide = (width - 0.62 - 0.25 - 0.75 * (columns - 1)) / columns
    tall = (height - 0.3 - 0.48 - 0.85 * (rows - 1)) / rows
    for place, budget in enumerate(budgets):
        row, column = divmod(place, columns)
        left, bottom = 0.62 + column * (wide + 0.75), height - 0.3 - tall - row * (tall + 0.85)
        ax = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
        index = study.colour_index(budget)
        members = frame[frame["budget_group"].map(study.colour_index) == index].sort_values("params")
        sizes: dict[str, float] = {}
        starts, lasts = [], []
        shade = np.linspace(0.45, 1.0, max(len(members), 1))
        runs = zip(members["run_id"].astype(str), members["params"], members["loss"], shade, strict=True)
        for run_id, size, loss, alpha in runs:
            curve = study.curves.get(run_id)
            if curve is None:
                continue
            ax.plot(curve["tokens"], curve["train_loss"], color=colours[index], linewidth=0.9, alpha=float(alpha))
            last = float(curve["tokens"].iloc[-1])
            ax.plot(last, loss, "o", color=colours[index], markersize=3)
            starts.append(float(curve["tokens"].iloc[0]))
            lasts.append(last)
            sizes[format_size(size)] = float(alpha)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(*log_limits([max(min(starts), min(lasts) / 1e3), max(lasts)], pad=0.03))
        ax.set_ylim(*limits)
        log_axis(
            ax, "x", "D, tokens" if row == rows - 1 or place + columns >= len(budgets) else "", kind="size", target=4
        )
        log_axis(ax, "y", "training loss, nats per token" if column == 0 else "", kind="number", target=5)
        ax.set_title(f"C = {format_compute(budget)}", color=colours[index])
        for line, (text, alpha) in enumerate(reversed(sizes.items())):
            level = 0.95 - 0.075 * line
            ax.plot([0.79, 0.85], [level] * 2, color=colours[index], alpha=alpha, transform=ax.transAxes)
            ax.text(0.87, level, text, transform=ax.transAxes, va="center", fontsize=6.8, color=theme.ink)
