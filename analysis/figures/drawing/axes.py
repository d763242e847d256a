"""Axes of figures: side by side, logarithmic with readable ticks, and labels at the ends of curves.

It must not know runs, fits or what a figure shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from analysis.formatting import format_compute, format_size

TickKind = Literal["flops", "size", "number"]
"""How the ticks of an axis are written: 3.0e18, 124M or 2.5."""
DECADES: tuple[int, ...] = (1,)
"""One tick a decade."""
STEPS: tuple[tuple[int, ...], ...] = (DECADES, (1, 3), (1, 2, 5))
"""Ticks within a decade, coarsest first: the first steps that give enough ticks are taken."""
MIN_TICKS = 3
"""Fewest major ticks on an axis of some decades."""


class EndLabel(NamedTuple):
    """A text beside the end of a curve."""

    x: float
    """Where the curve ends."""
    y: float
    """Where the curve ends."""
    text: str
    """What is written."""
    colour: str
    """Its colour, that of the curve."""


def size_inches(ax: Axes) -> tuple[float, float]:
    """Width and height of axes, in inches."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    width, height = ax.get_position().size * figure.get_size_inches()
    return float(width), float(height)


def axes_or_new(ax: Axes | None, *, size: tuple[float, float] = (5.0, 3.5)) -> Axes:
    """The axes that were given, or those of a new figure that pyplot does not know.

    Parameters
    ----------
    ax : Axes or None
        What the caller has.
    size : (float, float)
        Inches of the new figure.

    Returns
    -------
    Axes
        The same, or new ones; `ax.figure` is the figure.
    """
    if ax is not None:
        return ax
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def panels(
    figure: Figure,
    widths: Sequence[float] = (1.0,),
    *,
    left: float = 0.62,
    right: float = 0.2,
    bottom: float = 0.48,
    top: float = 0.3,
    gap: float = 0.75,
) -> list[Axes]:
    """Axes side by side.

    Margins are given, not found: measuring text in order to lay a figure out costs more than drawing it.

    Parameters
    ----------
    figure : Figure
        Which is filled.
    widths : sequence of float
        Width of each of the axes, relative to the others.
    left : float
        Left margin in inches.
    right : float
        Right margin in inches.
    bottom : float
        Lower margin in inches.
    top : float
        Upper margin in inches.
    gap : float
        Space between axes in inches.

    Returns
    -------
    list of Axes
        From left to right.
    """
    width, height = figure.get_size_inches()
    free = width - left - right - gap * (len(widths) - 1)
    out, start = [], left
    for share in widths:
        wide = free * share / sum(widths)
        out.append(figure.add_axes((start / width, bottom / height, wide / width, (height - bottom - top) / height)))
        start += wide + gap
    return out


def nice_log_ticks(low: float, high: float, *, target: int = 5) -> tuple[list[float], list[float]]:
    """Ticks of a logarithmic axis.

    Decades where these are enough, else steps of 1-3 or 1-2-5, else finer ones; even steps where the axis spans less
    than about a factor of two.

    Parameters
    ----------
    low : float
        Lower end of the axis.
    high : float
        Upper end of the axis.
    target : int
        About how many major ticks are wanted.

    Returns
    -------
    major, minor : list of float
        Ascending, within the ends, and disjoint.
    """
    if not (0 < low < high and math.isfinite(high)):
        return [low], []
    most = target + 2
    for steps in STEPS:
        major = _ticks_within(low, high, steps)
        if len(major) >= max(MIN_TICKS, target - 2):
            if len(major) > most and steps == DECADES:
                major = _every_second_decade(major, low)
            major = _thinned(major, most)
            return major, _others(_ticks_within(low, high, range(1, 10)), major)
    if high / low > 2.2:
        major = _ticks_within(low, high, (1, 2, 3, 4, 5, 7))
        if MIN_TICKS <= len(major) <= most:
            return major, _others(_ticks_within(low, high, [half / 2 for half in range(2, 20)]), major)
    major = _even_ticks(low, high, count=target, steps=(1, 2, 2.5, 5, 10))
    return major, _others(_even_ticks(low, high, count=4 * target, steps=(1, 2, 5, 10)), major)


def _ticks_within(low: float, high: float, steps: Sequence[float]) -> list[float]:
    """`steps` times every power of ten, as far as they lie within the ends."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [10.0**power * step for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def _every_second_decade(ticks: list[float], low: float) -> list[float]:
    """The decades at an even distance from the one at or below `low`."""
    first = math.floor(math.log10(low))
    return [tick for tick in ticks if (round(math.log10(tick)) - first) % 2 == 0]


def _thinned(ticks: list[float], most: int) -> list[float]:
    """Every second tick, as often as it takes to be at most `most`."""
    while len(ticks) > most:
        ticks = ticks[::2]
    return ticks


def _even_ticks(low: float, high: float, *, count: int, steps: Sequence[float]) -> list[float]:
    """About `count` ticks at equal distances."""
    ticks = MaxNLocator(nbins=count, steps=list(steps)).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def _others(ticks: list[float], major: list[float]) -> list[float]:
    return [tick for tick in ticks if tick not in major]


def log_axis(ax: Axes, which: Literal["x", "y"], label: str, *, kind: TickKind, target: int = 5) -> None:
    """Make one axis logarithmic, with explicit ticks for the limits that it has now.

    Parameters
    ----------
    ax : Axes
        Whose axis it is.
    which : "x" or "y"
        The axis.
    label : str
        Its label.
    kind : TickKind
        How its ticks are written.
    target : int
        About how many major ticks are wanted.
    """
    if which == "x":
        ax.set_xscale("log")
        ax.set_xlabel(label)
    else:
        ax.set_yscale("log")
        ax.set_ylabel(label)
    low, high = sorted(ax.get_xlim() if which == "x" else ax.get_ylim())
    axis: Axis = ax.xaxis if which == "x" else ax.yaxis
    major, minor = nice_log_ticks(low, high, target=target)
    write = tick_writer(kind)
    axis.set_major_locator(FixedLocator(major))
    axis.set_major_formatter(FixedFormatter([write(tick) for tick in major]))
    axis.set_minor_locator(FixedLocator(minor))
    axis.set_minor_formatter(NullFormatter())
    ax.grid(True, which="major", axis="both", linewidth=0.6)


def tick_writer(kind: TickKind) -> Callable[[float], str]:
    """How a tick of one kind is written."""
    if kind == "flops":
        return format_compute
    if kind == "size":
        return format_size
    return lambda value: f"{value:.4g}"


def percent_axis(axis: Axis, *, target: int, symmetric: bool = False) -> None:
    """Make a linear axis one of per cents.

    Parameters
    ----------
    axis : Axis
        Such as `ax.yaxis`; its values are per cents already.
    target : int
        At most how many ticks.
    symmetric : bool
        Whether ticks are as far above zero as below.
    """
    axis.set_major_locator(MaxNLocator(target, symmetric=symmetric))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))


def log_limits(
    values: Sequence[float] | NDArray[np.float64], *, pad: float = 0.06, right: float = 0.0
) -> tuple[float, float]:
    """Limits of a logarithmic axis around some values.

    Parameters
    ----------
    values : sequence of float
        Positive; values that are not finite are left out.
    pad : float
        Part of the span, in logarithms, that is left free at both ends.
    right : float
        Part that is left free at the high end besides.

    Returns
    -------
    low, high : float
        The limits.
    """
    logs = np.log(np.asarray(values, dtype=float))
    logs = logs[np.isfinite(logs)]
    span = float(np.ptp(logs)) or 0.2
    return math.exp(logs.min() - pad * span), math.exp(logs.max() + (pad + right) * span)


def label_ends(
    ax: Axes, ends: Sequence[EndLabel], *, size: float = 7.5, gap: float = 1.25, outside: bool = False
) -> None:
    """Write texts right of the ends of curves, moved apart along y where they would overlap.

    Call it when limits and scales are set.

    Parameters
    ----------
    ax : Axes
        Where the curves are.
    ends : sequence of EndLabel
        What is written, and where.
    size : float
        Of the letters, in points.
    gap : float
        Distance of texts, in sizes.
    outside : bool
        Whether texts stand right of the axes, where no marker lies, with a thin line from each curve.
    """
    if not ends:
        return
    width, height = (72 * part for part in size_inches(ax))
    points = [height * ax.transAxes.inverted().transform(ax.transData.transform((end.x, end.y)))[1] for end in ends]
    order = sorted(range(len(ends)), key=lambda index: points[index])
    placed = spread([points[index] for index in order], size * gap, low=0.0, high=height)
    for position, index in zip(placed, order, strict=True):
        end, shift = ends[index], position - points[index]
        right = 5.0
        if outside:
            right += width * (1 - ax.transAxes.inverted().transform(ax.transData.transform((end.x, end.y)))[0])
        line = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        ax.annotate(
            end.text,
            (end.x, end.y),
            xytext=(right, shift),
            textcoords="offset points",
            va="center",
            ha="left",
            fontsize=size,
            color=end.colour,
            annotation_clip=False,
            arrowprops=line if abs(shift) > size or right > 4 * size else None,
        )


def spread(positions: Sequence[float], gap: float, *, low: float, high: float) -> list[float]:
    """Positions moved apart.

    Parameters
    ----------
    positions : sequence of float
        Ascending.
    gap : float
        Least distance of neighbours.
    low : float
        Lower end, above which they are to lie if there is room.
    high : float
        Upper end, below which they are to lie if there is room.

    Returns
    -------
    list of float
        As near to `positions` as the gap allows.
    """
    out: list[float] = []
    for position in positions:
        out.append(max(position, out[-1] + gap) if out else max(position, low))
    overflow = out[-1] - high if out else 0.0
    for index in reversed(range(len(out))):
        if overflow <= 0:
            break
        ceiling = out[index + 1] - gap if index + 1 < len(out) else high
        out[index] = min(out[index], ceiling)
    return out
