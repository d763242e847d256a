"""The store: exclusive claims, first publisher wins, torn files harm nobody."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.config.run import RunConfig, run_id
from experiments.digests import parse_metrics
from experiments.errors import UserError
from experiments.files import StoreError, append_rows, link_once
from experiments.manifests import Manifest, RunFacts, Segment, read_records
from experiments.records import DESIGN_FIELDS, RecordError, RunRecord, RunStatus, flat_row, read_record
from experiments.store.store import RunStore

DESIGN = dict.fromkeys(sorted(DESIGN_FIELDS), 1)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    result = RunStore(tmp_path)
    result.prepare()
    return result


def record(loss: float, identity: str = "abc", status: RunStatus = RunStatus.DONE) -> RunRecord:
    return RunRecord(run_id=identity, status=status, design=DESIGN, outcome={"loss": loss})


def test_a_config_comes_back_as_it_was_written(store: RunStore, make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    store.write_config(run_id(config), config)
    assert store.read_config(run_id(config)) == config


def test_the_first_finished_record_is_published_and_later_ones_change_nothing(store: RunStore) -> None:
    assert store.publish(record(1.0))
    assert not store.publish(record(2.0))
    assert store.read_record("abc").outcome["loss"] == 1.0  # type: ignore[union-attr]
    assert [path.name for path in store.run_folder("abc").iterdir()] == ["record.json"]


def test_where_links_do_not_work_the_first_finisher_still_wins(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "links are not supported here")

    monkeypatch.setattr("os.link", refuse)
    assert store.publish(record(1.0))
    assert not store.publish(record(2.0))
    assert store.read_record("abc").outcome["loss"] == 1.0  # type: ignore[union-attr]


def test_a_link_that_worked_but_was_reported_as_an_error_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    link = os.link

    def lie(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(17, "the answer was lost and the request repeated")

    monkeypatch.setattr("os.link", lie)
    (tmp_path / "temporary").write_text("text")
    assert link_once(tmp_path / "temporary", tmp_path / "final", lock=None)


def fight(root: Path, runs: list[str], worker: int, barrier: object) -> None:
    store, won = RunStore(root), []
    barrier.wait()  # type: ignore[attr-defined]
    for name in runs:
        state = store.claims.states().get(name)
        attempt = 1 if state is None else state.attempts + 1
        if (state is None or not (state.running or state.published)) and store.claims.take(
            name, attempt, {"worker": worker}
        ):
            won.append(name)
            store.claims.end(name, attempt, RunStatus.DONE)
    (root / f"won.{worker}.json").write_text(json.dumps(won))


def test_processes_that_fight_over_runs_never_share_one_and_lose_none(store: RunStore) -> None:
    runs = [f"run{number:03d}" for number in range(60)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(6)
    workers = [context.Process(target=fight, args=(store.root, runs, number, barrier)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    won = [name for number in range(6) for name in json.loads((store.root / f"won.{number}.json").read_text())]
    assert sorted(won) == runs


def test_a_run_goes_from_claimed_to_lost_to_done(store: RunStore) -> None:
    assert store.claims.take("abc", 1, {"host": "here"})
    first = store.claims.states()["abc"].heartbeat
    store.claims.beat("abc", 1)
    assert store.claims.states()["abc"].heartbeat == first + 1  # type: ignore[operator]
    assert store.claims.owner("abc", 1) == {"host": "here"}
    assert store.claims.end("abc", 1, RunStatus.LOST, "killed")
    assert not store.claims.end("abc", 1, RunStatus.DONE)
    assert not store.claims.take("abc", 1, {})
    assert store.claims.take("abc", 2, {})
    store.claims.end("abc", 2, RunStatus.DONE)
    state = store.claims.states()["abc"]
    assert (state.attempts, state.endings, state.running, state.published) == (
        2,
        (RunStatus.LOST, RunStatus.DONE),
        False,
        True,
    )
    assert store.claims.reason("abc", 1, RunStatus.LOST) == "killed"


def test_retries_end_at_their_limits(store: RunStore) -> None:
    for attempt in (1, 2, 3):
        store.claims.take("abc", attempt, {})
        assert not store.claims.states()["abc"].exhausted(max_failures=3, max_losses=9)
        store.claims.end("abc", attempt, RunStatus.FAILED, "out of luck")
    assert store.claims.states()["abc"].exhausted(max_failures=3, max_losses=9)


def test_a_failure_that_is_forgotten_leaves_the_run_as_new_and_its_history_readable(store: RunStore) -> None:
    store.claims.take("abc", 1, {})
    store.claims.end("abc", 1, RunStatus.FAILED, "why")
    store.publish(RunRecord(run_id="abc", status=RunStatus.FAILED, reason="why", design=DESIGN))
    assert store.forget_failure("abc")
    assert "abc" not in store.claims.states()
    assert store.read_record("abc") is None
    assert {path.name for path in (store.run_folder("abc") / "earlier").iterdir()} == {
        "abc.1",
        "abc.1.failed",
        "record.json",
    }


def test_a_finished_run_is_never_forgotten(store: RunStore) -> None:
    store.publish(record(1.0))
    assert not store.forget_failure("abc")
    assert store.read_record("abc") is not None


def test_metrics_survive_a_torn_line_and_a_repeated_step(store: RunStore) -> None:
    store.run_folder("abc").mkdir()
    append_rows(store.metrics_path("abc"), [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}])
    with (store.run_folder("abc") / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')
    append_rows(store.metrics_path("abc"), [{"step": 2, "loss": 2.5}, {"step": 3, "loss": 2.0}])
    assert store.read_metrics("abc") == [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.5},
        {"step": 3, "loss": 2.0},
    ]
    assert parse_metrics("") == []


def test_a_sweep_name_belongs_to_the_file_that_claimed_it(store: RunStore) -> None:
    store.write_manifest(Manifest(name="study", runs={"abc": {}}, source="study.yaml"))
    store.write_manifest(Manifest(name="study", runs={"def": {}}, source="study.yaml"))
    with pytest.raises(UserError, match=r"belongs to study\.yaml, not other\.yaml"):
        store.write_manifest(Manifest(name="study", runs={}, source="other.yaml"))


DONE = {"run_id": "a", "status": "done", "design": DESIGN}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"run_id": "abc", "status": "do', "not complete JSON"),
        ("[]", "not a run record"),
        ('{"run_id": "abc", "status": "done", "design": {}}', "lacks depth"),
        (json.dumps({"run_id": "a", "status": "done", "design": DESIGN}), "holds no loss"),
        (json.dumps({"run_id": "a", "status": "done", "schema": 99, "design": DESIGN}), "newer"),
        (json.dumps({"run_id": "a", "status": "finished", "design": DESIGN}), "finished"),
        (json.dumps({"run_id": "a", "status": ["done"], "design": DESIGN}), "status"),
        (json.dumps({"run_id": "a", "status": "done", "design": []}), "as its design, not a JSON object"),
        (json.dumps({"run_id": "a", "status": "failed", "design": DESIGN | {"tokens": "many"}}), "design.tokens"),
        (json.dumps(DONE | {"outcome": {"loss": "low"}}), '"low" as outcome.loss, not a finite number'),
        (json.dumps(DONE | {"outcome": {"loss": math.nan}}), "NaN as outcome.loss, not a finite number"),
        (json.dumps(DONE | {"outcome": {"loss": True}}), "outcome.loss"),
        (json.dumps(DONE | {"outcome": {"loss": 1, "val_sums": [1, "a"]}}), "outcome.val_sums"),
        (json.dumps(DONE | {"outcome": {"loss": 1}, "execution": {"shared_steps": "3"}}), "execution.shared_steps"),
        (json.dumps(DONE | {"outcome": {"loss": 1}, "schema": "new"}), "schema"),
    ],
)
def test_a_record_that_cannot_be_believed_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=message):
        read_record(path)


def test_records_of_a_sweep_come_with_its_labels_and_unpublished_runs_are_left_out(store: RunStore) -> None:
    store.publish(record(1.5))
    runs = {"abc": {"budget": 1e12, "role": "fit"}, "missing": {"budget": 1e12, "role": "fit"}}
    store.write_manifest(Manifest(name="study", runs=runs, source="study.yaml"))
    ((found, labels),) = read_records(store.manifest_path("study"))
    row = flat_row(found, labels)
    assert (row["loss"], row["budget"], row["sweep"], row["params"]) == (1.5, 1e12, "study", 1)
    assert [item.run_id for item, _ in read_records(store.root)] == ["abc"]


def test_a_store_that_cannot_be_written_says_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="writable folder with --store"):
        RunStore(tmp_path / "file" / "store").prepare()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "stu', "is not a sweep manifest"),
        ("[]", "it holds no JSON object"),
        ('{"name": "study"}', "it lacks runs"),
        ('{"name": "study", "runs": []}', "runs is no JSON object"),
        ('{"name": "study", "runs": {}, "segments": [{"run": "a"}]}', "is not a sweep manifest"),
        ('{"name": "study", "runs": {}, "facts": {"a": {"params": 1}}}', "is not a sweep manifest"),
        ('{"name": "study", "runs": {}, "schema": 99}', "newer than"),
    ],
)
def test_a_manifest_that_cannot_be_believed_is_refused_by_name(store: RunStore, text: str, message: str) -> None:
    store.manifest_path("study").write_text(text)
    with pytest.raises(RecordError, match=message) as caught:
        store.read_manifest("study")
    assert "study.json" in str(caught.value)


def test_a_manifest_comes_back_as_it_was_written(store: RunStore) -> None:
    facts = RunFacts(
        params=1, width=8, depth=1, tokens=10, batch_tokens=2, flops=1e3, shape=(8, 1, 4, 2, 2, "fp32"), seconds=1.5
    )
    segments = (
        Segment(segment_id="t0-3", run_id="abc", prefix="t0", end_step=3, seconds=1.0),
        Segment(segment_id="abc", run_id="abc", prefix="t0", start_step=3, end_step=5, after="t0-3"),
    )
    manifest = Manifest(
        name="study",
        runs={"abc": {"role": "fit"}},
        order=("abc",),
        facts={"abc": facts},
        segments=segments,
        trunks={"t0": {"abc": 3}},
        source="study.yaml",
    )
    store.write_manifest(manifest)
    assert store.read_manifest("study") == manifest
    assert json.loads(store.manifest_path("study").read_text())["segments"][0]["trunk"] == "t0"
