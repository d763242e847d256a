"""How figures become files: SVG and PNG, the same bytes for the same figure.

Nothing here changes matplotlib's global state: every figure is made and saved inside `drawing()`, and pyplot never
knows of it. An SVG is drawn once, in placeholder colours that become CSS variables, so that the same file is light or
dark as its page is. It must not know what a figure shows.
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

from analysis.figures.drawing.theme import CSS, DARK, LIGHT, ROLES, Theme, css_variables
from experiments.files import write_atomic

Draw = Callable[[Figure, Theme], None]
"""Fills an empty figure in the colours of a theme."""
Inches = tuple[float, float]
"""Width and height of a figure."""
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
    """Matplotlib's settings for one figure; the caller's settings come back afterwards.

    Parameters
    ----------
    theme : Theme
        Colours of text, axes and grid.
    """
    colours = {
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.muted,
        "grid.color": theme.grid,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
    }
    settings: Any = {**RC, **colours}
    with mpl.rc_context(settings):
        yield


def render(draw: Draw, *, size: Inches, theme: Theme) -> Figure:
    """A figure that pyplot does not know.

    Parameters
    ----------
    draw : Draw
        Fills it.
    size : (float, float)
        Inches.
    theme : Theme
        Its colours.

    Returns
    -------
    Figure
        Ready to be saved.
    """
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    draw(figure, theme)
    return figure


def svg_text(draw: Draw, *, size: Inches) -> str:
    """A figure as an `<svg>` element of a page.

    Parameters
    ----------
    draw : Draw
        Fills the figure.
    size : (float, float)
        Inches.

    Returns
    -------
    str
        Without XML header, date or creator; colours are CSS variables.
    """
    with drawing(CSS):
        buffer = io.StringIO()
        figure = render(draw, size=size, theme=CSS)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"#0b([0-9a-f]{2})([0-9a-f]{2})", _variable, text)
    for index, placeholder in enumerate(CSS.categories):
        text = text.replace(placeholder, f"var(--category-{index}, {LIGHT.categories[index]})")
    for role in ROLES:
        text = text.replace(getattr(CSS, role), f"var(--figure-{role}, {getattr(LIGHT, role)})")
    text = re.sub(r"\n\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    return re.sub(r"[ \t]+\n", "\n", text)


def _variable(match: re.Match[str]) -> str:
    """The CSS variable of a placeholder."""
    index, count = (int(digits, 16) for digits in match.groups())
    return f"var(--budget-{index}-of-{count}, #31688e)"


def colour_counts(*figures: str) -> list[int]:
    """How many colours in a row figures use, for `css_variables`.

    Parameters
    ----------
    *figures : str
        What `svg_text` gives.

    Returns
    -------
    list of int
        Ascending; empty for figures in the colours of roles alone.
    """
    return sorted({int(count) for text in figures for count in re.findall(r"var\(--budget-\d+-of-(\d+)", text)})


def standalone_svg(text: str) -> str:
    """An SVG file that is light or dark as its reader prefers.

    Parameters
    ----------
    text : str
        What `svg_text` gives.

    Returns
    -------
    str
        The content of the file.
    """
    counts = colour_counts(text)
    light, dark = css_variables(LIGHT, *counts), css_variables(DARK, *counts)
    style = f"<style>svg {{ {light} }} @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}</style>"
    end = text.index(">", text.index("<svg")) + 1
    return '<?xml version="1.0" encoding="utf-8"?>\n' + text[:end] + "\n " + style + text[end:]


def save_png(draw: Draw, path: Path, *, size: Inches, theme: Theme = LIGHT, dpi: int = 160) -> None:
    """Write a figure as PNG on the theme's own background, without a date.

    Parameters
    ----------
    draw : Draw
        Fills the figure.
    path : Path
        The file; one that is there is replaced.
    size : (float, float)
        Inches.
    theme : Theme
        Colours and background.
    dpi : int
        Dots per inch.
    """
    buffer = io.BytesIO()
    with drawing(theme):
        figure = render(draw, size=size, theme=theme)
        figure.savefig(
            buffer, format="png", dpi=dpi, facecolor=theme.paper, transparent=False, metadata={"Software": None}
        )
    write_atomic(path, buffer.getvalue())


def save_figure(draw: Draw, folder: Path, name: str, *, size: Inches) -> None:
    """Write a figure as NAME.png, on a light background, and as NAME.svg, which is light or dark as its reader prefers.

    Parameters
    ----------
    draw : Draw
        Fills the figure.
    folder : Path
        Where the files go.
    name : str
        Their stem.
    size : (float, float)
        Inches.
    """
    save_png(draw, folder / f"{name}.png", size=size)
    write_atomic(folder / f"{name}.svg", standalone_svg(svg_text(draw, size=size)))
