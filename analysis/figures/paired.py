"""The figure of arms: paired difference of each arm from the reference, one point a cell with its interval."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.axes import log_axis, panels
from analysis.figures.render import save_png, standalone_svg, svg_text
from analysis.figures.theme import LIGHT, Theme
from analysis.formatting import format_size
from experiments.files import write_atomic


def plot_arms(frame: pd.DataFrame, *, ax: Axes, theme: Theme = LIGHT) -> Axes:
    """Differences in nats per token by arm, a colour for each size, with paired 95 % intervals; zero is the
    reference."""
    shown = frame[frame["reason"].isna()]
    arms = sorted(shown["arm"].unique(), key=lambda arm: float(shown[shown["arm"] == arm]["difference"].mean()))
    sizes = sorted(shown["params"].unique())
    colours = theme.budget_colours(len(sizes))
    for size, colour in zip(sizes, colours, strict=True):
        group = shown[shown["params"] == size]
        offset = (sizes.index(size) - (len(sizes) - 1) / 2) * 0.6 / max(len(sizes), 1)
        seeds = group.groupby("arm").cumcount() * 0.08
        y = [arms.index(arm) + offset + shift for arm, shift in zip(group["arm"], seeds, strict=True)]
        reach = [group["difference"] - group["lo"], group["hi"] - group["difference"]]
        label = f"N = {format_size(float(size))}"
        ax.errorbar(group["difference"], y, xerr=reach, fmt="o", color=colour, markersize=4, capsize=2, label=label)
    ax.axvline(0, color=theme.muted, linewidth=0.8)
    ax.set_yticks(range(len(arms)), arms)
    ax.set_xlabel("loss minus the reference's, nats per token (left is better)")
    ax.grid(True, axis="x", linewidth=0.6)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=max(len(sizes), 1))
    return ax


def save_arms(frame: pd.DataFrame, folder: Path) -> bool:
    """Write arms.png and arms.svg; False when no pair can be compared."""
    shown = frame[frame["reason"].isna()]
    if shown.empty:
        return False
    size = (6.8, 1.5 + 0.42 * shown["arm"].nunique())

    def draw(figure: Figure, theme: Theme) -> None:
        plot_arms(frame, ax=panels(figure, left=1.2, bottom=0.95)[0], theme=theme)

    save_png(draw, folder / "arms.png", size=size, theme=LIGHT)
    text = standalone_svg(svg_text(draw, size=size), num_budgets=shown["params"].nunique())
    write_atomic(folder / "arms.svg", text)
    return True


SIZE = (6.4, 4.0)


def plot_rates(frame: pd.DataFrame, *, ax: Axes, theme: Theme = LIGHT) -> Axes:
    """Excess over the best loss (percent) by peak rate, with paired 95 % intervals; the recipe's own rate is ringed."""
    ax.set_xscale("log")
    groups = [
        ((float(group["params"].iloc[0]), float(group["tokens"].iloc[0])), group)
        for _, group in frame[frame["status"] == "done"].groupby(["params", "tokens"], sort=True)
    ]
    colours = theme.budget_colours(len(groups))
    for index, ((params, tokens), group) in enumerate(groups):
        label = f"N = {format_size(params)}, {format_size(tokens)} tokens"
        for number, (_, curve) in enumerate(group.groupby("seed", sort=True)):
            excess, low, high = (100 * curve[name] for name in ("excess_fraction", "excess_lo", "excess_hi"))
            ax.errorbar(
                curve["lr"],
                excess,
                yerr=[excess - low, high - excess],
                color=colours[index],
                linewidth=1.6 if number == 0 else 0.8,
                marker="o",
                markersize=4 if number == 0 else 3,
                capsize=2,
                label=label if number == 0 else None,
            )
            own = curve[curve["scale"] == 1]
            ax.plot(own["lr"], 100 * own["excess_fraction"], "o", color=colours[index], markersize=10, fillstyle="none")
    log_axis(ax, "x", "peak learning rate", kind="number")
    ax.set_ylabel("loss over the best, %")
    ax.axhline(0.5, color=theme.muted, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.set_title("What a peak rate costs; rings: the recipe's own")
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return ax


def save_rates(frame: pd.DataFrame, folder: Path) -> None:
    """Write rates.png and rates.svg."""

    def draw(figure: Figure, theme: Theme) -> None:
        plot_rates(frame, ax=panels(figure, bottom=1.15)[0], theme=theme)

    save_png(draw, folder / "rates.png", size=SIZE, theme=LIGHT)
    text = standalone_svg(svg_text(draw, size=SIZE), num_budgets=frame.groupby(["params", "tokens"]).ngroups)
    write_atomic(folder / "rates.svg", text)
