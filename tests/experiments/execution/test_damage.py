"""A worker among damaged files: what is damaged is set aside and trained again, to the same last digit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.config.designs import PlannedRun
from experiments.config.kinds import prefix_id
from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.identity import tokens_folder
from experiments.data.tokens import open_tokens
from experiments.execution import engine, segments
from experiments.execution.supervisor import ExitStatus
from experiments.execution.worker import Worker, WorkerOptions
from experiments.files import append_rows
from experiments.planning.planned_sweep import alone
from experiments.planning.prefix_tree import compile_runs
from experiments.records import RunStatus
from experiments.store.checkpoints import available_checkpoints, checkpoint_path, declare_needed, own_checkpoint
from experiments.store.store import RunStore
from experiments.training import job, step
from experiments.training.job import train_prefix
from experiments.training.state import TrainSetup
from experiments.training.step import take_step
from models.config.schedules import ScheduleConfig
from tests.experiments.planning.test_prefix_tree import ESTIMATES
from tests.known import trained

MEASURED = ("loss", "loss_se", "val_sums", "val_counts", "train_loss", "bpb")


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A worker takes over signal handlers; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def plan(store: RunStore, *configs: RunConfig) -> list[str]:
    """Write configs to a store and give their ids."""
    store.prepare()
    for config in configs:
        store.write_config(run_id(config), config)
    return [run_id(config) for config in configs]


def worker(store: RunStore, ids: list[str], cache: Cache, **options: Any) -> Worker:
    return Worker(
        store=store, segments=[alone(store, name) for name in ids], options=WorkerOptions(**options), cache=cache
    )


def measured(store: RunStore, identity: str) -> list[Any]:
    """What was measured of a run, with the losses of its rows."""
    record = store.read_record(identity)
    assert record is not None
    rows = [(row["step"], row["train_loss"], row["grad_norm"]) for row in store.read_metrics(identity)]
    return [record.status, [record.outcome.get(name) for name in MEASURED], rows]


def flip(path: Path, place: float = 0.5) -> None:
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 16
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A store for what runs measure when nothing is damaged."""
    return RunStore(tmp_path_factory.mktemp("peace"))


def undisturbed(peace: RunStore, config: RunConfig, cache: Cache) -> list[Any]:
    """What a run measures in peace; trained once."""
    (identity,) = plan(peace, config)
    if not peace.is_published(identity):
        assert worker(peace, [identity], cache).work() == 0
    return measured(peace, identity)


def stop_at(store: RunStore, identity: str, cache: Cache, step: int) -> None:
    """Train a run up to a step with a checkpoint after every step, and stop it there."""
    stopped = worker(store, [identity], cache, checkpoint_seconds=0.0)

    def write(path: Path, rows: Any) -> None:
        append_rows(path, rows)
        if any(row["step"] == step for row in rows):
            stopped.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "append_rows", write)
        assert stopped.work() == ExitStatus.STOPPED


def test_a_record_is_believed_over_the_claim_that_says_done(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, peace: RunStore
) -> None:
    config, store = make_config(tokens=12800), RunStore(tmp_path)
    (identity,) = plan(store, config)
    assert worker(store, [identity], cache).work() == 0
    for spoil in (Path.unlink, flip):
        spoil(store.record_path(identity))
        assert worker(store, [identity], cache).work() == 0
        assert measured(store, identity) == undisturbed(peace, config, cache)
    assert store.claims.states()[identity].endings == (RunStatus.DONE,) * 3


@pytest.mark.parametrize("spoil", [flip, cut])
@pytest.mark.parametrize("damaged", [["latest"], ["latest", "previous"]], ids=["one", "both"])
def test_an_unreadable_checkpoint_is_set_aside_and_the_one_before_it_serves(
    tmp_path: Path,
    make_config: Callable[..., RunConfig],
    cache: Cache,
    peace: RunStore,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    damaged: list[str],
) -> None:
    config, store = make_config(tokens=12800), RunStore(tmp_path)
    (identity,) = plan(store, config)
    stop_at(store, identity, cache, step=12)
    folder = own_checkpoint(store, identity).parent
    for name in damaged:
        spoil(folder / f"{name}.pt")
    first: list[int] = []
    original = take_step

    def note(setup: Any, state: Any, share: Any) -> None:
        first.append(state.step)
        original(setup, state, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "take_step", note)
        assert worker(store, [identity], cache).work() == 0
    assert first[0] == (11 if damaged == ["latest"] else 0)
    assert measured(store, identity) == undisturbed(peace, config, cache)
    assert f"{damaged[0]}.pt is set aside" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {f"damaged-{name}.pt" for name in damaged}
    assert store.claims.states()[identity].endings == (RunStatus.INTERRUPTED, RunStatus.DONE)


def test_a_damaged_checkpoint_of_a_prefix_costs_its_steps_and_no_digit(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, peace: RunStore
) -> None:
    def of(steps: int) -> PlannedRun:
        schedule = ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=round(0.2 * steps) * 256)
        config = make_config(tokens=256 * steps, schedule=schedule)
        return PlannedRun(run_id=run_id(config), config=config)

    runs, store = [of(50), of(75), of(100)], RunStore(tmp_path)
    plan(store, *(trained(run.config) for run in runs))
    prefix = str(prefix_id(runs[0].config))
    compiled = compile_runs(runs, ESTIMATES, available=available_checkpoints(store))
    declare_needed(store, "test", compiled.prefixes)
    original, spoilt = train_prefix, list[int]()

    def spoil_once(setup: TrainSetup, keep: tuple[int, Path]) -> None:
        original(setup, keep)
        if keep[0] not in spoilt:
            spoilt.append(keep[0])
            (flip if len(spoilt) == 1 else cut)(keep[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "train_prefix", spoil_once)
        assert Worker(store=store, segments=compiled.segments, cache=cache).work() == 0
    assert spoilt == [40, 60]
    assert (checkpoint_path(store, prefix, 40).with_name("damaged-40.pt")).exists()
    for run in runs:
        assert measured(store, run.run_id) == undisturbed(peace, trained(run.config), cache)
        assert RunStatus.FAILED not in store.claims.states()[run.run_id].endings


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "meta.json"])
def test_token_files_that_changed_are_made_anew(
    tmp_path: Path, make_config: Callable[..., RunConfig], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, cache = make_config().data, Cache(tmp_path)
    whole = {key: getattr(open_tokens(data, cache), key).copy() for key in ("train", "val", "val_offsets")}
    flip(tokens_folder(data, cache) / name, 0.7)
    again = open_tokens(data, cache)
    assert all((getattr(again, key) == value).all() for key, value in whole.items())
    assert f"{name}" in capsys.readouterr().err


def test_a_token_folder_without_meta_json_is_made_anew(
    tmp_path: Path, make_config: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    data, cache = make_config().data, Cache(tmp_path)
    open_tokens(data, cache)
    (tokens_folder(data, cache) / "meta.json").unlink()
    assert len(open_tokens(data, cache).train) > 1
    assert "meta.json is missing; it is made anew" in capsys.readouterr().err


def test_tokens_that_change_under_a_run_reach_no_checkpoint_and_no_record(
    tmp_path: Path, make_config: Callable[..., RunConfig], peace: RunStore, cache: Cache
) -> None:
    config, store, own = make_config(tokens=12800), RunStore(tmp_path), Cache(tmp_path / "cache")
    (identity,) = plan(store, config)
    flipped: list[Path] = []

    def write(path: Path, rows: Any) -> None:
        append_rows(path, rows)
        if not flipped and any(row["step"] == 20 for row in rows):
            flipped.append(tokens_folder(config.data, own) / "val.bin")
            flip(flipped[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "append_rows", write)
        assert worker(store, [identity], own).work() == ExitStatus.RESTART
    assert store.read_record(identity) is None
    assert not own_checkpoint(store, identity).exists()
    assert worker(store, [identity], own).work() == 0
    assert measured(store, identity) == undisturbed(peace, config, cache)


def test_a_damaged_config_fails_its_own_run_and_is_named(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    store = RunStore(tmp_path)
    bad, good = plan(store, make_config(tokens=12800), make_config(tokens=12800, seed=1))
    work = worker(store, [bad, good], cache)
    (store.run_folder(bad) / "config.json").write_text("{")
    assert work.work() == 0
    assert store.is_published(good)
    assert not store.is_published(bad)
    assert "config.json is not complete JSON" in str(store.claims.reason(bad, 1, RunStatus.FAILED))


def test_code_of_another_meaning_refuses_runs_that_were_planned_for_this_one(
    tmp_path: Path,
    make_config: Callable[..., RunConfig],
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = RunStore(tmp_path)
    ids = plan(store, make_config())
    work = worker(store, ids, cache)
    monkeypatch.setattr(segments, "SEMANTICS_VERSION", 2)
    assert work.work() == ExitStatus.REFUSED
    assert "semantics_version 1 and this code has 2" in capsys.readouterr().err
    assert store.read_record(ids[0]) is None


def test_memory_that_a_cpu_cannot_give_is_out_of_memory(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, original = RunStore(tmp_path), step.backward
    big, small = plan(store, make_config(tokens=12800), make_config(tokens=12800, seed=1))

    def scarce(setup: TrainSetup, *rest: Any) -> Any:
        if run_id(setup.config) == big and setup.micro_batch != 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: ...")
        return original(setup, *rest)

    monkeypatch.setattr(step, "backward", scarce)
    assert worker(store, [big, small], cache).work() == 0
    assert store.claims.states()[big].endings == (RunStatus.OOM, RunStatus.OOM, RunStatus.DONE)
    assert store.claims.states()[small].endings == (RunStatus.DONE,)


def test_a_run_that_is_killed_for_memory_with_one_sequence_is_recorded_as_failed(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    store = RunStore(tmp_path)
    (identity,) = plan(store, make_config(tokens=12800))
    for attempt in range(1, 5):  # with 8, 4, 2 and 1 sequences at a time
        store.claims.take(identity, attempt, {"host": "here"})
        store.claims.end(identity, attempt, RunStatus.OOM, "killed")
    assert worker(store, [identity], cache).work() == 0
    record = store.read_record(identity)
    assert record is not None
    assert record.status is RunStatus.FAILED
    assert "out of memory with one sequence at a time" in str(record.reason)
    assert (store.run_folder(identity) / "error.txt").exists()


def test_weights_are_those_of_the_published_record_whoever_finishes_later(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = make_config(tokens=12800), RunStore(tmp_path)
    (identity,) = plan(store, config)
    weights = store.run_folder(identity) / "weights.safetensors"
    original = engine.Execution.train_run
    winner: list[bytes] = []

    def overtaken(self: engine.Execution, order: engine.Order, write: Any) -> Any:
        if not winner:
            winner.append(b"")
            other = Worker(store=store, segments=[alone(store, identity)], cache=cache)
            claim = replace(claimed_of(other), attempt=9)
            other._trainer.train(claim)
            winner[0] = weights.read_bytes()
            (tmp_path / "trained").write_text("")
        trained = original(self, order, write)
        assert order.weights is not None
        order.weights.write_bytes(b"another's")
        return trained

    def claimed_of(other: Worker) -> Any:
        from experiments.execution.queue import Claimed

        return Claimed(segment=alone(store, identity), attempt=1, start=None, num_ooms=0)

    first = worker(store, [identity], cache)
    with monkeypatch.context() as patch:
        patch.setattr(
            engine.Execution,
            "train_run",
            lambda self, order, write: (
                original(self, order, write) if order.weights.name.endswith("-9") else overtaken(self, order, write)
            ),
        )
        assert first.work() == 0
    assert weights.read_bytes() == winner[0]
    assert not list(store.run_folder(identity).glob(".weights-*"))


def test_weights_of_a_worker_that_died_after_its_record_find_their_place(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    store = RunStore(tmp_path)
    (identity,) = plan(store, make_config(tokens=12800))
    assert worker(store, [identity], cache).work() == 0
    folder = store.run_folder(identity)
    (folder / "weights.safetensors").rename(folder / ".weights-1")  # as it was a moment before
    (store.claims.folder / f"{identity}.1.done").rename(store.claims.folder / f"{identity}.1.lost")
    assert worker(store, [identity], cache).work() == 0
    assert (folder / "weights.safetensors").exists()
    assert not (folder / ".weights-1").exists()
    assert json.loads(store.record_path(identity).read_text())["execution"]["attempts"] == 1
