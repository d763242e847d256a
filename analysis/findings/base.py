"""What a study's own design asks for beyond the law: a finding, with its sentences, figure and tables.

It must not know which findings there are, pages or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.estimate import Estimate
from analysis.figures.drawing.plate import Plate


@dataclass(frozen=True, kw_only=True)
class FoundTable:
    """A table as numbers and as text."""

    name: str
    """Stem of its CSV."""
    heading: str
    """What stands above it."""
    frame: pd.DataFrame
    """The numbers."""
    head: tuple[str, ...]
    """Names of the columns of text."""
    rows: tuple[tuple[str, ...], ...]
    """Cells of text."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a study's own design says."""

    sentences: tuple[str, ...]
    """The result in words; every number with its interval, or the reason for lacking one."""
    plate: Plate
    """Its figure."""
    tables: tuple[FoundTable, ...]
    """What the figure shows, in numbers."""
    cards: tuple[tuple[str, Estimate], ...] = ()
    """Numbers for the head of a page, each with its label."""
    percent_cards: tuple[tuple[str, Estimate], ...] = ()
    """The same for fractions, which are shown in per cent; they come first."""
    leads: bool = True
    """Whether the study was made for it, so that its page opens with it."""
