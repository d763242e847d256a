"""How good the law is: the held-out prediction, residuals, and exponents beside the published ones. Draws; fits
nothing."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.estimate import percent_text
from analysis.figures.axes import log_axis, log_limits, panels
from analysis.figures.theme import Theme, hollow
from analysis.formatting import format_number, format_size
from analysis.published.constants import PUBLISHED_EXPONENTS
from analysis.runs.columns import as_columns
from analysis.study.study import Study


def draw_heldout(study: Study, figure: Figure, theme: Theme) -> None:
    """Every held-out run: measured loss, prediction with its interval, and the best smaller run's loss carried
    forward."""
    left, right = panels(figure, (1.35, 1), left=0.62, gap=0.95)
    held = study.heldout
    assert held is not None
    rows = held.rows
    colours = theme.budget_colours(len(study.budgets))
    places = np.arange(len(rows))
    values = rows[["budget", "lo", "hi", "predicted", "measured"]].to_numpy(dtype=float)
    for place, (budget, lo, hi, predicted, measured) in zip(places, values, strict=True):
        colour = colours[study.colour_index(budget)]
        left.plot([place] * 2, [lo, hi], color=theme.accent, linewidth=5, alpha=0.35, solid_capstyle="butt")
        left.plot(place, predicted, "_", color=theme.accent, markersize=11, markeredgewidth=1.8, zorder=3)
        left.plot(place, measured, "s", markersize=5, zorder=4, **hollow(colour, False, theme.paper))
    left.axhline(float(rows["carried_forward"].iloc[0]), color=theme.muted, linewidth=1.0, linestyle=(0, (1, 1)))
    everything = np.concatenate([rows[name].to_numpy() for name in ("lo", "hi", "measured", "carried_forward")])
    low, high = log_limits(everything, pad=0.06)
    left.set_yscale("log")
    left.set_ylim(low, high * (high / low) ** 0.25)
    left.set_xlim(-0.6, len(rows) - 0.4)
    step = max(1, math.ceil(len(rows) / 8))
    left.set_xticks(places[::step], [format_size(value) for value in rows["params"]][::step])
    left.set_xlabel("N of the held-out run, parameters")
    log_axis(left, "y", "validation loss, nats per token", kind="number", target=6)
    left.grid(False, axis="x")
    left.set_title("Held-out runs")
    _marker_key(left, theme, colours[-1])
    errors = np.concatenate([rows["error_fraction"].to_numpy(), rows["carried_error"].to_numpy()]) * 100
    width = 0.36
    right.axhline(0, color=theme.muted, linewidth=0.8)
    right.bar(places - width / 2, 100 * rows["error_fraction"], width, color=theme.accent, label="law")
    right.bar(places + width / 2, 100 * rows["carried_error"], width, color=theme.muted, label="carried forward")
    reach = float(np.abs(errors).max()) or 1.0
    right.set_ylim(min(errors.min(), 0) - 0.08 * reach, max(errors.max(), 0) + 0.3 * reach)
    right.yaxis.set_major_locator(MaxNLocator(6))
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    right.set_xticks(places[::step], [format_size(value) for value in rows["params"]][::step])
    right.set_xlabel("N of the held-out run, parameters")
    right.set_ylabel("predicted less measured")
    right.grid(True, axis="y", linewidth=0.6)
    right.set_title("Error of the prediction")
    text = f"law: mean {percent_text(held.mape)}", f"carried forward: mean {percent_text(held.carried_mape)}"
    for line, (words, colour) in enumerate(zip(text, (theme.accent, theme.muted), strict=True)):
        right.text(0.03, 0.95 - 0.07 * line, words, transform=right.transAxes, fontsize=7.6, color=colour, va="center")


def _marker_key(ax: Axes, theme: Theme, colour: str) -> None:
    """What the marks of the left panel are, in its upper margin."""
    entries = (("s", colour, "measured"), ("_", theme.accent, "predicted, with prediction interval"))
    for row, (marker, shade, text) in enumerate(entries):
        height = 0.955 - 0.065 * row
        ax.plot(0.04, height, marker, color=shade, transform=ax.transAxes, markersize=6, markeredgewidth=1.6)
        ax.text(0.075, height, text, transform=ax.transAxes, fontsize=7.6, va="center", color=theme.ink)
    ax.plot([0.025, 0.055], [0.825] * 2, color=theme.muted, linestyle=(0, (1, 1)), transform=ax.transAxes)
    ax.text(0.075, 0.825, "best smaller run carried forward", transform=ax.transAxes, fontsize=7.6, va="center")


def draw_residuals(study: Study, figure: Figure, theme: Theme) -> None:
    """Measured over predicted loss against N, D and C on one scale; held-out runs are squares, flagged ones hollow."""
    axes = panels(figure, (1, 1, 1), gap=0.3, left=0.7)
    frame = study.table.frame
    shown = frame[frame["role_shown"] != "mid-run"]
    fit = study.comparison.fit
    predicted = fit.predict(as_columns(shown, fit.law.inputs), interval="none")["loss"].to_numpy()
    residual = 100 * (shown["loss"].to_numpy(dtype=float) / predicted - 1)
    colours = theme.budget_colours(len(study.budgets))
    scale = 100 * fit.residual_scale
    floor = 0.0 if study.noise_floor is None else 200 * study.noise_floor.value
    largest = max(float(np.abs(residual).max()), 2 * scale, 1e-9)
    reach = 1.18 * max(largest, floor if floor < 2 * largest else 0.0)
    spec = (("params", "N, parameters", "size"), ("tokens", "D, tokens", "size"), ("flops", "C, FLOPs", "flops"))
    for ax, (name, label, kind) in zip(axes, spec, strict=True):
        ax.axhspan(-2 * scale, 2 * scale, color=theme.second, alpha=0.12, linewidth=0)
        ax.axhline(0, color=theme.muted, linewidth=0.8)
        if 0 < floor < reach and study.noise_floor is not None:
            for side in (-2, 2):
                ax.axhline(
                    200 / 2 * side * study.noise_floor.value, color=theme.muted, linewidth=0.9, linestyle=(0, (1, 1))
                )
        for x, y, budget, role, flag in zip(
            shown[name], residual, shown["budget_group"], shown["role_shown"],
            study.table.flags[shown.index], strict=True,
        ):  # fmt: skip
            style = hollow(colours[study.colour_index(budget)], bool(flag), theme.paper)
            ax.plot(x, y, "s" if role == "heldout" else "o", markersize=4.4, zorder=3, **style)
        ax.set_xscale("log")
        ax.set_xlim(*log_limits(shown[name].to_numpy(), pad=0.08))
        ax.set_ylim(-reach, reach)
        log_axis(ax, "x", label, kind=kind, target=4)
        ax.yaxis.set_major_locator(MaxNLocator(7))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        if ax is not axes[0]:
            ax.tick_params(labelleft=False)
    axes[0].set_ylabel("measured over predicted, less 1")
    axes[0].set_title("Residuals of the law")
    axes[1].set_title("shaded: 2 sd of the fit", fontweight="normal", fontsize=8)
    if 0 < floor < reach:
        axes[2].set_title("dotted: 2 sd between seeds", fontweight="normal", fontsize=8)


def draw_exponents(study: Study, figure: Figure, theme: Theme) -> None:
    """a of N_opt ~ C^a by approach with intervals, and the published ones in grey."""
    (ax,) = panels(figure, left=2.15, right=1.35, top=0.3)
    names = {
        "envelope": "approach 1: envelope",
        "isoflop": "approach 2: IsoFLOP minima",
        "parametric": "approach 3: parametric",
    }
    ours = [(names[one.method.split()[0]], one.a) for one in study.comparison.frontiers if math.isfinite(one.a.value)]
    closed = study.comparison.fit.frontier_estimates
    if closed is not None and study.table.conventions.get("flops") != "6ND":
        ours.append(("approach 3 under C = 6ND", closed.a))
    rows = [(name, estimate, theme.ink) for name, estimate in ours]
    rows += [(name, estimate, theme.muted) for name, estimate in PUBLISHED_EXPONENTS]
    ends = [value for _, item, _ in rows for value in (item.value, item.lo, item.hi) if value is not None]
    low, high = max(min(ends) - 0.05, -0.5), min(max(ends) + 0.05, 1.6)
    ax.set_xlim(low, high)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for place, (_, item, colour) in enumerate(rows):
        if item.lo is not None and item.hi is not None:
            ax.plot([max(item.lo, low), min(item.hi, high)], [place] * 2, color=colour, linewidth=1.6)
        ax.plot(item.value, place, "D", color=colour, markersize=5)
        words = item.text(2) if item.has_interval else f"{format_number(item.value, 2)} (no interval)"
        ax.text(1.02, place, words, transform=ax.get_yaxis_transform(), va="center", fontsize=7.6, color=colour)
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.grid(True, axis="x", linewidth=0.6)
    ax.set_xlabel("a, exponent of the optimal size by compute")
    ax.set_title("Three approaches, and what was published")
