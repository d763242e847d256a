"""The figure of what pre-training is worth: examples from scratch that reach the same loss, against examples.

It fits nothing.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.drawing.axes import EndLabel, label_ends, log_axis, log_limits, panels
from analysis.figures.drawing.theme import Theme
from analysis.formatting import format_size
from analysis.study.tuning import TuningStudy

LABEL_INCHES = 1.0
"""Room for the names of bodies right of the panel."""
DODGE = 1.03
"""Factor along x between neighbouring bodies, so that their bars do not hide each other."""


def draw_worth(study: TuningStudy, figure: Figure, theme: Theme) -> None:
    """Fill a figure with one line for each body; a triangle is a bound.

    Parameters
    ----------
    study : TuningStudy
        What is shown.
    figure : Figure
        Which is filled.
    theme : Theme
        Colours.
    """
    ax = panels(figure, right=LABEL_INCHES)[0]
    ax.set_xscale("log")
    ax.set_yscale("log")
    worth, ends = study.worth, []
    bodies = worth["params"].drop_duplicates().sort_values().tolist()
    colours = theme.budget_colours(len(bodies))
    for place, (params, colour) in enumerate(zip(bodies, colours, strict=True)):
        line = worth[worth["params"] == params].sort_values("examples")
        x = line["examples"].to_numpy(dtype=float) * DODGE ** (place - (len(bodies) - 1) / 2)
        y = line["worth"].to_numpy(dtype=float)
        ax.plot(x, y, color=colour, linewidth=1.3)
        for at, value, row in zip(x, y, line.to_dict("records"), strict=True):
            is_bound = "bound" in str(row["reason"]) or "no upper end" in str(row["reason"])
            ax.plot(at, value, "^" if is_bound else "o", color=colour, markersize=5 if is_bound else 4.5, zorder=3)
            if row["hi"] is not None and np.isfinite(row["hi"]):
                ax.plot([at, at], [row["lo"], row["hi"]], color=colour, linewidth=0.8)
        ends.append(EndLabel(x=float(x[-1]), y=float(y[-1]), text=f"N = {format_size(params)}", colour=colour))
    low, high = log_limits(worth["examples"].to_numpy(dtype=float))
    ax.set_xlim(low, high)
    ax.set_ylim(*log_limits(np.concatenate([worth["worth"], worth["examples"]]).astype(float)))
    ax.plot([low, high], [low, high], color=theme.muted, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    log_axis(ax, "x", "training examples", kind="size", target=4)
    log_axis(ax, "y", "examples from scratch for the same loss", kind="size", target=4)
    ax.grid(True, linewidth=0.6)
    label_ends(ax, ends)
