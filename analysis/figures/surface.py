"""Loss over compute: contours of the fitted law by compute and size, and its compute-optimal loss.

It draws what a study holds, and fits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.arrays import Array
from analysis.figures.drawing.axes import EndLabel, axes_or_new, label_ends, log_axis, log_limits, panels
from analysis.figures.drawing.marks import KeyLine, draw_band, draw_key, run_marks
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.study.study import Study

GRID = 90
"""Points of the contours along each axis."""
EDGE = 0.07
"""Part of each axis, at both ends, in which no contour is labelled."""
LABEL_AT = 0.12
"""Where on the inner part of a contour its label stands: near one end, where contours lie apart."""


def draw_surface(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_surface`."""
    (ax,) = panels(figure, right=0.5, left=0.68)
    plot_surface(study, ax=ax, theme=theme)


def plot_surface(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the contours of the law's loss over compute and size.

    The compute-optimal sizes with their band and the runs lie over them.

    Compute is best spent where a contour is lowest in C.

    Parameters
    ----------
    study : Study
        What is shown.
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
    shown = study.shown
    points = study.comparison.frontiers[-1].points
    x_limits = (float(shown["flops"].min()) / 2, float(shown["flops"].max()) * 4)
    near = points[points["flops"].between(*x_limits)]
    y_limits = log_limits(np.concatenate([shown["params"].to_numpy(), near["params"].to_numpy()]), pad=0.08)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _draw_contours(study, ax, theme, np.geomspace(*x_limits, GRID), np.geomspace(*y_limits, GRID))
    draw_band(ax, points, "params", inside=study.fitted_span, reach=x_limits, colour=theme.accent)
    for compute, size, marker in zip(shown["flops"], shown["params"], run_marks(study, shown, theme), strict=True):
        ax.plot(compute, size, markersize=4.4, zorder=4, **marker)
    ax.set_xlim(*x_limits)
    ax.set_ylim(*y_limits)
    log_axis(ax, "x", f"C, FLOPs ({study.flops_convention})", kind="flops", target=5)
    log_axis(ax, "y", "N, parameters", kind="size", target=6)
    ax.set_title(f"Loss by compute and size, {study.loss_unit}, and the frontier")
    end = near.iloc[-1]
    label_ends(ax, [EndLabel(float(end["flops"]), float(end["params"]), "  $N_{opt}$", theme.accent)], size=9)
    return ax


def _draw_contours(study: Study, ax: Axes, theme: Theme, flops: Array, params: Array) -> None:
    """Lines of equal loss, labelled, over a grid of compute and sizes."""
    across, up = np.meshgrid(flops, params)
    inputs = {"params": up.ravel(), "tokens": study.shapes.tokens(across, up).ravel()}
    fit = study.comparison.fit
    loss = fit.law(fit.params, inputs).reshape(across.shape)
    lowest, highest = float(study.shown["loss"].min()) * 0.93, float(study.shown["loss"].max()) * 1.1
    ticks = MaxNLocator(nbins=11, steps=[1, 2, 2.5, 5]).tick_values(lowest, highest)
    levels = [float(level) for level in ticks if float(loss.min()) < level < float(loss.max())]
    if levels:
        one_colour = LinearSegmentedColormap.from_list("muted", [theme.muted, theme.muted])
        lines = ax.contour(across, up, loss, levels=levels, cmap=one_colour, linewidths=0.9, zorder=1)
        places = [place for segments in lines.allsegs if (place := _label_place(segments, flops, params)) is not None]
        ax.clabel(lines, fmt=lambda value: f"{value:.3g}", fontsize=7, inline_spacing=3, manual=places)


def _label_place(segments: Sequence[Array], flops: Array, params: Array) -> tuple[float, float] | None:
    """Where a contour takes its label: on its longest part, away from the edges; None where it only touches them."""
    longest = max(segments, key=len, default=np.empty((0, 2)))
    if not len(longest):
        return None
    spans = [np.log(side[[0, -1]]) for side in (flops, params)]
    inside = np.ones(len(longest), dtype=bool)
    for part, (low, high) in zip(np.log(longest).T, spans, strict=True):
        inside &= (part > low + EDGE * (high - low)) & (part < high - EDGE * (high - low))
    found = longest[inside]
    if not len(found):
        return None
    x, y = found[int(LABEL_AT * (len(found) - 1))]
    return float(x), float(y)


def draw_envelope(study: Study, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_envelope`."""
    (ax,) = panels(figure, right=0.75, left=0.62)
    plot_envelope(study, ax=ax, theme=theme)


def plot_envelope(study: Study, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw loss over compute.

    Shown are runs, a line for each size, the envelope, and the law's compute-optimal loss with its band.

    Parameters
    ----------
    study : Study
        What is shown.
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
    shown = study.shown
    points = study.comparison.frontiers[-1].points
    reach = (float(shown["flops"].min()) / 1.6, float(shown["flops"].max()) * 4)
    _draw_losses(study, ax, theme)
    draw_band(ax, points, "loss", inside=study.fitted_span, reach=reach, colour=theme.second)
    key = [KeyLine("compute-optimal loss of the law, dashed beyond the fitted runs", theme.second)]
    envelope = next((one for one in study.comparison.frontiers if one.method.startswith("envelope")), None)
    if envelope is not None and len(envelope.points):
        ax.plot(envelope.points["flops"], envelope.points["loss"], color=theme.ink, linewidth=1.6, zorder=4)
        key.append(KeyLine("envelope of decayed end points (approach 1)", theme.ink))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*reach)
    near = points[points["flops"].between(*reach)]
    drawn = np.concatenate([shown["loss"].to_numpy(), near["loss"].to_numpy(), near["loss_lo"].to_numpy()])
    low, high = log_limits(drawn[np.isfinite(drawn)], pad=0.04)
    low = max(low, 0.8 * float(near["loss"].min()))
    ax.set_ylim(low, high * (high / low) ** 0.14)
    log_axis(ax, "x", f"C, FLOPs ({study.flops_convention})", kind="flops", target=5)
    log_axis(ax, "y", f"validation loss, {study.loss_unit}", kind="number", target=6)
    ax.set_title("Loss by compute; thin lines join the runs of one size")
    draw_key(ax, key, theme)
    return ax


def _draw_losses(study: Study, ax: Axes, theme: Theme) -> None:
    """Runs by compute, joined where they have one size; points in mid-run as dots."""
    shown, mid_run = study.shown, study.table.frame[study.table.frame["role_shown"] == "mid-run"]
    if len(mid_run):
        ax.plot(mid_run["flops"], mid_run["loss"], ".", color=theme.grid, markersize=2, zorder=1)
    for _, rows in shown.groupby(np.round(np.log(shown["params"]), 9)):
        line = rows.sort_values("flops").groupby("flops", as_index=False)["loss"].mean()
        ax.plot(line["flops"], line["loss"], color=theme.muted, linewidth=0.6, alpha=0.7, zorder=1)
    for compute, loss, marker in zip(shown["flops"], shown["loss"], run_marks(study, shown, theme), strict=True):
        ax.plot(compute, loss, markersize=4.2, zorder=3, **marker)
