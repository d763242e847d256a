"""The figure of arms: paired difference of each arm from the reference, one point a cell with its interval."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.estimate import format_size
from analysis.style import LIGHT, Theme, panels, save_png, standalone_svg, svg_text


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
    (folder / "arms.svg").write_text(text, encoding="utf-8")
    return True
