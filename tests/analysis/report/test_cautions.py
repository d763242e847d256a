"""Warnings become plain cautions: one of a kind, gravest first, nothing lost."""

import html
import re
from pathlib import Path

import pytest

from analysis.report.cautions import KINDS, cautions

REPORTS = Path(__file__).parents[3] / "reports"
FEW = "parametric hoffmann: 9 clusters are few for 5 parameters: intervals are likely too narrow below 12 clusters"
EDGE = "isoflop parabola: budgets 1.9e12: the minimum is not bracketed by runs on both sides, so it is left out of a"
OFF = "isoflop parabola: budget 1.4e11: the minimum 34.8k lies off the centre of its grid"


def test_warnings_of_one_kind_stand_under_one_sentence() -> None:
    found, procedure = cautions([EDGE, FEW, OFF])
    assert [len(one.details) for one in found] == [1, 2]
    assert found[0].details[0].startswith("fitted law: 9 clusters")
    assert all(detail.startswith("IsoFLOP curves: ") for detail in found[1].details)
    assert procedure == []


def test_what_is_said_twice_stands_once() -> None:
    joined = "isoflop parabola: " + "; ".join(text.partition(": ")[2] for text in (EDGE, OFF))
    bare = "E is not identified: alpha is not determined"
    found, _ = cautions([EDGE, OFF, joined, f"parametric hoffmann: {bare}", bare])
    assert [one.details for one in found] == [
        (f"fitted law: {bare}",),
        (EDGE.replace("isoflop parabola", "IsoFLOP curves"), OFF.replace("isoflop parabola", "IsoFLOP curves")),
    ]


def test_what_was_done_with_the_runs_is_no_caution() -> None:
    found, procedure = cautions(["no --holdout was given: the largest budget, 1.2e12, is held out"])
    assert found == []
    assert procedure == ["No --holdout was given: the largest budget, 1.2e12, is held out."]


def test_a_warning_of_no_known_kind_stands_as_it_is() -> None:
    found, procedure = cautions(["the moon was full"])
    assert [(one.what, one.advice, one.details) for one in found] == [("The moon was full.", "", ())]
    assert procedure == []


def test_every_kind_says_what_to_do_and_where_to_read_on() -> None:
    pages = {path.stem for path in (REPORTS.parent / "docs" / "concepts").glob("*.md")}
    for kind in KINDS:
        assert kind.what.endswith(".")
        assert kind.advice.endswith(".")
        assert kind.page in pages | {""}


@pytest.mark.parametrize("page", sorted(REPORTS.glob("*/report.html")), ids=lambda path: path.parent.name)
def test_the_committed_reports_leave_no_warning_without_advice(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    listed = re.search(r'<ul class="cautions">(.*?)</ul>\n</details>', text, re.DOTALL)
    for item in re.findall(r"<li><b>(.*?)</b>(.*)", listed.group(1) if listed else ""):
        assert item[1].strip(), html.unescape(item[0])
