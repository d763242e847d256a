"""The README's numbers are those of the committed report, and the files it names are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_numbers_in_the_readme_are_those_of_the_committed_report() -> None:
    told = subprocess.run([sys.executable, str(ROOT / "reports" / "refresh.py"), "--check"], check=False, timeout=60)
    assert told.returncode == 0, "run `python reports/refresh.py`"


def test_every_file_that_a_page_links_to_is_there() -> None:
    folders = ("docs", "reports", "benchmarks")
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))]
    missing = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)}: {target}")
    assert not missing


def test_the_committed_report_holds_the_quickstart_to_its_promise() -> None:
    import json

    runs = json.loads((ROOT / "reports" / "quickstart" / "heldout.json").read_text())["runs"]
    errors = [abs(run["error_fraction"]) for run in runs]
    carried = [abs(run["carried_forward"] - run["measured"]) / run["measured"] for run in runs]
    assert len(runs) >= 2
    assert sum(errors) / len(errors) <= min(0.03, 0.5 * sum(carried) / len(carried))
    assert sum(run["lo"] <= run["measured"] <= run["hi"] for run in runs) >= 0.8 * len(runs)
    assert max((run["hi"] - run["lo"]) / 2 / run["predicted"] for run in runs) <= 0.05
