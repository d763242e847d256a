"""`prune` removes what is a run's and not needed, and nothing of anybody else's."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.machine.liveness import identify
from experiments.manifests import Manifest
from experiments.records import DESIGN_FIELDS, RunRecord, RunStatus
from experiments.store.checkpoints import checkpoint_path, declare_needed
from experiments.store.store import RunStore
from experiments.verbs.records import prune

LISTED, OTHER, PREFIX = "0" * 12, "1" * 12, "t0123456789ab"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A store with a listed and an unlisted run, both published."""
    store = RunStore(tmp_path / "store")
    store.prepare()
    for run_id in (LISTED, OTHER):
        design = dict.fromkeys(sorted(DESIGN_FIELDS), 1)
        store.publish(RunRecord(run_id=run_id, status=RunStatus.DONE, design=design, outcome={"loss": 1.0}))
    store.write_manifest(Manifest(name="study", runs={LISTED: {}}, trunks={PREFIX: {LISTED: 48}}))
    return store


def run(store: RunStore, *, dry_run: bool = False) -> int:
    return prune.run(argparse.Namespace(store=store.root, trunks=False, dry_run=dry_run, yes=True, grace_hours=24.0))


def test_without_a_list_of_any_sweep_nothing_is_removed(store: RunStore) -> None:
    store.manifest_path("study").unlink()
    with pytest.raises(UserError, match="every run would be removed"):
        run(store)
    assert store.is_published(LISTED)
    assert store.is_published(OTHER)


def test_a_damaged_list_of_a_sweep_removes_nothing(store: RunStore) -> None:
    store.manifest_path("study").write_text("{")
    with pytest.raises(UserError, match="not a sweep manifest"):
        run(store)
    assert store.is_published(OTHER)


def test_a_folder_and_a_link_of_somebody_elses_are_left_alone_and_named(
    store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.runs / "thesis").mkdir()
    (store.runs / "thesis" / "chapter.tex").write_text("")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("")
    (store.runs / ("2" * 12)).symlink_to(elsewhere)
    (store.run_folder(LISTED) / "checkpoints").symlink_to(elsewhere)
    assert run(store) == 0
    told = capsys.readouterr().out
    assert f"left alone {store.runs / 'thesis'}" in told
    assert (store.runs / "thesis" / "chapter.tex").exists()
    assert (elsewhere / "precious").exists()
    assert not store.run_folder(OTHER).exists()


def test_leftovers_of_a_shared_prefix_go_and_what_is_under_way_stays(store: RunStore) -> None:
    for step in (48, 72):
        checkpoint_path(store, PREFIX, step).parent.mkdir(parents=True, exist_ok=True)
        checkpoint_path(store, PREFIX, step).write_bytes(b"")
    declare_needed(store, "study", {PREFIX: {LISTED: 72, "3" * 12: 72}})
    manifest = Manifest(name="study", runs={LISTED: {}, "3" * 12: {}}, trunks={PREFIX: {LISTED: 72, "3" * 12: 72}})
    store.write_manifest(manifest)
    folder = store.prefixes / PREFIX / "checkpoints"
    folder.mkdir()
    for name in ("latest-48.pt", "previous-48.pt", "latest-60.pt"):
        (folder / name).write_bytes(b"")
    (store.prefixes / PREFIX / "damaged-24.pt").write_bytes(b"")
    store.claims.take(f"{PREFIX}-60", 1, identify())
    assert run(store) == 0
    assert len(list(folder.iterdir())) == 3, "a part of the prefix is being trained"
    store.claims.end(f"{PREFIX}-60", 1, RunStatus.INTERRUPTED)
    assert run(store) == 0
    assert [path.name for path in folder.iterdir()] == ["latest-60.pt"]
    assert [path.name for path in sorted((store.prefixes / PREFIX).glob("*.pt"))] == ["72.pt"]
