"""`verify`: what is damaged is named, what is whole is not, and nothing is changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.corpus import prepare
from experiments.data.identity import tokens_folder
from experiments.digests import checked_row, with_trailer
from experiments.files import append_rows
from experiments.machine.liveness import identify
from experiments.manifests import Manifest
from experiments.planning.profile.table import Measurement, write_measurement
from experiments.records import DESIGN_FIELDS, RunRecord, RunStatus
from experiments.store.checkpoints import checkpoint_path, declare_needed, own_checkpoint
from experiments.store.store import RunStore
from experiments.verbs.records import verify as verb

DESIGN = dict.fromkeys(sorted(DESIGN_FIELDS), 1)


@pytest.fixture
def full(tmp_path: Path, make_config: Callable[..., RunConfig]) -> RunStore:
    """A store with a file of every kind."""
    store, config = RunStore(tmp_path / "store"), make_config()
    identity, prefix = run_id(config), "t0123456789ab"
    store.prepare()
    store.write_config(identity, config)
    (store.run_folder(identity) / "weights.safetensors").write_bytes(b"weights")
    store.publish(
        RunRecord(
            run_id=identity,
            status=RunStatus.DONE,
            design=DESIGN,
            outcome={"loss": 1.0},
            execution={"weights_sha256": hashlib.sha256(b"weights").hexdigest()},
        )
    )
    append_rows(store.metrics_path(identity), [checked_row({"step": step, "train_loss": 2.0}) for step in range(3)])
    for path in (own_checkpoint(store, identity), checkpoint_path(store, prefix, 48)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(with_trailer(b"state"))
    declare_needed(store, "study", {prefix: {identity: 48}})
    store.write_manifest(Manifest(name="study", runs={identity: {}}, trunks={prefix: {identity: 48}}))
    store.claims.take(identity, 1, identify())
    store.claims.end(identity, 1, RunStatus.DONE)
    measured = Measurement(shape="small", kind="cpu", device="one", torch="2", step_seconds=0.01, num_rounds=3)
    write_measurement(store, config, measured)
    prepare(config.data, Cache())
    return store


def said(store: RunStore, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and output of the verb."""
    import argparse

    capsys.readouterr()
    status = verb.run(argparse.Namespace(store=store.root, json=False))
    return status, capsys.readouterr().out


def test_a_store_that_is_whole_is_said_to_be(full: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in full.root.rglob("*")}
    status, told = said(full, capsys)
    assert (status, told) == (0, "14 files checked: 0 damaged\n")
    assert {path: path.stat().st_mtime_ns for path in full.root.rglob("*")} == before


@pytest.mark.parametrize(
    "pattern",
    [
        "runs/*/config.json",
        "runs/*/record.json",
        "runs/*/metrics.jsonl",
        "runs/*/weights.safetensors",
        "runs/*/checkpoints/latest.pt",
        "trunks/*/48.pt",
        "trunks/*/needed/study.json",
        "sweeps/study.json",
        "profile/*.json",
    ],
)
@pytest.mark.parametrize("how", ["flip", "cut", "zeros"])
def test_what_is_damaged_is_named(full: RunStore, capsys: pytest.CaptureFixture[str], pattern: str, how: str) -> None:
    (victim,) = full.root.glob(pattern)
    content = bytearray(victim.read_bytes())
    if how == "flip":
        content[3] ^= 4
    elif how == "cut":
        content = content[: len(content) // 2]
    else:
        content[:] = bytes(len(content))
    victim.write_bytes(content)
    status, told = said(full, capsys)
    assert status == 1
    assert told.startswith(str(victim.relative_to(full.root)) + ": ")
    assert "1 damaged" in told


def test_a_lost_record_damaged_tokens_and_foreign_names_are_named(
    full: RunStore, capsys: pytest.CaptureFixture[str], make_config: Callable[..., RunConfig]
) -> None:
    (record,) = full.root.glob("runs/*/record.json")
    record.unlink()
    (full.claims.folder / "notes.txt").write_text("")
    (full.runs / "mine").mkdir()
    (full.runs / "mine" / "thesis.txt").write_text("")
    (full.root / "profile" / "readme.txt").write_text("")
    val = tokens_folder(make_config().data, Cache()) / "val.bin"
    good = val.read_bytes()
    val.write_bytes(bytes(len(good)))
    status, told = said(full, capsys)
    val.write_bytes(good)
    assert status == 1
    assert "record.json: it is gone, though a claim says that the run was done" in told
    assert "val.bin is damaged (its digest is another)" in told
    assert "claims/notes.txt: it is no claim; it is left alone" in told
    assert "runs/mine: it is no run's folder" in told
    assert "profile/readme.txt: it is no measurement of `isoflop profile`; it is left alone" in told
    assert "2 damaged" in told
    assert "3 foreign names" in told


def test_files_of_an_older_version_are_counted_and_checked_as_far_as_they_go(
    full: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = full.root.glob("runs/*/record.json")
    raw = json.loads(record.read_text())
    del raw["digest"], raw["execution"]["weights_sha256"]
    record.write_text(json.dumps(raw))
    status, told = said(full, capsys)
    assert (status, told) == (0, "14 files checked: 0 damaged, 2 of an older version without a digest\n")


def test_json_says_the_same(full: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    full.metrics_path(next(full.runs.iterdir()).name).write_text("{\n")
    assert verb.run(argparse.Namespace(store=full.root, json=True)) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["num_files"], len(told["damaged"])) == (1, 14, 1)
    assert told["damaged"][0]["path"].endswith("metrics.jsonl")
