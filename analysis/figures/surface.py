"""Iso-loss contours of the fitted law over compute and size, and the envelope of loss over compute. Draws; fits
nothing."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.axes import label_ends, log_axis, log_limits, panels
from analysis.figures.isoflop import draw_band, draw_key
from analysis.figures.theme import Theme, hollow
from analysis.study.study import Study


def draw_surface(study: Study, figure: Figure, theme: Theme) -> None:
    """Contours of the law's loss over (C, N), the frontier with its band, and the runs."""
    (ax,) = panels(figure, right=0.5, left=0.68)
    surface_panel(study, ax=ax, theme=theme)


def surface_panel(study: Study, *, ax: Axes, theme: Theme) -> Axes:
    """Iso-loss lines: where a line is lowest in C, the compute is best spent."""
    frame = study.table.frame
    shown = frame[frame["role_shown"] != "mid-run"]
    fit = study.comparison.fit
    frontier = study.comparison.frontiers[-1]
    x_limits = (float(shown["flops"].min()) / 2, float(shown["flops"].max()) * 4)
    inside = frame[frame["role_shown"] == "fit"]["flops"]
    reach = frontier.points[frontier.points["flops"].between(*x_limits)]
    sizes = np.concatenate([shown["params"].to_numpy(), reach["params"].to_numpy()])
    y_limits = log_limits(sizes, pad=0.08)
    flops, params = np.meshgrid(np.geomspace(*x_limits, 90), np.geomspace(*y_limits, 90))
    tokens = study.shapes.tokens(flops, params)
    inputs = {"params": params.ravel(), "tokens": tokens.ravel()}
    loss = fit.law(fit.params, inputs).reshape(flops.shape)
    lowest, highest = float(shown["loss"].min()) * 0.93, float(shown["loss"].max()) * 1.1
    levels = MaxNLocator(nbins=11, steps=[1, 2, 2.5, 5]).tick_values(lowest, highest)
    levels = [float(level) for level in levels if float(loss.min()) < level < float(loss.max())]
    ax.set_xscale("log")
    ax.set_yscale("log")
    if levels:
        one_colour = LinearSegmentedColormap.from_list("muted", [theme.muted, theme.muted])
        lines = ax.contour(flops, params, loss, levels=levels, cmap=one_colour, linewidths=0.9, zorder=1)
        ax.clabel(lines, fmt=lambda value: f"{value:.3g}", fontsize=7, inline_spacing=3)
    draw_band(ax, frontier.points, "params", (float(inside.min()), float(inside.max())), theme.accent, x_limits)
    colours = theme.budget_colours(len(study.budgets))
    for size, compute, budget, role, flag in zip(
        shown["params"], shown["flops"], shown["budget_group"], shown["role_shown"],
        study.table.flags[shown.index], strict=True,
    ):  # fmt: skip
        style = hollow(colours[study.colour_index(budget)], bool(flag), theme.paper)
        ax.plot(compute, size, "s" if role == "heldout" else "o", markersize=4.4, zorder=4, **style)
    ax.set_xlim(*x_limits)
    ax.set_ylim(*y_limits)
    log_axis(ax, "x", f"C, FLOPs ({study.table.conventions.get('flops', 'as given')})", kind="flops", target=5)
    log_axis(ax, "y", "N, parameters", kind="size", target=6)
    ax.set_title("Loss by compute and size, nats per token, and the frontier")
    end = reach.iloc[-1]
    label_ends(ax, [(float(end["flops"]), float(end["params"]), "  $N_{opt}$", theme.accent)], size=9)
    return ax


def draw_envelope(study: Study, figure: Figure, theme: Theme) -> None:
    """Loss over compute: end points by size, the envelope, and the law's compute-optimal loss with its band."""
    (ax,) = panels(figure, right=0.75, left=0.62)
    frame = study.table.frame
    shown = frame[frame["role_shown"] != "mid-run"]
    mid_run = frame[frame["role_shown"] == "mid-run"]
    colours = theme.budget_colours(len(study.budgets))
    if len(mid_run):
        ax.plot(mid_run["flops"], mid_run["loss"], ".", color=theme.grid, markersize=2, zorder=1)
    for _, rows in shown.groupby(np.round(np.log(shown["params"]), 9)):
        line = rows.sort_values("flops").groupby("flops", as_index=False)["loss"].mean()
        ax.plot(line["flops"], line["loss"], color=theme.muted, linewidth=0.6, alpha=0.7, zorder=1)
    for compute, loss, budget, role, flag in zip(
        shown["flops"], shown["loss"], shown["budget_group"], shown["role_shown"],
        study.table.flags[shown.index], strict=True,
    ):  # fmt: skip
        style = hollow(colours[study.colour_index(budget)], bool(flag), theme.paper)
        ax.plot(compute, loss, "s" if role == "heldout" else "o", markersize=4.2, zorder=3, **style)
    key = []
    parametric = study.comparison.frontiers[-1]
    inside = frame[frame["role_shown"] == "fit"]["flops"]
    span = (float(inside.min()), float(inside.max()))
    reach = (float(shown["flops"].min()) / 1.6, float(shown["flops"].max()) * 4)
    draw_band(ax, parametric.points, "loss", span, theme.second, reach)
    key.append(("compute-optimal loss of the law, dashed beyond the fitted runs", theme.second, "-"))
    envelope = next((one for one in study.comparison.frontiers if one.method.startswith("envelope")), None)
    if envelope is not None and len(envelope.points):
        ax.plot(envelope.points["flops"], envelope.points["loss"], color=theme.ink, linewidth=1.6, zorder=4)
        key.append(("envelope of decayed end points (approach 1)", theme.ink, "-"))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*reach)
    near = parametric.points[parametric.points["flops"].between(*reach)]
    drawn = np.concatenate([shown["loss"].to_numpy(), near["loss"].to_numpy(), near["loss_lo"].to_numpy()])
    low, high = log_limits(drawn[np.isfinite(drawn)], pad=0.04)
    low = max(low, 0.8 * float(near["loss"].min()))
    ax.set_ylim(low, high * (high / low) ** 0.14)
    log_axis(ax, "x", f"C, FLOPs ({study.table.conventions.get('flops', 'as given')})", kind="flops", target=5)
    log_axis(ax, "y", "validation loss, nats per token", kind="number", target=6)
    ax.set_title("Loss by compute; thin lines join the runs of one size")
    draw_key(ax, key, theme)
