"""Damaged and foreign small files of a store: each costs at most its own run, and is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.config.run import RunConfig, run_id
from experiments.digests import checked_row, parse_metrics, with_trailer, without_trailer
from experiments.files import append_rows
from experiments.machine import memory
from experiments.machine.liveness import HeartbeatWatch, identify
from experiments.manifests import Manifest, parse_manifest
from experiments.records import DESIGN_FIELDS, RecordError, RunRecord, RunStatus, parse_record
from experiments.store.configs import ConfigError
from experiments.store.store import RunStore

DESIGN = dict.fromkeys(sorted(DESIGN_FIELDS), 1)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    result = RunStore(tmp_path)
    result.prepare()
    return result


def record(identity: str = "abc", loss: float = 1.5) -> RunRecord:
    return RunRecord(run_id=identity, status=RunStatus.DONE, design=DESIGN, outcome={"loss": loss})


def flips(text: str) -> list[str]:
    """The text with one bit of each of its characters flipped, in turn."""
    raw = text.encode()
    found = []
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 7
        found.append(changed.decode("utf-8", errors="replace"))
    return found


def test_no_single_flipped_bit_of_a_record_is_believed() -> None:
    good = record()
    for text in flips(good.to_json()):
        try:
            found = parse_record(text, where="record.json")
        except RecordError:
            continue
        assert found == good, text


def test_no_single_flipped_bit_of_a_manifest_is_believed() -> None:
    good = Manifest(name="study", runs={"abc": {"role": "fit", "budget": 1e12}}, order=("abc",), source="study.yaml")
    for text in flips(good.to_json()):
        try:
            found = parse_manifest(text, where="study.json")
        except RecordError:
            continue
        assert found == good, text


def test_no_single_flipped_bit_of_a_metrics_row_is_believed() -> None:
    row = {"step": 3, "tokens": 768, "train_loss": 2.0625, "lr": 0.01}
    for line in flips(json.dumps(checked_row(row))):
        for found in parse_metrics(line):
            assert {name: found[name] for name in row} == row, line


def test_a_binary_file_comes_back_whole_or_not_at_all_and_an_old_one_as_it_is() -> None:
    content = os.urandom(300)
    whole = with_trailer(content)
    assert bytes(without_trailer(whole) or b"") == content
    assert bytes(without_trailer(content) or b"") == content
    for place in range(len(content)):
        changed = bytearray(whole)
        changed[place] ^= 4
        assert without_trailer(bytes(changed)) is None


def test_a_record_of_another_run_is_no_record_and_gives_way_to_the_right_one(store: RunStore) -> None:
    store.publish(record("def"))
    store.run_folder("abc").mkdir()
    store.record_path("abc").write_bytes(store.record_path("def").read_bytes())
    with pytest.raises(RecordError, match="another run"):
        store.read_record("abc")
    assert not store.is_published("abc")
    assert store.publish(record("abc", loss=2.0))
    assert store.read_record("abc").outcome["loss"] == 2.0  # type: ignore[union-attr]
    assert (store.run_folder("abc") / "earlier" / "damaged-record.json").exists()


def test_a_record_that_was_read_is_read_again_when_it_changes(store: RunStore) -> None:
    store.publish(record())
    assert store.is_published("abc")
    path = store.record_path("abc")
    path.write_text(path.read_text().replace("1.5", "1.6"))
    assert not store.is_published("abc")


def test_a_record_without_a_digest_is_an_older_one_and_is_believed(store: RunStore) -> None:
    raw = json.loads(record().to_json())
    del raw["digest"]
    assert parse_record(json.dumps(raw), where="record.json") == record()


def test_a_newer_record_is_neither_believed_nor_set_aside(store: RunStore) -> None:
    store.run_folder("abc").mkdir()
    store.record_path("abc").write_text(json.dumps({"run_id": "abc", "status": "done", "schema": 99}))
    with pytest.raises(RecordError, match="upgrade isoflop"):
        store.set_aside_damage("abc")
    assert store.record_path("abc").exists()


@pytest.mark.parametrize(
    "name", ["README", "a.b", "abc.x.done", "abc.1.tmp", "abc.1.done.bak", ".abc.1", "abc.²", "x.0"]
)
def test_a_foreign_name_in_claims_says_nothing(store: RunStore, name: str) -> None:
    (store.claims.folder / name).write_text("")
    (store.claims.folder / "folder.1").mkdir()
    store.claims.take("abc", 1, identify())
    assert set(store.claims.states()) == {"abc", "folder"}
    assert store.claims.states()["abc"].attempts == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{", b"[]\n", b"7\n", b"\xff\xfe\n", b'{"host": 3}\n', b'{"pid": "one"}\n', b"\0" * 64 + b"\n"],
)
def test_a_damaged_claim_is_given_up_when_it_shows_no_life_and_its_run_goes_on(store: RunStore, content: bytes) -> None:
    (store.claims.folder / "abc.1").write_bytes(content)
    now = [0.0]
    watch = HeartbeatWatch(expiry_seconds=60, clock=lambda: now[0])
    state = store.claims.states()["abc"]
    assert not store.claims.judge("abc", state, watch)
    now[0] = 61.0
    assert store.claims.judge("abc", state, watch)
    assert store.claims.take("abc", 2, identify())


def test_a_damaged_claim_of_this_machine_is_no_traceback(store: RunStore) -> None:
    for owner in ({"pid": "one"}, {"pid": None}, {"pid": [1]}, {"start": 3}):
        path = store.claims.folder / "abc.1"
        path.write_text(json.dumps(identify() | owner) + "\n")
        store.claims.judge("abc", store.claims.states()["abc"], HeartbeatWatch())
        path.unlink()
        for ending in store.claims.folder.glob("abc.1.*"):
            ending.unlink()


@pytest.mark.parametrize("content", ["", "{", "[1]", "7", '{"why": 1}'])
def test_a_damaged_ending_counts_and_has_no_reason_of_its_own(store: RunStore, content: str) -> None:
    store.claims.take("abc", 1, identify())
    (store.claims.folder / "abc.1.failed").write_text(content)
    assert store.claims.states()["abc"].endings == (RunStatus.FAILED,)
    assert store.claims.reason("abc", 1, RunStatus.FAILED) in (None, "its note is damaged")


def test_a_frozen_worker_of_this_machine_is_given_up_after_the_expiry(store: RunStore) -> None:
    store.claims.take("abc", 1, identify())  # this process, whose claim nobody lets grow
    now = [0.0]
    watch = HeartbeatWatch(expiry_seconds=60, clock=lambda: now[0])
    state = store.claims.states()["abc"]
    assert not store.claims.judge("abc", state, watch)
    now[0] = 61.0
    assert store.claims.judge("abc", state, watch)
    assert "no life for 60 s" in str(store.claims.reason("abc", 1, RunStatus.LOST))
    assert store.claims.is_over("abc", 1)


def test_a_worker_that_its_control_group_killed_is_out_of_memory_and_another_is_lost(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 3\noom_kill 4\n")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    gone = identify() | {"start": "0", "memory_events": str(counter), "memory_kills": 4}
    for name, kills, expected in (("abc", 4, RunStatus.LOST), ("def", 5, RunStatus.OOM)):
        store.claims.take(name, 1, gone)
        counter.write_text(f"oom_kill {kills}\n")
        assert store.claims.judge(name, store.claims.states()[name], HeartbeatWatch())
        assert store.claims.states()[name].endings == (expected,)


def test_a_byte_that_is_no_text_costs_one_line_of_metrics(store: RunStore) -> None:
    store.run_folder("abc").mkdir()
    path = store.metrics_path("abc")
    append_rows(path, [checked_row({"step": step, "loss": 3.0 / step}) for step in (1, 2, 3)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"loss", b"l\xffss") + lines[2] + b"[1]\n7\n" + b'{"step": "x"}\n')
    assert [row["step"] for row in store.read_metrics("abc")] == [1, 3]
    assert "crc" not in store.read_metrics("abc")[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"model": 3}', b"null"])
def test_a_bad_config_concerns_its_run_alone_and_is_written_anew(
    store: RunStore, make_config: Callable[..., RunConfig], content: bytes
) -> None:
    config = make_config()
    identity = run_id(config)
    store.write_config(identity, config)
    path = store.run_folder(identity) / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        store.read_config(identity)
    store.write_config(identity, config)
    assert store.read_config(identity) == config


def test_a_config_of_another_run_is_refused_and_written_anew(
    store: RunStore, make_config: Callable[..., RunConfig]
) -> None:
    config = make_config()
    identity = run_id(config)
    store.write_config(identity, make_config(seed=9))
    with pytest.raises(ConfigError, match="describes another run"):
        store.read_config(identity)
    store.write_config(identity, config)
    assert store.read_config(identity) == config
    assert (store.run_folder(identity) / "damaged-config.json").exists()


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "../x", "runs": {}},
        {"name": "x", "runs": {"../../etc": {}}},
        {"name": "x", "runs": {"abc": 7}},
        {"name": "x", "runs": {}, "trunks": {"a/b": {}}},
        {"name": 3, "runs": {}},
    ],
)
def test_a_manifest_that_names_other_folders_is_refused(raw: object) -> None:
    with pytest.raises(RecordError, match="not a sweep manifest"):
        parse_manifest(json.dumps(raw), where="x.json")
