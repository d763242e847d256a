"""One figure for any law: runs by series, the fitted law with its band, and its errors.

Filled points were fitted, diamonds were held out. A curve is solid over the runs that were fitted and dashed beyond
them. Bands are the interval of the law. It holds no data, and fits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.figures.drawing.axes import EndLabel, TickKind, axes_or_new, label_ends, log_axis, log_limits
from analysis.figures.drawing.render import save_png
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.fitting.fit import Fit

SIZE = (6.4, 4.9)
"""Inches."""
GRID = 80
"""Points of a curve."""
LABELS, POINTS, DENSE = 2.2, 2.6, 1.5
"""Order of drawing: points lie over labels, labels over curves, and points of dense series under these."""
MAX_SPARSE = 60
"""Rows above which a series is dense."""
LATE = 0.92
"""Part of the rows of training curves that is inside the frame; the others are the first and largest losses."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What is on the axes."""

    x: str
    """Label of the x-axis."""
    x_ticks: TickKind
    """How its ticks are written."""
    y: str
    """Label of the y-axis."""
    y_ticks: TickKind | None = None
    """How the ticks of a logarithmic y-axis are written; None for a linear axis."""


@dataclass(frozen=True, kw_only=True)
class LawFigure:
    """A law fitted to some rows of a table, and shown over all of them."""

    fit: Fit
    """The fit to the rows that are not held out."""
    frame: pd.DataFrame
    """All rows: the law's inputs, its target, the column `along`, `series` and `held`. Rows whose series is empty are
    shown among the errors alone."""
    along: str
    """Column on the x-axis."""
    labels: Labels
    """Labels of the axes."""
    bands: pd.DataFrame
    """The law and its intervals at all rows, as `Fit.predict` gives them."""
    through_rows: bool = False
    """Whether curves go through the rows, as for laws over a schedule; else they are drawn on a grid of their own."""

    @property
    def measured(self) -> Array:
        """The fitted quantity, row by row."""
        return self.frame[self.fit.law.target].to_numpy(dtype=float)

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which rows were held out."""
        return self.frame["held"].to_numpy(dtype=bool)

    def errors(self) -> Array:
        """Errors of the law, row by row.

        Returns
        -------
        Array, shape (n,)
            (predicted - measured) / measured, or predicted - measured where something measured is not positive.
        """
        rest = self.bands[self.fit.law.target].to_numpy() - self.measured
        return rest / self.measured if self.relative else rest

    @property
    def relative(self) -> bool:
        """Whether errors are fractions."""
        return bool((self.measured > 0).all())


def curve(shown: LawFigure, rows: pd.DataFrame) -> pd.DataFrame:
    """The law along one series.

    Parameters
    ----------
    shown : LawFigure
        Of the law.
    rows : DataFrame
        Rows of one series. Other inputs of the law follow them, straight in logarithms.

    Returns
    -------
    DataFrame
        x, value, lo and hi.
    """
    law, rows = shown.fit.law, rows.sort_values(shown.along, kind="stable")
    x = rows[shown.along].to_numpy(dtype=float)
    if shown.through_rows:
        band = shown.bands.loc[rows.index]
    else:
        grid = np.geomspace(x.min(), x.max(), GRID)
        inputs = {name: between(x, rows[name].to_numpy(dtype=float), grid) for name in law.inputs if name in rows}
        x, band = grid, shown.fit.predict(inputs)
    columns = {"value": law.target, "lo": "confidence_lo", "hi": "confidence_hi"}
    return pd.DataFrame({"x": x, **{ours: band[theirs].to_numpy() for ours, theirs in columns.items()}})


def between(x: Array, y: Array, grid: Array) -> Array:
    """An input of a law between the runs of a series.

    Parameters
    ----------
    x : Array, shape (n,)
        Where the runs are on the x-axis; ascends.
    y : Array, shape (n,)
        The input of the runs.
    grid : Array, shape (m,)
        Where the input is wanted.

    Returns
    -------
    Array, shape (m,)
        Constant where the runs have one value, else straight between them in logarithms.
    """
    if np.ptp(y) <= 1e-9 * abs(float(y[0])):
        return np.full(grid.size, y[0])
    return np.asarray(np.exp(np.interp(np.log(grid), np.log(x), np.log(y))))


def plot_law(shown: LawFigure, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the runs and the curve of every series.

    Parameters
    ----------
    shown : LawFigure
        What is drawn.
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
    series = [name for name in dict.fromkeys(shown.frame["series"]) if name]
    colours = theme.budget_colours(len(series))
    ends = [_draw_series(ax, shown, name, colour, theme) for name, colour in zip(series, colours, strict=True)]
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(shown.frame[shown.along].to_numpy(dtype=float), pad=0.03))
    ax.set_ylabel(shown.labels.y)
    if shown.through_rows:  # schedules differ late: steps evenly spaced, and the steep first ones above the frame
        low, high = float(shown.measured.min()), float(np.quantile(shown.measured, LATE))
        ax.set_xscale("linear")
        ax.set_xlim(0.0, 1.02 * float(shown.frame[shown.along].max()))
        if not shown.fit.law.row_by_row:
            ax.set_ylim(low - 0.05 * (high - low), high)
    if shown.labels.y_ticks:
        ax.set_yscale("log")
        log_axis(ax, "y", shown.labels.y, kind=shown.labels.y_ticks)
    if len(series) > 1:
        label_ends(ax, ends, gap=1.5, outside=True)
        for text in ax.texts:
            text.set_path_effects([withStroke(linewidth=1.8, foreground=theme.paper)])
            text.set_zorder(LABELS)
    return ax


def _draw_series(ax: Axes, shown: LawFigure, name: str, colour: str, theme: Theme) -> EndLabel:
    """One series: its curve with the band, and its runs; the label of the curve's end."""
    frame, held = shown.frame, shown.held
    mine = (frame["series"] == name).to_numpy()
    drawn = curve(shown, frame[mine])
    fitted = frame.loc[mine & ~held, shown.along].to_numpy(dtype=float)
    span = (fitted.min(), fitted.max()) if fitted.size else (np.inf, -np.inf)
    inside = ((drawn["x"] >= span[0] * (1 - 1e-9)) & (drawn["x"] <= span[1] * (1 + 1e-9))).to_numpy()
    ax.fill_between(drawn["x"], drawn["lo"], drawn["hi"], color=colour, alpha=0.18, linewidth=0)
    ax.plot(drawn["x"], drawn["value"], color=colour, linewidth=1.0, linestyle=(0, (3, 2)))
    ax.plot(drawn["x"].where(inside), drawn["value"], color=colour, linewidth=1.4)
    size, order = (1.8, DENSE) if mine.sum() > MAX_SPARSE else (4.0, POINTS)
    x, y = frame[shown.along].to_numpy(dtype=float), shown.measured
    for mask, marker, shade in ((mine & ~held, "o", colour), (mine & held, "D", theme.accent)):
        ax.plot(x[mask], y[mask], marker, color=shade, markersize=size, markeredgewidth=0, zorder=order)
    last = drawn.iloc[-1]
    return EndLabel(float(last["x"]), float(last["value"]), name, colour)


def plot_errors(shown: LawFigure, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the errors of the law over the same x-axis.

    Parameters
    ----------
    shown : LawFigure
        What is drawn.
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
    scale, unit = (100.0, "error, %") if shown.relative else (1.0, "error")
    errors, held, x = scale * shown.errors(), shown.held, shown.frame[shown.along].to_numpy(dtype=float)
    size = 2.0 if x.size > 2 * MAX_SPARSE else 3.0
    ax.axhline(0.0, color=theme.muted, linewidth=0.8)
    ax.plot(x[~held], errors[~held], "o", color=theme.ink, markersize=size, markeredgewidth=0)
    ax.plot(x[held], errors[held], "D", color=theme.accent, markersize=size, markeredgewidth=0)
    ax.set_ylabel(unit)
    reach = 1.15 * float(np.abs(errors).max()) + 1e-12
    ax.set_ylim(-reach, reach)
    return ax


def draw_law(shown: LawFigure, figure: Figure, theme: Theme) -> None:
    """Fill a figure: the law above, its errors below."""
    width, height = figure.get_size_inches()
    names = [str(name) for name in shown.frame["series"].unique() if name]
    left, right = 0.68, 0.2 + (0.068 * max(map(len, names)) if len(names) > 1 else 0.0)
    wide = (width - left - right) / width
    upper = figure.add_axes((left / width, 1.75 / height, wide, (height - 1.75 - 0.3) / height))
    lower = figure.add_axes((left / width, 0.5 / height, wide, 1.0 / height))
    plot_law(shown, ax=upper, theme=theme)
    plot_errors(shown, ax=lower, theme=theme)
    for ax in (upper, lower):
        ax.set_xlim(upper.get_xlim())
        if not shown.through_rows:
            log_axis(ax, "x", shown.labels.x if ax is lower else "", kind=shown.labels.x_ticks)
    if shown.through_rows:
        lower.set_xlabel(shown.labels.x)
        upper.grid(True, linewidth=0.6)
    upper.tick_params(labelbottom=False)
    upper.set_title(shown.fit.law.name)


def save_law(shown: LawFigure, path: Path) -> None:
    """Write the figure of a law as PNG.

    Parameters
    ----------
    shown : LawFigure
        What is drawn.
    path : Path
        The file; one that is there is replaced.
    """
    save_png(partial(draw_law, shown), path, size=SIZE, dpi=120)
