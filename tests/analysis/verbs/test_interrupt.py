"""Ctrl-C in any verb of the analysis: one line, status 130, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import isoflop
from analysis.__main__ import VERBS

ROOT = Path(__file__).resolve().parents[3]
TABLE = "params,tokens,loss,arm\n" + "\n".join(
    f"{n:g},{d:g},{1.7 + 400 / n**0.34 + 410 / d**0.28:.5f},{arm}"
    for arm in ("a", "b")
    for n in (1e6, 3e6, 1e7, 3e7)
    for d in (2e7, 1e8, 5e8)
)
TABLES = "analysis.runs.files._read_csv"
WORDS = {
    "fit": (TABLES, ["fit", "runs.csv", "--law", "hoffmann"]),
    "predict": (TABLES, ["predict", "fit.json", "--table", "runs.csv"]),
    "isoflop": (TABLES, ["isoflop", "runs.csv"]),
    "select": (TABLES, ["select", "runs.csv"]),
    "compare": (TABLES, ["compare", "runs.csv"]),
    "frontier": (TABLES, ["frontier", "runs.csv"]),
    "conventions": (TABLES, ["conventions", "runs.csv"]),
    "tasks": (TABLES, ["tasks", "runs.csv", "--errors", "loss", "--holdout", "params > 2e7"]),
    "tuned": (TABLES, ["tuned", "runs.csv"]),
    "report": (TABLES, ["report", "runs.csv", "--out", "out"]),
    "multiplier": (TABLES, ["multiplier", "runs.csv", "--arm", "arm", "--reference", "a"]),
    "advise": ("analysis.verbs.deciding.advise.check_law", ["advise", "fit.json", "--budget", "1e18"]),
    "arms": ("analysis.verbs.deciding.arms.read_labelled", ["arms", "sweeps/s.json", "--arm", "seed", "--out", "out"]),
    "rates": ("analysis.verbs.deciding.rates.read_records", ["rates", "sweeps/s.json", "--out", "out"]),
    "laws": ("analysis.catalogue.page.write_page", ["laws", "--write", "laws.md"]),
    "published": ("analysis.verbs.reporting.published.compare", ["published", "--out", "published.md"]),
    "scoreboard": ("analysis.verbs.reporting.scoreboard.scoreboard", ["scoreboard", "."]),
    "rebuild": ("analysis.verbs.reporting.rebuild._make", ["rebuild", str(ROOT / "reports" / "quickstart"), "--check"]),
}
"""By verb: the function in which the key is pressed, and an example of the verb."""


@pytest.mark.parametrize("verb", WORDS)
def test_ctrl_c_is_one_line_and_status_130(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, words = WORDS[verb]
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(TABLE)
    if "fit.json" in words:
        assert isoflop.main(["fit", "runs.csv", "--law", "hoffmann", "--bootstrap", "0", "--out", "fit.json"]) == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()

    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, press)
    assert isoflop.main(words) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_every_verb_is_stopped() -> None:
    assert set(WORDS) == set(VERBS)


def test_a_signal_in_the_midst_of_a_fit_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TABLE)
    code = (
        "import os, signal, sys, isoflop\n"
        "from analysis.solver import search\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in a shell's background ignores it
        "descend = search.polish\n"
        "def struck(*words, **options):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return descend(*words, **options)\n"
        "search.polish = struck\n"
        "sys.exit(isoflop.main(['fit', 'runs.csv', '--law', 'hoffmann', '--bootstrap', '20']))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert told.returncode == 130, told.stderr
    assert told.stderr.splitlines() == ["stopped"]
