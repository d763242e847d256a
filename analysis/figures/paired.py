"""Figures of paired comparisons: arms against a reference, and peak learning rates against the best one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.drawing.axes import axes_or_new, log_axis, panels
from analysis.figures.drawing.render import save_figure
from analysis.figures.drawing.theme import LIGHT, Theme
from analysis.formatting import format_size

RATES_SIZE = (6.4, 4.0)
"""Inches of the figure of rates."""
ACCEPTED_EXCESS = 0.5
"""Per cent of the loss that a rate may cost; a dashed line shows it."""


def draw_arms(frame: pd.DataFrame, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_arms`."""
    plot_arms(frame, ax=panels(figure, left=1.2, bottom=0.95)[0], theme=theme)


def plot_arms(frame: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the difference of each arm from the reference, one point for each cell, in a colour for each size.

    Parameters
    ----------
    frame : DataFrame
        Of `analysis.paired.arms.arm_table`.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; the reference is at zero, and its name above.
    """
    ax = axes_or_new(ax)
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
    named = frame.loc[frame["reason"] == "the reference", "arm"]
    if len(arms) < 3:  # few points would lie on the frame
        ax.set_ylim(-0.5, len(arms) - 0.5)
    if len(named):
        low, high = ax.get_xlim()
        place = -low / (high - low)
        ax.text(
            0,
            1.01,
            f"reference: {named.iloc[0]}",
            transform=ax.get_xaxis_transform(),
            ha="right" if place > 0.85 else "left" if place < 0.15 else "center",
            va="bottom",
            fontsize=8,
            color=theme.muted,
        )
    ax.set_yticks(range(len(arms)), arms)
    ax.grid(True, axis="x", linewidth=0.6)
    label = "loss minus the reference's, nats per token (left is better)"
    if len(sizes) == 1:
        ax.set_xlabel(f"{label}; N = {format_size(float(sizes[0]))}")
        return ax
    ax.set_xlabel(label)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=max(len(sizes), 1))
    return ax


def plot_arm_rates(frame: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the loss of each arm by peak learning rate: every seed, and their mean as a line.

    Parameters
    ----------
    frame : DataFrame
        arm, params, tokens, lr, seed, loss: one row a run.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; the best rate of every arm and cell at which all seeds finished is ringed, and the arm is
        named beside it.
    """
    ax = axes_or_new(ax)
    ax.set_xscale("log")
    arms = list(dict.fromkeys(frame["arm"]))
    for arm, colour in zip(arms, theme.category_colours(len(arms)), strict=True):
        for _, cell in frame[frame["arm"] == arm].groupby(["params", "tokens"], sort=True):
            losses = cell.groupby("lr", sort=True)["loss"]
            mean = losses.mean()[losses.count() == cell["seed"].nunique()]  # of rates at which every seed finished
            ax.plot(cell["lr"], cell["loss"], "o", color=colour, markersize=3, fillstyle="none")
            ax.plot(mean.index, mean, color=colour, linewidth=1.6)
            best = mean.idxmin()
            ax.plot([best], [mean[best]], "o", color=colour, markersize=10, fillstyle="none")
            ax.annotate(
                arm, (best, mean[best]), (0, -9), textcoords="offset points", ha="center", va="top", color=colour
            )
    ax.margins(y=0.14)
    log_axis(ax, "x", "peak learning rate", kind="number")
    ax.set_ylabel("validation loss, nats per token")
    return ax


def draw_arm_rates(frame: pd.DataFrame, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_arm_rates`."""
    plot_arm_rates(frame, ax=panels(figure)[0], theme=theme)


def save_arm_rates(frame: pd.DataFrame, folder: Path) -> None:
    """Write rates.png and rates.svg.

    Parameters
    ----------
    frame : DataFrame
        As `plot_arm_rates` takes it.
    folder : Path
        Where they go.
    """
    save_figure(partial(draw_arm_rates, frame), folder, "rates", size=RATES_SIZE)


def save_arms(frame: pd.DataFrame, folder: Path) -> bool:
    """Write arms.png and arms.svg.

    Parameters
    ----------
    frame : DataFrame
        Of `analysis.paired.arms.arm_table`.
    folder : Path
        Where they go.

    Returns
    -------
    bool
        False when no pair can be compared, and nothing is written.
    """
    shown = frame[frame["reason"].isna()]
    if shown.empty:
        return False
    size = (6.8, 1.5 + 0.42 * max(2, shown["arm"].nunique()))
    save_figure(partial(draw_arms, frame), folder, "arms", size=size)
    return True


def draw_rates(frame: pd.DataFrame, figure: Figure, theme: Theme) -> None:
    """Fill a figure with `plot_rates`."""
    plot_rates(frame, ax=panels(figure, bottom=1.15)[0], theme=theme)


def plot_rates(frame: pd.DataFrame, *, ax: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the excess over the best loss by peak learning rate, a curve for each size, budget and seed.

    Parameters
    ----------
    frame : DataFrame
        Of `analysis.paired.rates.rate_table`.
    ax : Axes, optional
        Where it is drawn; new axes by default.
    theme : Theme
        Colours.

    Returns
    -------
    Axes
        What was drawn on; the recipe's own rates are ringed.
    """
    ax = axes_or_new(ax)
    ax.set_xscale("log")
    groups = [group for _, group in frame[frame["status"] == "done"].groupby(["params", "tokens"], sort=True)]
    for group, colour in zip(groups, theme.budget_colours(len(groups)), strict=True):
        params, tokens = (format_size(float(group[name].iloc[0])) for name in ("params", "tokens"))
        for number, (_, curve) in enumerate(group.groupby("seed", sort=True)):
            first = number == 0
            excess, low, high = (100 * curve[name] for name in ("excess_fraction", "excess_lo", "excess_hi"))
            ax.errorbar(
                curve["lr"],
                excess,
                yerr=[excess - low, high - excess],
                color=colour,
                linewidth=1.6 if first else 0.8,
                marker="o",
                markersize=4 if first else 3,
                capsize=2,
                label=f"N = {params}, {tokens} tokens" if first else None,
            )
            own = curve[curve["scale"] == 1]
            ax.plot(own["lr"], 100 * own["excess_fraction"], "o", color=colour, markersize=10, fillstyle="none")
    log_axis(ax, "x", "peak learning rate", kind="number")
    ax.set_ylabel("loss over the best, %")
    ax.axhline(ACCEPTED_EXCESS, color=theme.muted, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.set_title("What a peak rate costs; rings: the recipe's own; thin lines: other seeds")
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return ax


def save_rates(frame: pd.DataFrame, folder: Path) -> None:
    """Write rates.png and rates.svg.

    Parameters
    ----------
    frame : DataFrame
        Of `analysis.paired.rates.rate_table`.
    folder : Path
        Where they go.
    """
    save_figure(partial(draw_rates, frame), folder, "rates", size=RATES_SIZE)
