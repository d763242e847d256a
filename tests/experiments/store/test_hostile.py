"""Hostile files and names in a store: no traceback, and no sweep that stops.

A planned sweep of four runs, of which one is published. One file is replaced by hostile content, or one name is added;
then everything that reads a store is asked, `run` plans again, and a worker's queue must offer every other run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.config.designs import ExpandedSweep
from experiments.data.cache import Cache
from experiments.digests import checked_row
from experiments.errors import UserError
from experiments.execution.queue import Limits, SegmentQueue
from experiments.files import append_rows
from experiments.machine.liveness import HeartbeatWatch, identify
from experiments.manifests import read_records
from experiments.planning.costs import CostModel
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.records import DESIGN_FIELDS, RecordError, RunRecord, RunStatus
from experiments.status.progress import ProgressReader
from experiments.store.checkpoints import checkpoint_path
from experiments.store.store import RunStore
from experiments.store.verify import verify_store
from experiments.verbs.records.prune import removable

CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "a blank": b" ",
    "a line": b"\n",
    "a zero": b"\0",
    "zeros": bytes(4096),
    "an open brace": b"{",
    "a list": b"[]",
    "a list of lists": b"[[], [1], {}]",
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "a text": b'"abc"',
    "an empty object": b"{}",
    "no UTF-8": b"\xff\xfe\xfd",
    "UTF-16": '{"run_id": "abc", "status": "done"}'.encode("utf-16"),
    "a mark before UTF-8": b'\xef\xbb\xbf{"run_id": "abc", "status": "done"}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "NaN": b"NaN",
    "an infinite number": b'{"step": 1e999, "schema": 1e999}',
    "a number of 9,000 digits": b'{"schema": ' + b"9" * 9000 + b"}",
    "a text as schema": b'{"run_id": "abc", "status": "done", "schema": "one"}',
    "a false digest": b'{"run_id": "abc", "status": "done", "digest": "0"}',
    "a digest of another kind": b'{"run_id": "abc", "status": "done", "digest": [1, {}]}',
    "names as lists": b'{"run_id": ["abc"], "status": ["done"], "name": ["x"], "runs": [["y"]]}',
    "names of other folders": b'{"run_id": "../x", "status": "done", "name": "../x", "runs": {"../../y": {}}}',
    "numbers as names": b'{"run_id": 7, "status": 7, "name": 7, "runs": {"7": 7}, "reason": 7, "host": 7, "pid": 7}',
    "wrong types throughout": b'{"run_id": "abc", "status": "done", "design": 3, "outcome": [], "config": "x"}',
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "a program": b"#!/bin/sh\nrm -rf /\n",
}
TRANSFORMS: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-2],
    "twice": lambda content: content * 2,
    "with lines of Windows": lambda content: content.replace(b"\n", b"\r\n").replace(b":", b";", 1),
    "with a flipped bit": lambda content: content[:-9] + bytes([content[-9] ^ 8]) + content[-8:],
    "reversed": lambda content: content[::-1],
}
SPECIALS = ("a folder", "a folder with a file", "a pipe", "a link to itself", "a link to nowhere")
VICTIMS = (
    "runs/{done}/record.json",
    "runs/{done}/config.json",
    "runs/{done}/metrics.jsonl",
    "runs/{waits}/config.json",
    "runs/{tried}/metrics.jsonl",
    "claims/{tried}.1",
    "claims/{tried}.1.failed",
    "sweeps/tiny.json",
    "trunks/t0123456789ab/needed/tiny.json",
)
NAMES = [
    *("claims/README", "claims/x.y.z", "claims/abc.one", "claims/abc.1.done.bak", "claims/.nfs0001", "claims/abc."),
    *("claims/.1", "claims/abc.-1", "claims/abc.99999999999999999999", "claims/abc.1.finished", "claims/ä.1"),
    *("claims/abc.²", "claims/abc.1.done", "claims/abc.1e3", "claims/0", "claims/abc.0", "claims/abc..done"),
    *("claims/x.1.", "claims/%s.1", "runs/notes.txt", "runs/.DS_Store", "runs/thesis/", "runs/ä/"),
    *("runs/0123456789ab/", "runs/0123456789AB/", "sweeps/notes.txt", "sweeps/.hidden.json", "sweeps/folder.json/"),
    *("trunks/notes", "trunks/t/", "trunks/t1/x.pt", "trunks/t2/²³.pt", "trunks/t3/-1.pt", "trunks/t5/needed/"),
    *("trunks/t4/99999999999999999999.pt", "logs/", "junk", "wandb/x"),
]

Planned = tuple[Path, ExpandedSweep, dict[str, str]]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, sweep_text: str, cache: Cache) -> Planned:
    """A planned store, its sweep, and who plays which part."""
    folder = tmp_path_factory.mktemp("planned")
    sweep = folder / "tiny.yaml"
    sweep.write_text(sweep_text)
    expanded, store = expand_file(sweep, cache=cache), RunStore(folder / "store")
    PlannedSweep.write(expanded, sweep, store, share=False)
    done, tried, waits, _ = sorted(run.run_id for run in expanded.runs)
    design = dict.fromkeys(sorted(DESIGN_FIELDS), 1)
    store.publish(RunRecord(run_id=done, status=RunStatus.DONE, design=design, outcome={"loss": 1.0}))
    for run_id in (done, tried):
        append_rows(store.metrics_path(run_id), [checked_row({"step": 1, "tokens": 256, "train_loss": 2.0})])
        store.claims.take(run_id, 1, identify() | {"start": "0"})
    store.claims.end(done, 1, RunStatus.DONE)
    store.claims.end(tried, 1, RunStatus.FAILED, "bad luck")
    needed = store.prefixes / "t0123456789ab" / "needed" / "tiny.json"
    needed.parent.mkdir(parents=True)
    needed.write_text(json.dumps({tried: 48}))
    checkpoint_path(store, "t0123456789ab", 48).write_bytes(b"")
    return folder, expanded, {"done": done, "tried": tried, "waits": waits}


@pytest.fixture
def store(planned: Planned, tmp_path: Path) -> Iterator[RunStore]:
    """A copy of the planned store."""
    shutil.copytree(planned[0] / "store", tmp_path / "store")
    shutil.copy(planned[0] / "tiny.yaml", tmp_path / "tiny.yaml")
    yield RunStore(tmp_path / "store")
    shutil.rmtree(tmp_path, ignore_errors=True)


def refused_at_most_in_a_sentence(work: Callable[[], object]) -> None:
    """Do something that may refuse."""
    with contextlib.suppress(UserError):
        work()


def everything_goes_on(store: RunStore, expanded: ExpandedSweep, hit: str | None) -> None:
    """Ask every reader, plan again, and see that a worker is offered all runs that are not published."""
    sweep = store.root.parent / "tiny.yaml"

    def progress() -> None:
        found = ProgressReader(PlannedSweep.find("tiny", store.root), CostModel(), 1).read()
        assert len(found.runs) == 4
        json.dumps(found.to_dict(), allow_nan=False)

    damage: list[RecordError] = []
    refused_at_most_in_a_sentence(progress)
    refused_at_most_in_a_sentence(lambda: list(read_records(PlannedSweep.find("tiny", store.root).path, damage.append)))
    refused_at_most_in_a_sentence(lambda: removable(store))
    json.dumps(verify_store(store).to_dict())
    store = RunStore(store.root)  # another process
    again, _ = PlannedSweep.write(expanded, sweep, store, share=False)
    progress()
    assert len(again.run_ids) == 4
    queue = SegmentQueue(
        store=store,
        segments=again.segments(),
        limits=Limits(max_failures=3, max_losses=3),
        watch=HeartbeatWatch(),
        owner=identify(),
        on_exhausted=lambda run_id, state: None,
    )
    offered = set()
    while (claimed := queue.take()[0]) is not None:
        offered.add(claimed.segment.run_id)
        store.read_config(claimed.segment.run_id)
    missing = {run_id for run_id in again.run_ids if not store.is_published(run_id)}
    assert missing - {hit} <= offered
    assert len(missing) >= 3


def put(path: Path, what: str, good: bytes) -> None:
    """Replace a file by something hostile."""
    path.unlink()
    if what in CONTENTS:
        path.write_bytes(CONTENTS[what])
    elif what in TRANSFORMS:
        path.write_bytes(TRANSFORMS[what](good))
    elif what.startswith("a folder"):
        path.mkdir()
        if what.endswith("file"):
            (path / "x").write_text("")
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if what.endswith("itself") else "/nowhere/at/all")


@pytest.mark.parametrize("what", [*CONTENTS, *TRANSFORMS, *SPECIALS])
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_hostile_file_costs_at_most_its_own_run(planned: Planned, store: RunStore, victim: str, what: str) -> None:
    _, expanded, parts = planned
    path = store.root / victim.format(**parts)
    put(path, what, path.read_bytes())
    everything_goes_on(store, expanded, hit=path.name.split(".")[0] if path.parent.name == "claims" else None)


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_name_stops_nobody(planned: Planned, store: RunStore, name: str) -> None:
    path = store.root / name
    if name.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("foreign")
    everything_goes_on(store, planned[1], hit=None)
    assert path.exists()
