"""No serious finding of axe-core on a report, the gallery and a page of the documentation, in light and dark.

axe-core (MPL-2.0) is no part of the repository: ISOFLOP_AXE names its axe.min.js, which .ci/run fetches from npm.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = {
    "report": ROOT / "reports" / "quickstart" / "report.html",
    "arms": ROOT / "reports" / "positions" / "report.html",
    "gallery": ROOT / "reports" / "index.html",
    "documentation": ROOT / "build" / "docs" / "tutorials" / "first-study.html",
}
"""The documentation is there after `make docs`."""
SERIOUS = ("serious", "critical")
"""Impacts that fail the test."""


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    path = os.environ.get("ISOFLOP_AXE")
    if not path:
        pytest.skip("ISOFLOP_AXE is not set: npm pack axe-core, unpack it, and name its axe.min.js")
    return Path(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_finding_of_axe(name: str, scheme: str, axe: str, browser: Any) -> None:
    if not PAGES[name].exists():
        pytest.skip(f"{PAGES[name].relative_to(ROOT)} is not there: make docs")
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1100, "height": 900})
    page.goto(PAGES[name].as_uri(), wait_until="load", timeout=120_000)
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    page.close()
    said = [
        f"{one['impact']} {one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"][:3]
    ]
    assert not said, "\n".join(said)
    assert found["passes"]
