"""The templates of pages, and what they need beside their numbers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, where the suite runs from one."""


def template(name: str) -> jinja2.Template:
    """A template of this folder; what is put into it is escaped, and nothing may be missing.

    Parameters
    ----------
    name : str
        Its file.

    Returns
    -------
    Template
        With the filter `code`, which sets words between backticks as code.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment.get_template(name)


def concepts_from(folder: Path, root: Path = ROOT) -> str | None:
    """The way from a report to the pages of concepts.

    Parameters
    ----------
    folder : Path
        Of the report.
    root : Path
        The checkout.

    Returns
    -------
    str or None
        A relative path with forward slashes; None for a folder outside the checkout, or without its documentation.
    """
    pages = root / "docs" / "concepts"
    if not pages.is_dir() or not folder.resolve().is_relative_to(root):
        return None
    return Path(os.path.relpath(pages, folder.resolve())).as_posix()


def _code(text: str) -> Markup:
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))
