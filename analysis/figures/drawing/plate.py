"""A figure with what a page says about it. It must not know what is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.figures.drawing.render import Draw, Inches


@dataclass(frozen=True, kw_only=True)
class Plate:
    """One figure of the page."""

    name: str
    """Stem of its files."""
    title: str
    """Heading of its section."""
    draw: Draw
    """Fills a matplotlib figure."""
    size: Inches
    """Width and height."""
    caption: str
    """What is shown, with the marks explained."""
