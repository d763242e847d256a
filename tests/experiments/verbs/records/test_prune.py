"""`prune` says what it would remove and asks; what a changed sweep file dropped today stays."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import isoflop
from experiments.data.cache import Cache
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from tests.experiments.conftest import SWEEP


class Terminal(io.StringIO):
    """Somebody who types an answer."""

    def isatty(self) -> bool:
        """Whether people sit there."""
        return True


@pytest.fixture
def store(tmp_path: Path, cache: Cache) -> RunStore:
    """A store whose sweep file first listed four runs, and then two; a fifth run belongs to nothing."""
    file = tmp_path / "tiny.yaml"
    file.write_text(SWEEP)
    planned, _ = PlannedSweep.write(expand_file(file, cache=cache), file, RunStore(tmp_path))
    shorter = expand_file(file, ["--design.tokens=[12800]"], cache=cache)
    _, changes = PlannedSweep.write(shorter, file, planned.store)
    assert len(changes.removed) == 2
    stray = planned.store.runs / "000000000000"
    stray.mkdir()
    (stray / "record.json").write_text("{}")
    return planned.store


def test_runs_that_were_dropped_today_stay_and_go_when_the_grace_is_over(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list(store.runs.iterdir()))
    words = ["prune", "--store", str(store.root), "--yes"]
    assert isoflop.main(words) == 0
    told = capsys.readouterr().out
    assert told.count("kept ") == 2
    assert "000000000000 (2 B, a trained run)" in told
    assert len(list(store.runs.iterdir())) == before - 1
    assert isoflop.main([*words, "--grace-hours", "0"]) == 0
    assert len(list(store.runs.iterdir())) == before - 3
    manifest = json.loads(store.manifest_path("tiny").read_text())
    assert {path.name for path in store.runs.iterdir()} == set(manifest["runs"])


def test_a_run_that_is_listed_again_was_never_dropped(store: RunStore, cache: Cache) -> None:
    file = store.root / "tiny.yaml"
    _, changes = PlannedSweep.write(expand_file(file, cache=cache), file, store)
    assert len(changes.added) == 2
    assert json.loads(store.manifest_path("tiny").read_text())["dropped"] == {}


@pytest.mark.parametrize(("answer", "gone"), [("y", True), ("", False), ("no", False)])
def test_on_a_terminal_the_answer_decides(
    answer: str, gone: bool, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    assert isoflop.main(["prune", "--store", str(store.root)]) == 0
    assert (store.runs / "000000000000").exists() != gone


def test_without_a_terminal_nothing_goes_unless_yes_is_said(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isoflop.main(["prune", "--store", str(store.root)]) == 2
    assert "--yes" in capsys.readouterr().err
    assert (store.runs / "000000000000").exists()
