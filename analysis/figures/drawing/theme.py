"""Colours of every figure: on a light background, on a dark one, and as placeholders that a page fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

MAX_BUDGET_COLOURS = 250
"""Budgets beyond this many share the last colours: a placeholder numbers each, and how many there are, by two
hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of one background."""

    name: Literal["light", "dark", "css"]
    """Which background it is for; css holds placeholders."""
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
    categories: tuple[str, ...]
    """Colours of what has no order, such as methods, all readable as text on the background and
    told apart by people who do not see red or green."""

    def budget_colours(self, count: int) -> list[str]:
        """One colour for each compute budget; the same in every figure of a report.

        Parameters
        ----------
        count : int
            Number of budgets.

        Returns
        -------
        list of str
            Ascending with the budgets.
        """
        if self.name == "css":
            last = MAX_BUDGET_COLOURS - 1
            return [f"#0b{min(index, last):02x}{min(count, last + 1):02x}" for index in range(count)]
        places = np.linspace(*self.budget_span, max(count, 2))[:count]
        return [to_hex(mpl.colormaps["viridis"](place)) for place in places]

    def category_colours(self, count: int) -> list[str]:
        """One colour for each of several things without an order, such as methods or optimisers.

        Parameters
        ----------
        count : int
            How many there are.

        Returns
        -------
        list of str
            Different hues; beyond those that the theme has, the sequential ones of `budget_colours`.
        """
        return list(self.categories[:count]) if count <= len(self.categories) else self.budget_colours(count)


LIGHT = Theme(
    name="light",
    ink="#1c2024",
    muted="#7a828b",
    grid="#e4e7ea",
    paper="#ffffff",
    accent="#c4400d",
    second="#0b68a8",
    budget_span=(0.0, 0.72),
    categories=("#0275d2", "#a76510", "#028276", "#7d0a0a", "#381e75", "#7c764b", "#114f6f", "#5b2c36"),
)
"""Colours on a white background."""

DARK = Theme(
    name="dark",
    ink="#e8eaed",
    muted="#949ca6",
    grid="#343a41",
    paper="#16191d",
    accent="#ff8a5c",
    second="#6cb8f0",
    budget_span=(0.38, 1.0),
    categories=("#5abbe9", "#ac821e", "#0aa05d", "#fad2af", "#617de0", "#d2e978", "#3fe0d8", "#a67690"),
)
"""Colours on a dark background."""

CSS = Theme(
    name="css",
    ink="#0a0b01",
    muted="#0a0b02",
    grid="#0a0b03",
    paper="#0a0b04",
    accent="#0a0b05",
    second="#0a0b06",
    budget_span=(0.0, 1.0),
    categories=tuple(f"#0c0d{index:02x}" for index in range(8)),
)
"""Placeholders of an SVG, one per role, that `svg_text` replaces by CSS variables."""

ROLES = ("ink", "muted", "grid", "paper", "accent", "second")
"""The fields of a theme that become the CSS variables `--figure-ROLE`."""


def css_variables(theme: Theme, *counts: int) -> str:
    """The CSS declarations of one theme.

    Parameters
    ----------
    theme : Theme
        Whose colours they are.
    *counts : int
        How many colours in a row the figures use: each has its own way from the first to the last.

    Returns
    -------
    str
        `--figure-ink: ...; --category-0: ...; --budget-0-of-3: ...;` and so on.
    """
    roles = [f"--figure-{role}: {getattr(theme, role)};" for role in ROLES]
    categories = [f"--category-{index}: {colour};" for index, colour in enumerate(theme.categories)]
    budgets = [
        f"--budget-{index}-of-{count}: {colour};"
        for count in sorted(set(counts))
        for index, colour in enumerate(theme.budget_colours(count))
    ]
    return " ".join(roles + categories + budgets)
