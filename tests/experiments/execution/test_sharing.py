"""Shared prefixes: a run that left a trunk equals the same run trained alone, to the last digit."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.designs import PlannedRun
from experiments.config.kinds import prefix_id
from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.execution import engine
from experiments.execution.queue import Limits, SegmentQueue
from experiments.execution.supervisor import ExitStatus
from experiments.execution.worker import Worker
from experiments.machine.liveness import HeartbeatWatch, identify
from experiments.manifests import Segment
from experiments.planning.prefix_tree import CompiledSweep, compile_runs
from experiments.records import RunStatus
from experiments.store.checkpoints import (
    available_checkpoints,
    available_steps,
    checkpoint_path,
    declare_needed,
    drop_unneeded,
)
from experiments.store.store import RunStore
from experiments.training import step as step_module
from experiments.training.job import TrainedRun, train_prefix, train_run
from experiments.training.state import TrainSetup
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from tests.experiments.planning.test_prefix_tree import ESTIMATES

TIMING = ("tokens_per_second", "mfu", "memory_bytes")
MEASURED = ("loss", "loss_se", "val_sums", "val_counts", "train_loss", "bpb")


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A worker takes over signal handlers; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def budgets(make_config: Callable[..., RunConfig], *steps: int, **changes: Any) -> list[PlannedRun]:
    """One size, one seed, several budgets, with dropout, and a decay of 20 % of each."""
    runs = []
    for number in steps:
        schedule = ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=round(0.2 * number) * 256)
        config = make_config(tokens=256 * number, **({"schedule": schedule} | changes))
        runs.append(PlannedRun(run_id=run_id(config), config=config))
    return runs


def train(store: RunStore, runs: list[PlannedRun], cache: Cache, *, share: bool = True) -> CompiledSweep:
    """What `run` does, in this process."""
    store.prepare()
    for run in runs:
        store.write_config(run.run_id, run.config)
    done = {run.run_id for run in runs if store.record_path(run.run_id).exists()}
    plan = compile_runs(runs, ESTIMATES, done=done, available=available_checkpoints(store), share=share)
    declare_needed(store, "test", plan.prefixes)
    assert Worker(store=store, segments=plan.segments, cache=cache).work() == 0
    return plan


def facts(store: RunStore, runs: list[PlannedRun]) -> list[Any]:
    """What was measured and written down, but for times."""
    found = []
    for run in runs:
        record = store.read_record(run.run_id)
        assert record is not None
        rows = [
            {key: value for key, value in row.items() if key not in TIMING} for row in store.read_metrics(run.run_id)
        ]
        found.append((record.status, record.reason, [record.outcome.get(key) for key in MEASURED], rows))
    return found


def test_runs_of_one_trunk_equal_the_same_runs_trained_alone_to_the_last_digit(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    runs = budgets(make_config, 100, 150, 250, 251)
    shared, alone = RunStore(tmp_path / "shared"), RunStore(tmp_path / "alone")
    plan = train(shared, runs, cache)
    train(alone, runs, cache, share=False)
    assert sum(item.is_prefix for item in plan.segments) == 3
    assert facts(shared, runs) == facts(alone, runs)
    records = [shared.read_record(run.run_id) for run in runs]
    assert {record.execution["trunk"] for record in records if record} == {prefix_id(runs[0].config)}
    assert [record.execution["shared_steps"] for record in records if record] == [80, 120, 200, 200]
    assert all(record.execution["trunk"] for record in map(alone.read_record, (run.run_id for run in runs)) if record)


def test_no_clipping_and_a_constant_rate_share_as_well(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    constant = ScheduleConfig(name="constant", warmup_tokens=2560)
    runs = budgets(
        make_config, 60, 120, schedule=constant, optimizer=OptimizerConfig(learning_rate=1e-2, grad_clip=None)
    )
    shared, alone = RunStore(tmp_path / "shared"), RunStore(tmp_path / "alone")
    train(shared, runs, cache)
    train(alone, runs, cache, share=False)
    assert facts(shared, runs) == facts(alone, runs)


def test_a_budget_that_is_added_later_trains_only_what_is_new(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    short, long = budgets(make_config, 100, 250)
    shared, alone = RunStore(tmp_path / "shared"), RunStore(tmp_path / "alone")
    train(shared, [short], cache)
    trunk = str(prefix_id(short.config))
    assert available_steps(shared, trunk) == [80]
    plan = train(shared, [short, long], cache)
    assert [(item.run_id, item.start_step) for item in plan.segments] == [(long.run_id, 80)]
    train(alone, [short, long], cache, share=False)
    assert facts(shared, [short, long]) == facts(alone, [short, long])
    assert available_steps(shared, trunk) == [200]


def test_checkpoints_that_no_run_needs_are_dropped_and_the_last_one_stays(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    runs = budgets(make_config, 60, 75, 90, 105, 120)
    store = RunStore(tmp_path)
    plan = train(store, runs, cache)
    assert available_steps(store, str(prefix_id(runs[0].config))) == [96]
    states = store.claims.states()
    assert {states[item.segment_id].endings for item in plan.segments} == {(RunStatus.DONE,)}, (
        "something was trained twice"
    )
    other = RunStore(tmp_path / "other")
    other.prepare()
    trunk = str(prefix_id(runs[0].config))
    for step in (48, 72, 96):
        checkpoint_path(other, trunk, step).parent.mkdir(parents=True, exist_ok=True)
        checkpoint_path(other, trunk, step).write_bytes(b"")
    declare_needed(other, "mine", {trunk: {"0" * 12: 72}})
    drop_unneeded(other, trunk)
    assert available_steps(other, trunk) == [72, 96]


def test_a_prefix_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = budgets(make_config, 100, 200)
    shared, alone = RunStore(tmp_path / "shared"), RunStore(tmp_path / "alone")
    original = train_prefix
    stopped: list[int] = []

    def stop_once(setup: TrainSetup, keep: tuple[int, Path]) -> None:
        if not stopped:
            steps = iter(range(40))
            setup = replace(setup, should_stop=lambda: next(steps, None) is None)
            stopped.append(keep[0])
        original(setup, keep)

    monkeypatch.setattr(engine, "train_prefix", stop_once)
    shared.prepare()
    for run in runs:
        shared.write_config(run.run_id, run.config)
    plan = compile_runs(runs, ESTIMATES)
    assert Worker(store=shared, segments=plan.segments, cache=cache).work() == ExitStatus.STOPPED
    trunk = str(prefix_id(runs[0].config))
    assert (shared.prefixes / trunk / "checkpoints" / "latest-80.pt").exists()
    train(shared, runs, cache)
    train(alone, runs, cache, share=False)
    assert stopped == [80]
    assert facts(shared, runs) == facts(alone, runs)


def test_a_branch_that_was_stopped_goes_on_from_its_own_checkpoint_and_remembers_what_it_shared(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    runs = budgets(make_config, 100, 200)
    alone = RunStore(tmp_path / "alone")
    shared = RunStore(tmp_path / "shared")
    original, attempts = train_run, list[int]()

    def stop_the_branch(setup: TrainSetup, keep: tuple[int, Path] | None) -> TrainedRun:
        if run_id(setup.config) == runs[0].run_id and not attempts:
            attempts.append(1)
            steps = iter(range(7))
            setup = replace(setup, should_stop=lambda: next(steps, None) is None)
        return original(setup, keep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "train_run", stop_the_branch)
        shared.prepare()
        for run in runs:
            shared.write_config(run.run_id, run.config)
        plan = compile_runs(runs, ESTIMATES)
        declare_needed(shared, "test", plan.prefixes)
        assert Worker(store=shared, segments=plan.segments, cache=cache).work() == ExitStatus.STOPPED
        assert shared.claims.states()[runs[0].run_id].endings == (RunStatus.INTERRUPTED,)
    train(shared, runs, cache)
    train(alone, runs, cache, share=False)
    assert facts(shared, runs) == facts(alone, runs)
    record = shared.read_record(runs[0].run_id)
    assert record is not None
    assert (record.execution["shared_steps"], record.execution["attempts"]) == (80, 2)


def test_a_trunk_that_diverges_leaves_its_runs_to_diverge_each_as_it_would_alone(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    hot = OptimizerConfig(learning_rate=300.0, grad_clip=None)
    runs = budgets(make_config, 100, 200, optimizer=hot)
    shared, alone = RunStore(tmp_path / "shared"), RunStore(tmp_path / "alone")
    train(shared, runs, cache)
    train(alone, runs, cache, share=False)
    assert facts(shared, runs) == facts(alone, runs)
    assert [row[0] for row in facts(shared, runs)] == ["diverged", "diverged"]


def test_a_trunk_that_fails_leaves_its_runs_to_be_trained_alone(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(setup: TrainSetup, keep: tuple[int, Path]) -> None:
        raise RuntimeError("no trunk today")

    monkeypatch.setattr(engine, "train_prefix", broken)
    runs = budgets(make_config, 60, 120)
    store = RunStore(tmp_path)
    train(store, runs, cache)
    records = [store.read_record(run.run_id) for run in runs]
    assert [record.status for record in records if record] == ["done", "done"]
    assert [record.execution["shared_steps"] for record in records if record] == [0, 0]


def test_a_prefix_whose_worker_vanished_is_taken_up(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache
) -> None:
    runs = budgets(make_config, 60, 120)
    store = RunStore(tmp_path)
    store.prepare()
    (prefix,) = (item for item in compile_runs(runs, ESTIMATES).segments if item.is_prefix)
    assert store.claims.take(prefix.segment_id, 1, identify() | {"pid": 2**22 + 1, "start": "0"})
    train(store, runs, cache)
    assert store.claims.states()[prefix.segment_id].endings == (RunStatus.LOST, RunStatus.DONE)


def test_a_run_that_memory_does_not_suffice_for_is_trained_in_smaller_pieces_to_the_same_loss(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    config = replace(config, model=replace(config.model, dropout=0.0))
    run = PlannedRun(run_id=run_id(config), config=config)
    whole, pieces = RunStore(tmp_path / "whole"), RunStore(tmp_path / "pieces")
    train(whole, [run], cache)
    original = step_module.backward

    def scarce(setup: TrainSetup, *rest: Any) -> torch.Tensor:
        if setup.micro_batch is not None and setup.micro_batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(setup, *rest)

    monkeypatch.setattr(step_module, "backward", scarce)
    train(pieces, [run], cache)
    one, many = whole.read_record(run.run_id), pieces.read_record(run.run_id)
    assert one is not None
    assert many is not None
    assert (one.execution["micro_batch"], many.execution["micro_batch"]) == (8, 2)
    assert pieces.claims.states()[run.run_id].endings == (RunStatus.OOM, RunStatus.OOM, RunStatus.DONE)
    assert many.outcome["loss"] == pytest.approx(one.outcome["loss"], abs=1e-6)


def test_a_run_that_does_not_fit_at_all_is_recorded_as_failed_and_blocks_nobody(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step_module, "backward", never)
    (run,) = budgets(make_config, 60)
    store = RunStore(tmp_path)
    train(store, [run], cache)
    record = store.read_record(run.run_id)
    assert record is not None
    assert record.status == RunStatus.FAILED
    assert "out of memory with one sequence at a time" in str(record.reason)


def test_a_checkpoint_that_was_removed_too_early_is_made_again(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = budgets(make_config, 60, 120)
    shared, alone = RunStore(tmp_path / "shared"), RunStore(tmp_path / "alone")
    trunk, original = str(prefix_id(runs[0].config)), train_prefix
    removed: list[Path] = []

    def remove_once(setup: TrainSetup, keep: tuple[int, Path]) -> None:
        original(setup, keep)
        _, path = keep
        if not removed:
            path.unlink()
            removed.append(path)

    monkeypatch.setattr(engine, "train_prefix", remove_once)
    plan = train(shared, runs, cache)
    train(alone, runs, cache, share=False)
    assert removed == [checkpoint_path(shared, trunk, 48)]
    (prefix,) = (item for item in plan.segments if item.is_prefix)
    assert shared.claims.states()[prefix.segment_id].endings == (RunStatus.DONE, RunStatus.DONE)
    assert facts(shared, runs) == facts(alone, runs)


def test_a_prefix_whose_last_run_is_published_while_it_is_judged_is_not_trained_again(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = budgets(make_config, 60, 120)
    store, trunk = RunStore(tmp_path), str(prefix_id(runs[0].config))
    plan = train(store, runs, cache)
    (prefix,) = (item for item in plan.segments if item.is_prefix)
    checkpoint, records = checkpoint_path(store, trunk, 48), [store.record_path(run.run_id) for run in runs]
    for record in records:  # as they were a moment ago
        record.rename(record.with_suffix(".later"))
    checkpoint.write_bytes(b"")
    queue = SegmentQueue(
        store=store,
        segments=[prefix, *(item for item in plan.segments if item.after == prefix.segment_id)],
        limits=Limits(max_failures=1, max_losses=1),
        watch=HeartbeatWatch(expiry_seconds=60),
        owner=identify(),
        on_exhausted=lambda name, state: None,
        fits=lambda segment: segment.is_prefix,
    )
    judge = SegmentQueue._needed

    def publish_after_judging(self: SegmentQueue, item: Segment) -> bool:
        found = judge(self, item)
        if checkpoint.exists():
            for record in records:
                record.with_suffix(".later").rename(record)
            checkpoint.unlink()
        return found

    monkeypatch.setattr(SegmentQueue, "_needed", publish_after_judging)
    assert queue.take()[0] is None
    assert store.claims.states()[prefix.segment_id].endings == (RunStatus.DONE,)
    assert queue.take() == (None, False)


@pytest.mark.parametrize("left", ["its own checkpoint", "the checkpoint that it left where it branched off"])
def test_a_run_that_can_go_on_needs_its_prefix_no_more(
    tmp_path: Path, make_config: Callable[..., RunConfig], cache: Cache, left: str
) -> None:
    runs = budgets(make_config, 60, 120)
    store, prefix = RunStore(tmp_path), str(prefix_id(runs[0].config))
    plan = train(store, runs, cache)
    (first,) = (item for item in plan.segments if item.is_prefix)
    last = next(item for item in plan.segments if item.keep_step is not None)
    store.record_path(last.run_id).unlink()  # as if it had been killed in its decay
    for claim in store.claims.folder.glob(f"{last.segment_id}.*"):
        claim.unlink()
    checkpoint_path(store, prefix, first.end_step).unlink(missing_ok=True)
    own = store.run_folder(last.run_id) / "checkpoints" / "latest.pt"
    own.parent.mkdir(exist_ok=True)
    if left == "its own checkpoint":
        own.write_bytes(b"")
        checkpoint_path(store, prefix, int(str(last.keep_step))).unlink(missing_ok=True)
    queue = SegmentQueue(
        store=store,
        segments=plan.segments,
        limits=Limits(max_failures=1, max_losses=1),
        watch=HeartbeatWatch(expiry_seconds=60),
        owner=identify(),
        on_exhausted=lambda name, state: None,
    )
    claimed, _ = queue.take()
    assert claimed is not None
    assert claimed.segment == last
    expected = None if own.exists() else checkpoint_path(store, prefix, int(str(last.keep_step)))
    assert claimed.start == expected
    assert store.claims.states()[first.segment_id].endings == (RunStatus.DONE,)
