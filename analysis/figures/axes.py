"""Logarithmic axes, panels, and labels at the ends of curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter

from analysis.formatting import format_compute, format_size


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
    """Axes side by side with margins in inches: measuring text to lay figures out costs more than drawing them."""
    width, height = figure.get_size_inches()
    free = width - left - right - gap * (len(widths) - 1)
    out, start = [], left
    for share in widths:
        wide = free * share / sum(widths)
        out.append(figure.add_axes((start / width, bottom / height, wide / width, (height - bottom - top) / height)))
        start += wide + gap
    return out


def nice_log_ticks(low: float, high: float, *, target: int = 5) -> tuple[list[float], list[float]]:
    """Major and minor ticks for a log axis from `low` to `high`: decades when there are enough, then 1-3, 1-2-5,
    then even steps."""
    if not (0 < low < high and math.isfinite(high)):
        return [low], []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**power for power in range(first, last + 1)]

    def within(subs: Sequence[float]) -> list[float]:
        ticks = [decade * sub for decade in decades for sub in subs]
        return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]

    minor = within(range(1, 10))
    for subs in ((1,), (1, 3), (1, 2, 5)):
        major = within(subs)
        if len(major) >= max(3, target - 2):
            while len(major) > target + 2:
                major = (
                    major[::2]
                    if subs != (1,)
                    else [tick for tick in major if (round(math.log10(tick)) - first) % 2 == 0][:]
                )
                if len(major) > target + 2 and subs == (1,):
                    major = major[::2]
            return major, [tick for tick in minor if tick not in major]
    if high / low > 2.2:
        major = within((1, 2, 3, 4, 5, 7))
        if 3 <= len(major) <= target + 2:
            return major, [tick for tick in within([sub / 2 for sub in range(2, 20)]) if tick not in major]
    even = [float(tick) for tick in MaxNLocator(nbins=target, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    fine = [float(tick) for tick in MaxNLocator(nbins=4 * target, steps=[1, 2, 5, 10]).tick_values(low, high)]
    keep = [tick for tick in even if low <= tick <= high]
    return keep, [tick for tick in fine if low <= tick <= high and tick not in keep]


def log_axis(ax: Axes, which: str, label: str, *, kind: str, target: int = 5) -> None:
    """Make one axis logarithmic with explicit ticks for its present limits; `kind` is flops, size, or number."""
    write: Callable[[float], str] = {"flops": format_compute, "size": format_size}.get(
        kind, lambda value: f"{value:.4g}"
    )
    if which == "x":
        ax.set_xscale("log")
        ax.set_xlabel(label)
    else:
        ax.set_yscale("log")
        ax.set_ylabel(label)
    low, high = sorted(ax.get_xlim() if which == "x" else ax.get_ylim())
    axis = ax.xaxis if which == "x" else ax.yaxis
    major, minor = nice_log_ticks(low, high, target=target)
    axis.set_major_locator(FixedLocator(major))
    axis.set_major_formatter(FixedFormatter([write(tick) for tick in major]))
    axis.set_minor_locator(FixedLocator(minor))
    axis.set_minor_formatter(NullFormatter())
    ax.grid(True, which="major", axis="both", linewidth=0.6)


def log_limits(values: Sequence[float] | np.ndarray, *, pad: float = 0.06, right: float = 0.0) -> tuple[float, float]:
    """Limits of a log axis around positive `values`, with a fraction of the span free at both ends and more at the
    high end."""
    logs = np.log(np.asarray(values, dtype=float))
    logs = logs[np.isfinite(logs)]
    span = float(np.ptp(logs)) or 0.2
    return math.exp(logs.min() - pad * span), math.exp(logs.max() + (pad + right) * span)


def label_ends(
    ax: Axes, ends: Sequence[tuple[float, float, str, str]], *, size: float = 7.5, gap: float = 1.25
) -> None:
    """Write `text` right of each (x, y, text, colour), moving labels apart along y by `gap` lines where they would
    overlap.

    Call it after limits and scales are set.
    """
    if not ends:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None
    height = ax.get_position().height * figure.get_size_inches()[1] * 72
    pixels = [ax.transAxes.inverted().transform(ax.transData.transform((x, y)))[1] * height for x, y, _, _ in ends]
    order = sorted(range(len(ends)), key=lambda index: pixels[index])
    placed = spread([pixels[index] for index in order], size * gap, low=0.0, high=height)
    for position, index in zip(placed, order, strict=True):
        x, y, text, colour = ends[index]
        shift = position - pixels[index]
        ax.annotate(
            text,
            (x, y),
            xytext=(5, shift),
            textcoords="offset points",
            va="center",
            ha="left",
            fontsize=size,
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
            if abs(shift) > size
            else None,
        )


def spread(positions: Sequence[float], gap: float, *, low: float, high: float) -> list[float]:
    """Ascending positions moved as little as needed to lie `gap` apart, pushed back from `high` when there is room."""
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
