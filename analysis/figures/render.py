"""How figures look: themes, one colour per compute budget, log axes with readable ticks, and deterministic files.

Owns colours, fonts, ticks, labels at curves and the writing of SVG and PNG. It must not know runs, fits or what a
figure shows. Nothing here changes matplotlib's global state: every figure is made and saved inside `drawing()`.

An SVG is drawn once, in placeholder colours that become CSS variables: the same file is light or dark as its page is.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures.theme import CSS, DARK, LIGHT, ROLES, Theme, css_variables
from experiments.files import write_atomic

HASH_SALT = "isoflop"
"""Fixes the ids that matplotlib writes into SVG, so that equal figures are equal files."""

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
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="png", dpi=dpi, facecolor=theme.paper, transparent=False, metadata={"Software": None}
        )
    write_atomic(path, buffer.getvalue())
