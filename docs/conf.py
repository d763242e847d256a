"""How Sphinx builds the pages of docs/: `make docs`, into build/docs. Links to files of the repository work in both."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = str(ROOT)  # kernels of notebooks import this checkout
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]

project = "isoflop"
author = "the authors of isoflop"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "shell"]
exclude_patterns = ["_static", "_extensions"]
html_theme = "pydata_sphinx_theme"
html_title = "isoflop"
html_static_path = ["_static"]
html_css_files = ["isoflop.css"]
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "gallery": []}

default_role = "code"  # single backticks of docstrings
highlight_language = "bash"  # of blocks that name none: commands
autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True


OUTSIDE = re.compile(r"\]\((?=(?:\.\./)+(?!docs/)[^)#:]+\.md[)#])")
"""A link to a Markdown page that may lie outside docs/."""


def link_pages_outside(app: Sphinx, docname: str, source: list[str]) -> None:
    """Offer Markdown files of the repository that are no pages of this site as files."""
    folder = (Path(app.srcdir) / docname).parent

    def marked(found: re.Match[str]) -> str:
        target = source[0][found.end() :].partition(")")[0].partition("#")[0]
        inside = Path(os.path.normpath(folder / target)).is_relative_to(app.srcdir)
        return found[0] if inside else f"{found[0]}path:"

    source[0] = OUTSIDE.sub(marked, source[0])


def complete_names(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to the page of Python the public names that it does not group."""
    if docname != "reference/api":
        return
    import isoflop

    lines = [
        f".. auto{'class' if inspect.isclass(getattr(isoflop, name)) else 'function'}:: {name}"
        for name in isoflop.__all__
        if not re.search(rf"^\.\. auto\w+:: {name}$", source[0], re.MULTILINE)
    ]
    if lines:
        source[0] += "\n".join(["\n## More\n", "```{eval-rst}", ".. currentmodule:: isoflop", *lines, "```", ""])


def link_reports(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Open reports as pages of the site: a link to a report is no download."""
    up = "../" * docname.count("/")
    for node in list(doctree.findall(addnodes.download_reference)):
        target = (Path(app.srcdir) / docname).parent / node["reftarget"]
        target = Path(os.path.normpath(target))
        if target.suffix == ".html" and target.is_relative_to(ROOT / "reports"):
            link = nodes.reference("", "", internal=True, refuri=f"{up}{target.relative_to(ROOT)}")
            link.extend(node.children)
            node.replace_self(link)


def copy_reports(app: Sphinx, error: Exception | None) -> None:
    """Put the committed reports beside the pages that link to them."""
    if error is not None:
        return
    for page in (ROOT / "reports").rglob("*.html"):
        copy = Path(app.outdir) / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, copy)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of the steps above."""
    app.connect("source-read", complete_names)
    app.connect("source-read", link_pages_outside)
    app.connect("doctree-resolved", link_reports)
    app.connect("build-finished", copy_reports)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
