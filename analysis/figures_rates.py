"""The figure of rates: excess loss over the best by peak rate; a colour for each size and budget, a curve for each
seed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.estimate import format_size
from analysis.style import LIGHT, Theme, log_axis, panels, save_png, standalone_svg, svg_text

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
    (folder / "rates.svg").write_text(text, encoding="utf-8")
