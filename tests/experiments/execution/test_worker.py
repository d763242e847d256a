"""One worker: retries, failures that block nobody, fresh processes, runs of the dead."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.execution import engine
from experiments.execution.supervisor import ExitStatus
from experiments.execution.worker import Worker, WorkerOptions
from experiments.files import append_rows
from experiments.machine.liveness import identify
from experiments.planning.planned_sweep import alone
from experiments.records import RunStatus
from experiments.store.store import RunStore
from experiments.training.job import train_run
from experiments.training.state import TrainSetup


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A worker takes over signal handlers; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def two_runs(tmp_path: Path, make_config: Callable[..., RunConfig]) -> tuple[RunStore, list[str]]:
    """A store with two short runs that wait."""
    store, ids = RunStore(tmp_path), []
    store.prepare()
    for seed in (0, 1):
        config = make_config(tokens=12800, seed=seed)
        store.write_config(run_id(config), config)
        ids.append(run_id(config))
    return store, ids


def worker(store: RunStore, ids: list[str], cache: Cache, **options: Any) -> Worker:
    return Worker(
        store=store,
        segments=[alone(store, identity) for identity in ids],
        options=WorkerOptions(**options),
        cache=cache,
    )


def test_a_worker_trains_what_is_there_and_ends(two_runs: tuple[RunStore, list[str]], cache: Cache) -> None:
    store, ids = two_runs
    assert worker(store, ids, cache).work() == 0
    records = [store.read_record(identity) for identity in ids]
    assert all(record is not None and record.status == "done" for record in records)
    execution = records[0].execution  # type: ignore[union-attr]
    assert {"device", "threads", "attention_backend", "versions", "micro_batch", "trunk"} <= set(execution)
    assert not (store.run_folder(ids[0]) / "checkpoints" / "latest.pt").exists()
    assert (store.run_folder(ids[0]) / "weights.safetensors").exists()


def test_a_run_that_fails_is_retried_up_to_the_limit_recorded_with_its_reason_and_blocks_nobody(
    two_runs: tuple[RunStore, list[str]], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = two_runs
    run = train_run

    def break_the_first(job: TrainSetup, keep: Any) -> Any:
        if run_id(job.config) == ids[0]:
            raise RuntimeError("the sky fell")
        return run(job, keep)

    monkeypatch.setattr(engine, "train_run", break_the_first)
    assert worker(store, ids, cache, max_failures=3).work() == 0
    failed, done = (store.read_record(identity) for identity in ids)
    assert failed is not None
    assert done is not None
    assert (failed.status, done.status) == ("failed", "done")
    assert "RuntimeError: the sky fell (3 attempts" in str(failed.reason)
    assert store.claims.states()[ids[0]].endings == (RunStatus.FAILED, RunStatus.FAILED, RunStatus.FAILED)
    assert "break_the_first" in (store.run_folder(ids[0]) / "error.txt").read_text()


def test_a_run_that_fails_once_is_trained_by_the_next_attempt(
    two_runs: tuple[RunStore, list[str]], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = two_runs
    run, calls = train_run, []

    def break_once(job: TrainSetup, keep: Any) -> Any:
        calls.append(run_id(job.config))
        if len(calls) == 1:
            raise RuntimeError("a cosmic ray")
        return run(job, keep)

    monkeypatch.setattr(engine, "train_run", break_once)
    assert worker(store, ids, cache).work() == 0
    assert store.claims.states()[ids[0]].endings == (RunStatus.FAILED, RunStatus.DONE)
    assert store.read_record(ids[0]).execution["attempts"] == 2  # type: ignore[union-attr]


def test_a_run_that_diverges_is_recorded_and_kept(
    two_runs: tuple[RunStore, list[str]], make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    store, ids = two_runs
    config = make_config(tokens=12800)
    wild = replace(config, optimizer=replace(config.optimizer, learning_rate=1e3, grad_clip=None))
    store.write_config(run_id(wild), wild)
    assert worker(store, [run_id(wild), *ids], cache).work() == 0
    record = store.read_record(run_id(wild))
    assert record is not None
    assert record.status == RunStatus.DIVERGED
    assert "lower the learning rate" in str(record.reason)
    assert store.read_metrics(run_id(wild))


def test_a_worker_asks_for_a_fresh_process_after_its_share_of_runs(
    two_runs: tuple[RunStore, list[str]], cache: Cache
) -> None:
    store, ids = two_runs
    assert worker(store, ids, cache, max_runs=1).work() == ExitStatus.RESTART
    assert worker(store, ids, cache, max_growth_bytes=-1).work() == ExitStatus.RESTART
    assert worker(store, ids, cache).work() == 0


def test_an_accelerator_error_ends_the_process_because_its_context_is_lost(
    two_runs: tuple[RunStore, list[str]], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = two_runs

    def broken(job: TrainSetup, keep: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(engine, "train_run", broken)
    assert worker(store, ids, cache).work() == ExitStatus.RESTART
    assert store.claims.states()[ids[0]].endings == (RunStatus.FAILED,)


def test_a_stopped_worker_leaves_a_checkpoint_from_which_another_goes_on(
    two_runs: tuple[RunStore, list[str]], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = two_runs
    first = worker(store, ids, cache)

    def stop_at_ten(path: Path, rows: Any) -> None:
        append_rows(path, rows)
        if any(row["step"] == 10 for row in rows):
            first.stop()

    monkeypatch.setattr("experiments.execution.segments.append_rows", stop_at_ten)
    assert first.work() == ExitStatus.STOPPED
    assert store.claims.states()[ids[0]].endings == (RunStatus.INTERRUPTED,)
    reason = store.claims.reason(ids[0], 1, RunStatus.INTERRUPTED)
    assert "stopped after 10 of 50 steps" in str(reason)
    monkeypatch.setattr("experiments.execution.segments.append_rows", append_rows)
    assert worker(store, ids, cache).work() == 0
    assert [row["step"] for row in store.read_metrics(ids[0])] == list(range(1, 51))


def test_the_run_of_a_dead_worker_is_taken_up_and_the_run_of_a_living_one_is_not(
    two_runs: tuple[RunStore, list[str]], cache: Cache
) -> None:
    store, ids = two_runs
    store.claims.take(ids[0], 1, identify() | {"start": "0"})  # a process that is gone
    store.claims.take(ids[1], 1, identify())  # this one
    assert worker(store, ids, cache, linger=False).work() == 0
    states = store.claims.states()
    assert states[ids[0]].endings == (RunStatus.LOST, RunStatus.DONE)
    assert states[ids[1]].running


def test_a_run_whose_workers_keep_vanishing_is_recorded_as_failed(
    two_runs: tuple[RunStore, list[str]], cache: Cache
) -> None:
    store, ids = two_runs
    for attempt in (1, 2):
        store.claims.take(ids[0], attempt, identify() | {"start": "0"})
        store.claims.end(ids[0], attempt, RunStatus.LOST, "killed")
    assert worker(store, ids, cache, max_losses=2).work() == 0
    record = store.read_record(ids[0])
    assert record is not None
    assert record.status == RunStatus.FAILED
    assert "2 lost" in str(record.reason)
    assert json.loads(record.to_json())
