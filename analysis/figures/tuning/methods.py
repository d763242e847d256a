"""Figures of a fine-tuning sweep: what methods reach from how many examples, at which size, rate and cost.

One colour for each method. Squares were held out; hollow marks have their best rate at the edge of those tried, so that
their losses are upper bounds. Bars are the noise between seeds, where there are several. It fits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.drawing.axes import EndLabel, axes_or_new, label_ends, log_axis, log_limits, panels
from analysis.figures.drawing.marks import mark
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_size
from analysis.study.methods import REFERENCE, arm_key
from analysis.study.tuning import TuningStudy

DODGE = 1.025
"""Factor along x between neighbouring methods, so that their bars do not hide each other."""
LABEL_INCHES = 0.85
"""Room for the names of methods right of each panel."""


def arm_colours(study: TuningStudy, theme: Theme) -> dict[str, str]:
    """One colour for each method, the same in every figure.

    Parameters
    ----------
    study : TuningStudy
        Whose methods they are.
    theme : Theme
        Colours.

    Returns
    -------
    dict of str to str
        Colours by method.
    """
    arms = sorted(study.arms, key=arm_key)
    return dict(zip(arms, theme.category_colours(len(arms)), strict=True))


def plot_lines(
    cells: pd.DataFrame,
    x: str,
    y: str,
    colours: Mapping[str, str],
    *,
    bars: str | None = None,
    ax: Axes | None = None,
    theme: Theme = LIGHT,
) -> Axes:
    """Draw one line for each method over a logarithmic x-axis.

    Parameters
    ----------
    cells : DataFrame
        Of a TuningStudy; rows without a number are left out.
    x, y : str
        Columns.
    colours : mapping of str to str
        By method.
    bars : str, optional
        Column of half the length of the bars.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        With the names of methods at the ends of their lines.
    """
    ax = axes_or_new(ax)
    shown = cells[cells[y].notna() & (cells[x] > 0)]
    ends = []
    arms = sorted(shown["arm"].unique(), key=arm_key)
    for place, arm in enumerate(arms):
        line, colour = shown[shown["arm"] == arm].sort_values(x), colours[str(arm)]
        line = line.assign(**{x: line[x] * DODGE ** (place - (len(arms) - 1) / 2)})
        reach = line[bars].fillna(0.0) if bars is not None else None
        ax.errorbar(line[x], line[y], yerr=reach, color=colour, linewidth=1.3, elinewidth=0.8, capsize=2)
        for row in line.to_dict("records"):
            form = "s" if row["role"] == "heldout" else "o"
            look = mark(form, colour, paper=theme.paper, flagged=bool(row["rate_at_edge"]))
            ax.plot(row[x], row[y], markersize=4.5, zorder=3, **look)
        last = float(line[x].iloc[-1])
        at_end = last > 0.7 * float(shown[x].max())  # names of lines that end together stand in one column
        last = float(shown[x].max()) * DODGE ** (len(arms) / 2) if at_end else last
        ends.append(EndLabel(x=last, y=float(line[y].iloc[-1]), text=str(arm), colour=colour))
    if len(shown):
        ax.set_xlim(*log_limits(shown[x].to_numpy(dtype=float)))
    ax.grid(True, linewidth=0.6)
    label_ends(ax, ends)
    return ax


def rows_and_columns(num_bodies: int) -> tuple[int, int]:
    """How the panels of bodies stand: in one row up to three, in two beyond.

    Parameters
    ----------
    num_bodies : int
        How many there are.
    """
    rows = 1 if num_bodies <= 3 else 2
    return rows, -(-num_bodies // rows)


def draw_examples(study: TuningStudy, y: str, label: str, figure: Figure, theme: Theme) -> None:
    """Fill a figure with one panel for each body: a measure against the number of examples.

    Parameters
    ----------
    study : TuningStudy
        What is shown.
    y : str
        Column of the cells.
    label : str
        Label of the y-axes.
    figure : Figure
        Which is filled.
    theme : Theme
        Colours.
    """
    bodies = study.bodies
    rows, columns = rows_and_columns(len(bodies))
    height = float(figure.get_size_inches()[1]) / rows
    axes = [
        ax
        for row in range(rows)
        for ax in panels(
            figure,
            [1.0] * columns,
            right=LABEL_INCHES,
            gap=LABEL_INCHES + 0.45,
            bottom=0.48 + (rows - 1 - row) * height,
            top=0.3 + row * height,
        )
    ]
    for ax in axes[len(bodies) :]:
        ax.set_visible(False)
    values = study.cells[study.cells["examples"] > 0][y].dropna()
    pad = 0.06 * (float(np.ptp(values)) or 1.0) if len(values) else 1.0
    for ax, body in zip(axes, bodies.to_dict("records"), strict=False):
        if len(values):
            ax.set_ylim(values.min() - pad, values.max() + pad)
        cells = study.cells[study.cells["pretrained"] == body["pretrained"]]
        bars = "loss_se" if y == "loss" else None
        ax.set_xscale("log")
        plot_lines(cells, "examples", y, arm_colours(study, theme), bars=bars, ax=ax, theme=theme)
        log_axis(ax, "x", "training examples", kind="size", target=4)
        ax.set_title(f"N = {format_size(float(body['params']))}")
    for ax in axes[::columns]:
        ax.set_ylabel(label)


def draw_sizes(study: TuningStudy, figure: Figure, theme: Theme) -> None:
    """Fill a figure with the loss at the most examples: against what learns, and against the size of several bodies."""
    most = study.cells[study.cells["examples"] == study.cells["examples"].max()]
    several = len(study.bodies) > 1
    axes = panels(figure, [1.0] * (1 + several), right=LABEL_INCHES, gap=LABEL_INCHES + 0.45)
    colours = arm_colours(study, theme)
    shown = [("params", "N of the body"), ("trainable_params", "parameters that learn")]
    for ax, (x, label) in zip(axes, shown if several else shown[1:], strict=True):
        ax.set_xscale("log")
        plot_lines(most, x, "loss", colours, bars="loss_se", ax=ax, theme=theme)
        log_axis(ax, "x", label, kind="size", target=4)
    axes[0].set_ylabel("test loss, nats per target")


def draw_rates(study: TuningStudy, figure: Figure, theme: Theme) -> None:
    """Fill a figure with the best rates against what learns."""
    trained = study.cells[study.cells["examples"] > 0]
    most = trained[trained["examples"] == trained["examples"].max()]
    ax = panels(figure, right=LABEL_INCHES)[0]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(*log_limits(most["lr"].to_numpy(dtype=float)))
    plot_lines(most, "trainable_params", "lr", arm_colours(study, theme), ax=ax, theme=theme)
    log_axis(ax, "x", "parameters that learn", kind="size")
    log_axis(ax, "y", "best peak rate on validation", kind="number")


def draw_pretraining(study: TuningStudy, y: str, label: str, figure: Figure, theme: Theme) -> None:
    """Fill a figure with a measure at the most examples against the pre-training loss of the bodies."""
    most = study.cells[study.cells["examples"] == study.cells["examples"].max()]
    most = most[most["pretrained_loss"].notna()]
    ax = panels(figure, right=LABEL_INCHES)[0]
    ax.set_xscale("log")
    plot_lines(most, "pretrained_loss", y, arm_colours(study, theme), ax=ax, theme=theme)
    log_axis(ax, "x", "pre-training validation loss, nats per token", kind="number")
    ax.set_ylabel(label)


def draw_ranks(study: TuningStudy, figure: Figure, theme: Theme) -> None:
    """Fill a figure with the best rate and the loss of methods against their sizes, on the largest body.

    Rates are those between the rates tried. Dashed: straight lines through the logarithms, where there are such; grey:
    full fine-tuning.
    """
    body = study.bodies["pretrained"].iloc[-1]
    most = study.cells[(study.cells["pretrained"] == body)]
    most = most[most["examples"] == most["examples"].max()]
    most = most.assign(lr=most["lr_vertex"].fillna(most["lr"]), loss_se=most["loss_se"].fillna(0.0))
    shown = most[most["size"] > 0].assign(arm=lambda cells: cells["method"])
    full = most[most["arm"] == REFERENCE]
    lines = study.slopes[study.slopes["pretrained"] == body]
    colours = dict(zip(sorted(shown["arm"].unique()), theme.category_colours(shown["arm"].nunique()), strict=True))
    axes = panels(figure, [1.0, 1.0], right=LABEL_INCHES, gap=LABEL_INCHES + 0.45)
    for ax, y, label in zip(axes, ("lr", "loss"), ("best peak rate", "test loss, nats per target"), strict=True):
        reach = "loss_se" if y == "loss" else None
        seen = pd.concat([shown, full])
        spread = seen[reach] if reach else 0.0
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(*log_limits(np.concatenate([seen[y] - spread, seen[y] + spread]).astype(float)))
        plot_lines(shown, "size", y, colours, bars=reach, ax=ax, theme=theme)
        for value in full[y]:
            ax.axhline(value, color=theme.muted, linewidth=1.0, zorder=1)
            ax.annotate(REFERENCE, (0.01, value), xycoords=("axes fraction", "data"), va="bottom", color=theme.muted)
        for line in lines[(lines["measure"] == y) & lines["slope"].notna()].to_dict("records"):
            of = shown[(shown["method"] == line["method"]) & ~shown["rate_at_edge"].astype(bool)]
            centre = np.log(of["size"]).mean(), np.log(of[y]).mean()
            sizes = np.array([of["size"].min(), of["size"].max()], dtype=float)
            fitted = np.exp(centre[1] + line["slope"] * (np.log(sizes) - centre[0]))
            ax.plot(sizes, fitted, linestyle="--", linewidth=1.0, color=theme.ink, zorder=2)
        log_axis(ax, "x", "size of the method", kind="size")
        log_axis(ax, "y", label, kind="number")
