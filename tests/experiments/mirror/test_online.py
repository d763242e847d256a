"""The mirror online, by the real client against a server of the tests' own that fails on demand."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.config.run import canonical
from experiments.machine.liveness import identify
from experiments.machine.wake import Wake
from experiments.records import RunStatus
from experiments.store.store import RunStore
from experiments.verbs.records.sync import Sync
from tests.experiments.mirror.conftest import Study
from tests.experiments.mirror.wandb_backend import KEY, Backend
from tests.experiments.mirror.wandb_stored import StoredRun

Start = Callable[..., subprocess.Popen[str]]


def stored(backend: Backend, identity: str) -> StoredRun:
    """A run of the default project."""
    return backend.runs[f"isoflop/{identity}"]


def own_columns(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows by training step, without what W&B adds and what is known to be absent."""
    kept = [
        {name: value for name, value in row.items() if not name.startswith(("_", "over_flops/")) and value is not None}
        for row in rows
    ]
    return sorted(kept, key=lambda row: row["step"])


def assert_equal_to_records(backend: Backend, study: Study) -> None:
    """Every row of every run is at the server, once."""
    for identity in study.ids:
        assert own_columns(stored(backend, identity).rows) == own_columns(study.store.read_metrics(identity))


def test_what_is_in_wandb_equals_the_records_and_is_sent_once(
    make_study: Callable[[int], Study], backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(3)
    study.write(0, range(1, 9))
    record = study.publish(0, trunk="t0123456789ab", shared_steps=3)
    study.write(1, range(1, 4))
    study.publish(1, status=RunStatus.DIVERGED)
    study.write(2, range(1, 6))
    assert study.sync("online") == 0
    assert "16 rows sent, 2 of 3 runs complete" in capsys.readouterr().out
    assert_equal_to_records(backend, study)
    run = stored(backend, study.ids[0])
    assert (run.group, run.job_type, run.state) == ("study", "fit", "finished")
    assert run.tags == ["decoder", "markov", "study"]
    assert [row["_step"] for row in run.rows] == list(range(1, 9))
    assert [row["over_flops/train_loss"] for row in run.rows] == [row["train_loss"] for row in run.rows]
    assert run.x_axes["*"] == run.x_axes["lr"] == "tokens"
    assert run.x_axes["over_flops/*"] == "flops"
    inputs = (
        *("params", "params_total", "params_non_embedding", "tokens", "unique_tokens", "flops"),
        *("width", "depth", "vocab", "lr", "batch"),
    )
    assert {name: run.summary[name] for name in inputs} == {name: record.design[name] for name in inputs}
    measured = {name: run.summary[name] for name in ("loss", "loss_se", "bpb")}
    assert measured == {"loss": 0.45, "loss_se": 0.01, "bpb": 0.6}
    assert (run.summary["trunk"], run.summary["shared_steps"]) == ("t0123456789ab", 3)
    config = {name: entry["value"] for name, entry in run.config.items()}
    assert json.loads(json.dumps(canonical(study.configs[0]))).items() <= config.items()
    assert config["execution"] == record.execution
    assert config["labels"] == {"role": "fit", "budget": 1e9}
    assert stored(backend, study.ids[1]).state == "failed"
    assert stored(backend, study.ids[2]).state == "preempted"
    assert study.sync("online") == 0
    assert "0 rows sent" in capsys.readouterr().out
    assert [stored(backend, identity).num_starts for identity in study.ids] == [1, 1, 1]


def test_a_run_of_two_sweeps_is_one_run_with_both_tags(make_study: Callable[[int], Study], backend: Backend) -> None:
    study = make_study(1)
    study.write(0, range(1, 4))
    study.publish(0)
    assert study.sync("online") == 0
    study.list_runs("wider", study.ids)
    assert study.sync("online", name="wider") == 0
    run = stored(backend, study.ids[0])
    assert {"study", "wider"} <= set(run.tags)
    assert_equal_to_records(backend, study)


def test_errors_of_the_server_and_requests_without_answer_lose_nothing(
    make_study: Callable[[int], Study], backend: Backend
) -> None:
    study = make_study(2)
    for index in (0, 1):
        study.write(index, range(1, 21))
        study.publish(index)
    backend.fail("UpsertBucket", status=500)
    backend.fail("file_stream", status=503)
    backend.fail("file_stream", status=None)
    assert study.sync("online", patience=6) == 0
    assert all(fault.times == 0 for fault in backend.faults)
    assert_equal_to_records(backend, study)


def test_rows_that_the_server_lost_are_found_by_count_and_sent_again_once(
    make_study: Callable[[int], Study], backend: Backend
) -> None:
    study = make_study(1)
    study.write(0, range(1, 11))
    study.publish(0)
    backend.num_lost_chunks = 1
    assert study.sync("online", patience=6) == 0
    assert_equal_to_records(backend, study)
    run = stored(backend, study.ids[0])
    for number in (3, 4):  # rows from the middle
        del run.lines[number]
    run.lines = dict(enumerate(run.rows))
    assert study.sync("online") == 0
    assert_equal_to_records(backend, study)
    assert run.state == "finished"


def test_rows_that_never_arrive_are_named_and_the_exit_status_says_so(
    make_study: Callable[[int], Study], backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(2)
    for index in (0, 1):
        study.write(index, range(1, 6))
        study.publish(index)
    assert study.sync("online") == 0
    stored(backend, study.ids[1]).lines.clear()
    backend.num_lost_chunks = 1000
    capsys.readouterr()
    assert study.sync("online", patience=1.5) == 1
    told = capsys.readouterr().err
    assert f"1 of 2 runs are not in W&B as they are here ({study.ids[1]}: 0 of 5 rows)" in told
    assert "run `isoflop sync" in told


def test_a_killed_mirror_is_gone_on_with_in_the_same_run_and_two_do_not_follow_one_sweep(
    make_study: Callable[[int], Study], backend: Backend, start: Start
) -> None:
    study = make_study(2)
    study.write(0, range(1, 6))
    study.publish(0)
    study.write(1, range(1, 4))
    study.store.claims.take(study.ids[1], 1, identify())  # this process stands for the worker
    words = study.command("--mode", "online", "--patience", 20)
    follower = start([*words, "--follow", "--seconds", "0.2"])
    names = [f"isoflop/{identity}" for identity in study.ids]
    backend.wait_for(lambda: set(names) <= set(backend.runs) and backend.runs[names[0]].state == "finished")
    refused = start(words, stdin=subprocess.DEVNULL)
    assert refused.wait(timeout=60) == 2
    assert refused.stderr is not None
    assert f"process {follower.pid} on this machine mirrors this sweep already" in refused.stderr.read()
    follower.send_signal(signal.SIGKILL)
    follower.wait(timeout=30)
    study.write(1, range(4, 9))
    study.publish(1)
    assert study.sync("online") == 0
    assert_equal_to_records(backend, study)
    assert stored(backend, study.ids[0]).num_starts == 1
    assert stored(backend, study.ids[1]).state == "finished"
    assert len(backend.runs) == 2


def test_a_follower_outlives_a_dead_network_and_ends_with_the_sweep(
    make_study: Callable[[int], Study], backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(2)
    study.write(0, range(1, 4))
    study.store.claims.take(study.ids[0], 1, identify())
    ended: list[int] = []
    client, over = study.client("online", patience=3), Wake()
    sync = Sync(store=study.store, manifest=study.manifest, client=client, report=None)
    follower = threading.Thread(target=lambda: ended.append(sync.follow(over, seconds=0.1)))
    follower.start()
    try:
        backend.wait_for(lambda: f"isoflop/{study.ids[0]}" in backend.runs)
        backend.dead = True
        study.write(1, range(1, 6))
        study.publish(1)
        backend.wait_for(lambda: client.drops > 0)
        study.write(0, range(4, 7))
        study.publish(0)
        backend.dead = False
        follower.join(timeout=60)
    finally:
        over.set()
        follower.join(timeout=60)
        client.close()
    assert ended == [0]
    assert_equal_to_records(backend, study)
    assert "W&B does not answer" in capsys.readouterr().err


def test_a_follower_takes_up_runs_that_the_sweep_lists_later(
    make_study: Callable[[int], Study], backend: Backend
) -> None:
    study = make_study(2)
    study.list_runs("study", study.ids[:1])
    for index in (0, 1):
        study.write(index, range(1, 4))
        study.store.claims.take(study.ids[index], 1, identify())
    client, over = study.client("online"), Wake()
    manifest = study.store.read_manifest("study")
    assert manifest is not None
    sync = Sync(store=study.store, manifest=manifest, client=client, report=None)
    follower = threading.Thread(target=lambda: sync.follow(over, seconds=0.1))
    follower.start()
    try:
        backend.wait_for(lambda: len(backend.runs) == 1)
        study.list_runs("study", study.ids)
        backend.wait_for(lambda: len(backend.runs) == 2)
        study.publish(0)
        study.publish(1)
        follower.join(timeout=60)
    finally:
        over.set()
        follower.join(timeout=60)
        client.close()
    assert_equal_to_records(backend, study)
    assert {run.state for run in backend.runs.values()} == {"finished"}


def test_a_dead_network_ends_sync_with_one_sentence_in_bounded_time(
    make_study: Callable[[int], Study], backend: Backend, start: Start
) -> None:
    study = make_study(1)
    study.write(0, range(1, 4))
    study.publish(0)
    backend.dead = True
    began = time.monotonic()
    hanging = start(study.command("--mode", "online", "--patience", 3))
    output, told = hanging.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert (hanging.returncode, output) == (1, "")
    assert told.count("\n") == 1
    assert told.startswith("W&B does not answer as it should (")
    assert "nothing is lost" in told
    assert "run `isoflop sync" in told


def test_a_service_that_does_not_end_is_killed_after_the_patience(
    make_study: Callable[[int], Study],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stubborn = tmp_path / "wandb-core"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", stubborn)
    service = subprocess.Popen([stubborn, "600"])

    def teardown(exit_code: int) -> None:
        raise SystemExit(service.wait())  # as wandb's own, which waits without bound

    monkeypatch.setattr("wandb.teardown", teardown)
    make_study(1).client("online", patience=0.5).drop()
    assert service.poll() == -signal.SIGKILL
    assert capfd.readouterr().err == ""


def test_a_follower_gives_up_when_nothing_is_left_to_train_and_wandb_stays_away(
    make_study: Callable[[int], Study], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(1)
    study.publish(0)
    monkeypatch.setattr("experiments.verbs.records.sync.MAX_PAUSE_SECONDS", 0.4)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    client = study.client("online")
    try:
        sync = Sync(store=study.store, manifest=study.manifest, client=client, report=None)
        assert sync.follow(Wake(), seconds=0.1) == 1
    finally:
        client.close()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "trying again until it does" in told[0]
    assert "nothing is lost" in told[1]


def test_training_goes_on_without_a_network_and_its_records_arrive_later(
    run_verb: Callable[..., subprocess.CompletedProcess[str]],
    sweep_text: str,
    backend: Backend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep, store = tmp_path / "tiny.yaml", RunStore(tmp_path / "store")
    sweep.write_text(sweep_text)
    words = ("run", sweep, "--store", store.root, "--workers", 1, "--wandb", "online", "--design.tokens=[12800]")
    with monkeypatch.context() as offline:
        offline.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing listens there
        told = run_verb(*words)
    assert told.returncode == 0, told.stderr
    assert "2 of 2 runs are done" in told.stdout
    assert "the W&B mirror is not complete" in told.stderr
    assert "nothing is lost" in (store.root / "logs" / "sync.log").read_text()
    told = run_verb("sync", "tiny", "--store", store.root, "--mode", "online")
    assert told.returncode == 0, told.stderr
    assert "2 of 2 runs complete in W&B" in told.stdout
    assert len(backend.runs) == 2
    for run in backend.runs.values():
        assert own_columns(run.rows) == own_columns(store.read_metrics(run.name))
    assert_key_nowhere(tmp_path)


def test_no_file_holds_the_api_key(
    make_study: Callable[[int], Study],
    backend: Backend,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    study = make_study(1)
    study.write(0, range(1, 4))
    study.publish(0)
    for mode in ("online", "offline"):
        process = start(study.command("--mode", mode, "--follow"), stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert KEY not in output
    assert_key_nowhere(tmp_path)
    assert KEY not in repr([vars(run) for run in backend.runs.values()])


def assert_key_nowhere(folder: Path) -> None:
    """No file under the folder (store, home, temporary files) holds the key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_system_metrics_are_those_of_the_worker_and_of_nothing_else(
    make_study: Callable[[int], Study], backend: Backend
) -> None:
    study = make_study(2)
    for index in (0, 1):
        study.write(index, range(1, 4))
    study.store.claims.take(study.ids[0], 1, identify())
    study.store.claims.take(study.ids[1], 1, identify() | {"host": "elsewhere"})
    client, over = study.client("online", stats_seconds=0.1, transmit_seconds=1), Wake()
    sync = Sync(store=study.store, manifest=study.manifest, client=client, report=None)
    follower = threading.Thread(target=lambda: sync.follow(over, seconds=0.1))
    follower.start()
    try:
        here, elsewhere = (f"isoflop/{identity}" for identity in study.ids)
        backend.wait_for(lambda: here in backend.runs and elsewhere in backend.runs)
        backend.wait_for(lambda: backend.runs[here].events)
    finally:
        over.set()
        follower.join(timeout=60)
        client.close()
    assert all("system.proc.memory.rssMB" in event for event in backend.runs[here].events)
    assert len(backend.runs[elsewhere].rows) == 3
    assert backend.runs[elsewhere].events == []
