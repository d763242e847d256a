"""What errors advise is true: who does what the sentence says gets on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import isoflop
from experiments.records import DESIGN_FIELDS, RunRecord, RunStatus
from experiments.store.store import RunStore

SHAPES = ["--vocab-size", "264", "--context", "128", "--head-width", "16"]


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """A table of twelve runs of Hoffmann's law, with a pinch of noise."""
    lines = ["params,tokens,loss"]
    for number, (n, d) in enumerate((n, d) for n in (1e4, 2e4, 4e4, 8e4) for d in (1e5, 3e5, 1e6)):
        loss = (1.7 + 40 / n**0.34 + 410 / d**0.4) * (1 + 0.002 * (-1) ** (number // 2))
        lines.append(f"{n:g},{d:g},{loss:.6f}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines))
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence of a refusal."""
    capsys.readouterr()
    assert isoflop.main(list(words)) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("verb", ["fit", "isoflop", "report", "compare", "select"])
def test_a_sweep_whose_runs_all_diverged_says_so_and_what_to_lower(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RunStore(tmp_path)
    store.prepare()
    for name in ("a", "b"):
        store.publish(
            RunRecord(
                run_id=name, status=RunStatus.DIVERGED, reason="loss rose", design=dict.fromkeys(DESIGN_FIELDS, 1)
            )
        )
    told = refused(capsys, verb, str(tmp_path), *(["--law", "hoffmann"] if verb == "fit" else []))
    assert "has no finished run (2 diverged; the first: loss rose)" in told
    assert "lower recipe.rate_scale" in told
    assert "column" not in told


@pytest.mark.parametrize("verb", ["status", "report", "collect", "prune"])
def test_a_broken_manifest_says_which_file_to_remove_and_what_to_run(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "sweeps" / "mine.json"
    (tmp_path / "runs").mkdir()
    broken.parent.mkdir()
    broken.write_text('{"name": "mine", "runs": {"a')
    words = {
        "prune": ["--store", str(tmp_path)],
        "collect": [str(broken), "--out", str(tmp_path / "out.csv")],
    }
    told = refused(capsys, verb, *words.get(verb, [str(broken)]))
    assert f"{broken} is not a sweep manifest" in told
    assert "remove it and `isoflop run` its sweep file again: finished runs are kept" in told


def test_a_comparison_that_was_not_tested_says_how_many_tables_it_needs(
    runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Path(runs).with_name("grid.csv")
    cells = [(n, c / 6 / n, c) for c in (1e15, 4e15, 1.6e16) for n in (1e6, 2e6, 4e6, 8e6, 1.6e7)]
    rows = [f"{n:g},{d:g},{c:g},{1.7 + 400 / n**0.34 + 410 / d**0.28:.6f}" for n, d, c in cells]
    grid.write_text("\n".join(["params,tokens,flops,loss", *rows]))
    words = ["compare", str(grid), "--bootstrap", "20", "--simulations"]
    assert isoflop.main([*words, "10"]) == 0
    told = capsys.readouterr().out
    assert "10 of 10 simulated tables" in told
    assert "20 are needed; raise --simulations" in told
    assert isoflop.main([*words, "24"]) == 0
    assert "Not tested" not in capsys.readouterr().out


def test_the_cheapest_run_that_an_error_names_can_be_bought(
    runs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = str(tmp_path / "fit.json")
    assert isoflop.main(["fit", runs, "--law", "hoffmann", "--bootstrap", "50", "--out", fit]) == 0
    ask = ["advise", fit, *SHAPES, "--at", "flops=1e13", "--laws", "hoffmann", "--draws", "2", "--max-runs", "3"]
    told = refused(capsys, *ask, "--budget", "1e6")
    named = re.search(r"the cheapest costs ([\d.e+]+)\); raise --budget", told)
    assert named is not None, told
    assert isoflop.main([*ask, "--budget", f"{1.01 * float(named[1]):g}"]) == 0
    assert "1 run in 1 cell" in capsys.readouterr().out
    assert "costs less than the budget" in refused(capsys, *ask, "--budget", f"{0.9 * float(named[1]):g}")
