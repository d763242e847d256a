"""How figures look: themes, one colour per compute budget, log axes with readable ticks, and deterministic files.

Owns colours, fonts, ticks, labels at curves and the writing of SVG and PNG. It must not know runs, fits or what a
figure shows. Nothing here changes matplotlib's global state: every figure is made and saved inside `drawing()`.

An SVG is drawn once, in placeholder colours that become CSS variables: the same file is light or dark as its page is.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter

from analysis.estimate import format_compute, format_size

HASH_SALT = "isoflop"
"""Fixes the ids that matplotlib writes into SVG, so that equal figures are equal files."""
MAX_BUDGET_COLOURS = 24
"""Budgets beyond this many share the last colours."""

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 4.0,
    "ytick.major.size": 4.0,
    "xtick.minor.size": 2.0,
    "ytick.minor.size": 2.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.0,
    "savefig.transparent": True,
    "svg.fonttype": "path",
    "svg.hashsalt": HASH_SALT,
    "path.simplify": True,
    "mathtext.fontset": "dejavusans",
}


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of one background."""

    name: str
    """light, dark or css."""
    ink: str
    """Text, axes and the main fit."""
    muted: str
    """Reference laws, secondary curves and notes."""
    grid: str
    """Lines of the grid."""
    paper: str
    """Background, and the inside of hollow markers."""
    accent: str
    """Held-out runs and what was predicted for them."""
    second: str
    """The second of the three approaches where all are drawn together."""
    budget_span: tuple[float, float]
    """Part of the sequential map (viridis) that is readable on the background."""

    def budget_colours(self, count: int) -> list[str]:
        """One colour per compute budget, ascending; the same in every figure of a report."""
        if self.name == "css":
            return [f"#0b{min(index, MAX_BUDGET_COLOURS - 1):02x}5a" for index in range(count)]
        places = np.linspace(*self.budget_span, max(count, 2))[:count]
        return [to_hex(mpl.colormaps["viridis"](place)) for place in places]


LIGHT = Theme(
    name="light",
    ink="#1c2024",
    muted="#7a828b",
    grid="#e4e7ea",
    paper="#ffffff",
    accent="#c4400d",
    second="#0b68a8",
    budget_span=(0.0, 0.72),
)
DARK = Theme(
    name="dark",
    ink="#e8eaed",
    muted="#949ca6",
    grid="#343a41",
    paper="#16191d",
    accent="#ff8a5c",
    second="#6cb8f0",
    budget_span=(0.38, 1.0),
)
CSS = Theme(
    name="css",
    ink="#0a0b01",
    muted="#0a0b02",
    grid="#0a0b03",
    paper="#0a0b04",
    accent="#0a0b05",
    second="#0a0b06",
    budget_span=(0.0, 1.0),
)
"""Placeholders of an SVG, one per role, that `svg_text` replaces by CSS variables."""
ROLES = ("ink", "muted", "grid", "paper", "accent", "second")
"""The fields of a theme that become the CSS variables `--figure-ROLE`."""


def css_variables(theme: Theme, num_budgets: int) -> str:
    """The CSS declarations of one theme: `--figure-ink: ...; --budget-0: ...;`."""
    roles = [f"--figure-{role}: {getattr(theme, role)};" for role in ROLES]
    budgets = [f"--budget-{index}: {colour};" for index, colour in enumerate(theme.budget_colours(num_budgets))]
    return " ".join(roles + budgets)


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Matplotlib's settings for one figure in `theme`; the caller's settings come back afterwards."""
    colours = {
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.muted,
        "grid.color": theme.grid,
    }
    colours |= {"xtick.color": theme.muted, "ytick.color": theme.muted, "xtick.labelcolor": theme.ink}
    colours |= {"ytick.labelcolor": theme.ink, "axes.facecolor": "none", "figure.facecolor": "none"}
    settings: Any = {**RC, **colours}
    with mpl.rc_context(settings):
        yield


def render(draw: Callable[[Figure, Theme], None], *, size: tuple[float, float], theme: Theme) -> Figure:
    """A figure of `size` inches that `draw` fills; never registered with pyplot."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    draw(figure, theme)
    return figure


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


def svg_text(draw: Callable[[Figure, Theme], None], *, size: tuple[float, float]) -> str:
    """The figure as an `<svg>` element without XML header, date or creator, in CSS variables."""
    with drawing(CSS):
        buffer = io.StringIO()
        figure = render(draw, size=size, theme=CSS)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for role in ROLES:
        text = text.replace(getattr(CSS, role), f"var(--figure-{role}, {getattr(LIGHT, role)})")
    text = re.sub(r"#0b([0-9a-f]{2})5a", lambda match: f"var(--budget-{int(match.group(1), 16)}, #31688e)", text)
    text = re.sub(r"\n\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    return re.sub(r"[ \t]+\n", "\n", text)


def standalone_svg(text: str, *, num_budgets: int) -> str:
    """`svg_text` as a file of its own that is light or dark as its reader prefers."""
    light, dark = css_variables(LIGHT, num_budgets), css_variables(DARK, num_budgets)
    style = f"<style>svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}</style>"
    end = text.index(">", text.index("<svg")) + 1
    return '<?xml version="1.0" encoding="utf-8"?>\n' + text[:end] + "\n " + style + text[end:]


def save_png(
    draw: Callable[[Figure, Theme], None],
    path: Path,
    *,
    size: tuple[float, float],
    theme: Theme = LIGHT,
    dpi: int = 160,
) -> None:
    """The figure as PNG on the theme's own background, without a date."""
    with drawing(theme):
        figure = render(draw, size=size, theme=theme)
        figure.savefig(path, dpi=dpi, facecolor=theme.paper, transparent=False, metadata={"Software": None})


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


def hollow(colour: str, flagged: bool, paper: str) -> dict[str, Any]:
    """Marker colours: filled, or hollow when the run is flagged."""
    return {"markerfacecolor": paper if flagged else colour, "markeredgecolor": colour, "markeredgewidth": 1.2}
