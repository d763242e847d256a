"""One figure for any law: runs by series, the fitted law with its band, and what is left over.

Owns the drawing of a `Study` of one law and no data. Filled points were fitted, diamonds were held out; a curve is
solid over the runs that were fitted and dashed beyond them; bands are the law's own interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from analysis.figures.axes import label_ends, log_axis, log_limits
from analysis.figures.render import save_png
from analysis.figures.theme import LIGHT, Theme
from analysis.fitting.fit import Fit

SIZE = (6.4, 4.9)
"""Inches."""
GRID = 80
"""Points of a curve."""
LABELS, POINTS, DENSE = 2.2, 2.6, 1.5
"""Order of drawing: points lie over labels, labels over curves, and points of dense series under these."""
MANY = 60
"""Rows above which a series is dense."""
EARLY = 0.92
"""Share of the rows of curves that are in the frame; the others are the first of each curve."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A law fitted to some runs of a table and shown over all of them."""

    fit: Fit
    """The fit to the rows that are not held out."""
    frame: pd.DataFrame
    """All rows: the law's inputs, its target, the column `along`, `series` (empty: not drawn above) and `held`."""
    along: str
    """Column on the x-axis."""
    label: str
    """Label of the x-axis."""
    kind: str
    """How its ticks are written: flops, size or number."""
    ylabel: str
    """Label of the y-axis."""
    log_y: str | None
    """How the ticks of a logarithmic y-axis are written; None for a linear axis."""
    bands: pd.DataFrame
    """The law and its intervals at all rows, as `Fit.predict` gives them."""
    through_rows: bool = False
    """Curves go through the rows, for laws over a schedule; else they are drawn on a grid of their own."""

    @property
    def measured(self) -> NDArray[np.float64]:
        """The fitted quantity, row by row."""
        return self.frame[self.fit.law.target].to_numpy(dtype=float)

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which rows were held out."""
        return self.frame["held"].to_numpy(dtype=bool)

    def errors(self) -> NDArray[np.float64]:
        """(predicted - measured) / measured, or predicted - measured where something measured is not positive."""
        rest = self.bands[self.fit.law.target].to_numpy() - self.measured
        return rest / self.measured if self.relative else rest

    @property
    def relative(self) -> bool:
        """Whether errors are fractions."""
        return bool((self.measured > 0).all())


def curve(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """The law along one series: x, value, lo and hi; other inputs follow the series' runs, straight in logarithms."""
    law, rows = study.fit.law, rows.sort_values(study.along, kind="stable")
    x = rows[study.along].to_numpy(dtype=float)
    if study.through_rows:
        band = study.bands.loc[rows.index]
    else:
        grid = np.geomspace(x.min(), x.max(), GRID)
        inputs = {name: follow(x, rows[name].to_numpy(dtype=float), grid) for name in law.inputs if name in rows}
        x, band = grid, study.fit.predict(inputs)
    columns = {"value": law.target, "lo": "confidence_lo", "hi": "confidence_hi"}
    return pd.DataFrame({"x": x, **{ours: band[theirs].to_numpy() for ours, theirs in columns.items()}})


def follow(x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """y at `grid`: constant where the runs have one value, else straight between them in logarithms."""
    if np.ptp(y) <= 1e-9 * abs(float(y[0])):
        return np.full(grid.size, y[0])
    return np.asarray(np.exp(np.interp(np.log(grid), np.log(x), np.log(y))))


def plot_law(study: Study, *, ax: Axes, theme: Theme = LIGHT) -> Axes:
    """Runs and curves of every series; rows of none are in the panel of errors alone."""
    frame, held = study.frame, study.held
    series = [name for name in dict.fromkeys(frame["series"]) if name]
    colours = dict(zip(series, theme.budget_colours(len(series)), strict=True))
    ends = []
    for name in series:
        mine = (frame["series"] == name).to_numpy()
        drawn = curve(study, frame[mine])
        fitted = frame.loc[mine & ~held, study.along].to_numpy(dtype=float)
        span = (fitted.min(), fitted.max()) if fitted.size else (np.inf, -np.inf)
        inside = ((drawn["x"] >= span[0] * (1 - 1e-9)) & (drawn["x"] <= span[1] * (1 + 1e-9))).to_numpy()
        ax.fill_between(drawn["x"], drawn["lo"], drawn["hi"], color=colours[name], alpha=0.18, linewidth=0)
        ax.plot(drawn["x"], drawn["value"], color=colours[name], linewidth=1.0, linestyle=(0, (3, 2)))
        ax.plot(drawn["x"].where(inside), drawn["value"], color=colours[name], linewidth=1.4)
        _points(ax, study, mine & ~held, colours[name], "o", dense=mine.sum() > MANY)
        _points(ax, study, mine & held, theme.accent, "D", dense=mine.sum() > MANY)
        last = drawn.iloc[-1]
        ends.append((float(last["x"]), float(last["value"]), name, colours[name]))
    ax.set_xscale("log")
    ax.set_xlim(*log_limits(frame[study.along].to_numpy(dtype=float), pad=0.03))
    ax.set_ylabel(study.ylabel)
    if study.through_rows:  # schedules differ late: steps evenly spaced, and the steep first ones above the frame
        low, high = float(study.measured.min()), float(np.quantile(study.measured, EARLY))
        ax.set_xscale("linear")
        ax.set_xlim(0.0, 1.02 * float(frame[study.along].max()))
        ax.set_ylim(low - 0.05 * (high - low), high)
    if study.log_y:
        ax.set_yscale("log")
        log_axis(ax, "y", study.ylabel, kind=study.log_y)
    if len(series) > 1:
        label_ends(ax, ends, gap=1.5)
        for text in ax.texts:
            text.set_path_effects([withStroke(linewidth=1.8, foreground=theme.paper)])
            text.set_zorder(LABELS)
    return ax


def plot_errors(study: Study, *, ax: Axes, theme: Theme = LIGHT) -> Axes:
    """What the law is off by, over the same x-axis."""
    scale, unit = (100.0, "error, %") if study.relative else (1.0, "error")
    rest, held, x = scale * study.errors(), study.held, study.frame[study.along].to_numpy(dtype=float)
    size = 2.0 if x.size > 120 else 3.0
    ax.axhline(0.0, color=theme.muted, linewidth=0.8)
    ax.plot(x[~held], rest[~held], "o", color=theme.ink, markersize=size, markeredgewidth=0)
    ax.plot(x[held], rest[held], "D", color=theme.accent, markersize=size, markeredgewidth=0)
    ax.set_ylabel(unit)
    reach = 1.15 * float(np.abs(rest).max()) + 1e-12
    ax.set_ylim(-reach, reach)
    return ax


def _points(ax: Axes, study: Study, mask: NDArray[np.bool_], colour: str, marker: str, *, dense: bool) -> None:
    x, y = study.frame[study.along].to_numpy(dtype=float)[mask], study.measured[mask]
    size, order = (1.8, DENSE) if dense else (4.0, POINTS)
    ax.plot(x, y, marker, color=colour, markersize=size, markeredgewidth=0, zorder=order)


def save_law(study: Study, path: Path) -> None:
    """The figure as PNG: the law above, its errors below."""

    def draw(figure: Figure, theme: Theme) -> None:
        width, height = figure.get_size_inches()
        names = [str(name) for name in study.frame["series"].unique() if name]
        left, right = 0.68, 0.2 + (0.068 * max(map(len, names)) if len(names) > 1 else 0.0)
        wide = (width - left - right) / width
        upper = figure.add_axes((left / width, 1.75 / height, wide, (height - 1.75 - 0.3) / height))
        lower = figure.add_axes((left / width, 0.5 / height, wide, 1.0 / height))
        plot_law(study, ax=upper, theme=theme)
        plot_errors(study, ax=lower, theme=theme)
        for ax in (upper, lower):
            ax.set_xlim(upper.get_xlim())
            if not study.through_rows:
                log_axis(ax, "x", study.label if ax is lower else "", kind=study.kind)
        if study.through_rows:
            lower.set_xlabel(study.label)
            upper.grid(True, linewidth=0.6)
        upper.tick_params(labelbottom=False)
        upper.set_title(study.fit.law.name)

    save_png(draw, path, size=SIZE, dpi=120)
