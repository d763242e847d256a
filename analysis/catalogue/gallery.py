"""The gallery of all reports: one page with the first figure, the result and the numbers of each.

It reads what reports wrote beside their pages, and computes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from analysis.errors import UserError

MAX_CARDS = 3
"""Numbers of a report that are shown."""
MAX_SENTENCES = 2
"""Sentences of its result that are shown."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One report as the gallery shows it."""

    title: str
    """Heading of its page."""
    page: str
    """Its page, seen from the gallery."""
    figure: str
    """Its first figure on a light background, seen from the gallery."""
    dark: str
    """The same on a dark background."""
    figure_title: str
    """What the figure shows."""
    sentences: tuple[str, ...]
    """Its result."""
    cards: tuple[dict[str, str], ...]
    """Its numbers: label, value, interval."""


def read_entry(folder: Path, index: Path) -> Entry:
    """Read what a report says of itself.

    Parameters
    ----------
    folder : Path
        The report.
    index : Path
        The gallery's file, from which links start.

    Returns
    -------
    Entry
        What is shown.

    Raises
    ------
    UserError
        When the folder holds no report, or one that was made before reports summed themselves up.
    """
    file = folder / "summary.json"
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no summary.json; make its report again: isoflop rebuild {folder}") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); make the report again: isoflop rebuild {folder}") from error
    at = Path(os.path.relpath(folder, index.parent)).as_posix()
    return Entry(
        title=raw["title"],
        page=f"{at}/report.html",
        figure=f"{at}/figures/{raw['figure']}.png",
        dark=f"{at}/figures/{raw['figure']}-dark.png",
        figure_title=raw["figure_title"],
        sentences=tuple(raw["replies"][0]["sentences"][:MAX_SENTENCES]),
        cards=tuple(raw["cards"][:MAX_CARDS]),
    )


def gallery(folders: Sequence[Path], index: Path) -> str:
    """The page of the gallery.

    Parameters
    ----------
    folders : sequence of Path
        Reports, in the order in which they are shown.
    index : Path
        The file that it is meant for.

    Returns
    -------
    str
        HTML that needs no other file but the reports.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    entries = [read_entry(folder, index) for folder in folders]
    return environment.get_template("gallery.html.j2").render(entries=entries)
