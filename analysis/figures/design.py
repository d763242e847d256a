"""Advice as a figure: existing runs, added runs and the target by size and data, and how sure the prediction becomes.

Draws; fits and designs nothing.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.advice.optimum import compute_optimal
from analysis.design.plan import Plan
from analysis.design.text import target_words
from analysis.figures.drawing.axes import log_axis, log_limits, panels
from analysis.figures.drawing.theme import Theme
from analysis.fitting.derived import neighbourhood
from analysis.fitting.fit import Fit
from analysis.formatting import format_compute, format_percent
from analysis.laws.allocation import optimum

MARKER = 18.0
"""Area of a cell with one run, in points squared."""


def draw_advice(fit: Fit, plan: Plan, figure: Figure, theme: Theme) -> None:
    """Left: runs in the plane of N and D. Right: half-widths now, with the plan, and with the best uniform grid."""
    left, right = panels(figure, (1.75, 1), left=0.72, gap=1.25, top=0.4, bottom=0.5)
    _draw_plane(fit, plan, left, theme)
    _draw_widths(fit, plan, right, theme)


def _draw_plane(fit: Fit, plan: Plan, ax: Axes, theme: Theme) -> None:
    n = np.array([cell.size.params for cell in plan.cells])
    d = np.array([cell.tokens for cell in plan.cells])
    times = np.array([len(cell.seeds) for cell in plan.cells])
    old_n, old_d = (np.zeros(0), np.zeros(0)) if fit.runs is None else (fit.runs["params"], fit.runs["tokens"])
    goal = _goal(fit, plan)
    all_n, all_d = np.concatenate([old_n, n]), np.concatenate([old_d, d])
    if goal is not None:
        all_n, all_d = np.append(all_n, goal[0]), np.append(all_d, goal[1])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*log_limits(all_n, pad=0.07))
    ax.set_ylim(*log_limits(all_d, pad=0.07))
    ax.scatter(old_n, old_d, s=9, color=theme.muted, linewidths=0, label="existing runs", zorder=2)
    ax.scatter(
        n, d, s=MARKER * times, facecolor="none", edgecolor=theme.accent, linewidths=1.3, zorder=3,
        label="added (area: how often)",
    )  # fmt: skip
    if goal is not None:
        ax.scatter([goal[0]], [goal[1]], s=110, marker="*", color=theme.ink, zorder=4, label="target")
    _draw_frontier(fit, plan, ax, theme)
    log_axis(ax, "x", "N, parameters", kind="size")
    log_axis(ax, "y", "D, tokens", kind="size")
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncol=4, frameon=False, fontsize=7.6, handletextpad=0.3,
        columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def _draw_frontier(fit: Fit, plan: Plan, ax: Axes, theme: Theme) -> None:
    """The compute-optimal line within the panel, and the contours of the decades of compute."""
    low_n, high_n = ax.get_xlim()
    low_d, high_d = ax.get_ylim()
    per_token = plan.ladder.per_token
    sizes = np.geomspace(low_n, high_n, 60)
    cost = per_token(sizes)
    first, last = np.log10(cost[0] * low_d), np.log10(cost[-1] * high_d)
    step = max(1, round((last - first) / 6))
    for power in range(int(np.ceil(first)), int(last) + 1, step):
        line = 10.0**power / cost
        inside = (line >= low_d) & (line <= high_d)
        if inside.sum() < 12:
            continue
        ax.plot(sizes, line, color=theme.grid, linewidth=0.8, zorder=0, scaley=False, scalex=False)
        place = np.flatnonzero(inside)[-1]
        ax.annotate(
            format_compute(10.0**power, 1), (sizes[place], line[place]), xytext=(-2, 3), textcoords="offset points",
            fontsize=6.6, color=theme.muted, ha="right", va="bottom", annotation_clip=True,
        )  # fmt: skip
    budgets = np.linspace(np.log(cost[0] * low_d), np.log(cost[-1] * high_d), 80)
    log_n, log_d, _ = optimum(fit.law, neighbourhood(fit).centre, budgets, per_token)
    ax.plot(
        np.exp(log_n[0]), np.exp(log_d[0]), color=theme.second, linewidth=1.1, zorder=1, scalex=False, scaley=False,
        label="optimal",
    )  # fmt: skip


def _goal(fit: Fit, plan: Plan) -> tuple[float, float] | None:
    """N and D of the target; None for an exponent."""
    target = plan.target
    if target.flops is not None:
        found = compute_optimal(fit, target.flops, plan.ladder)
        return found.params.value, found.tokens.value
    return None if target.params is None or target.tokens is None else (target.params, target.tokens)


def _draw_widths(fit: Fit, plan: Plan, ax: Axes, theme: Theme) -> None:
    exponent = plan.target.exponent is not None
    scale = 1.0 if exponent else 100.0
    rows: list[tuple[str, float, tuple[float, float] | None, str]] = []
    now = plan.now
    if now.lo is not None and now.hi is not None:
        half = (now.hi - now.lo) / 2 if exponent else float(np.log(now.hi / now.lo)) / 2
        rows.append(("now", half, None, theme.muted))
    rows.append(("best uniform\ngrid", plan.grid.median, (plan.grid.low, plan.grid.high), theme.second))
    rows.append(("these runs", plan.expected.median, (plan.expected.low, plan.expected.high), theme.accent))
    for place, (_, value, ends, colour) in enumerate(rows):
        ax.barh(place, scale * value, height=0.52, color=colour, alpha=0.85)
        if ends is not None:
            ax.plot([scale * ends[0], scale * ends[1]], [place, place], color=theme.ink, linewidth=1.2)
        reach = value if ends is None else max(value, ends[1])
        said = f"{value:.3g}" if exponent else format_percent(value, 3)
        ax.text(scale * reach, place, f" {said}", va="center", fontsize=8, color=theme.ink)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3 * scale * max(max(value, 0 if ends is None else ends[1]) for _, value, ends, _ in rows))
    ax.grid(True, axis="x", linewidth=0.6)
    unit = "" if exponent else ", %"
    ax.set_xlabel(f"half-width of the {100 * fit.level:g} % interval{unit}")
    ax.set_title(target_words(plan), fontsize=8, fontweight="normal", pad=8)
