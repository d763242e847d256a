"""Runs trained together: each with its own record, rows and checkpoints, and the numbers of the run trained alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.config.designs import PlannedRun
from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.execution.queue import Claimed, Limits, SegmentQueue
from experiments.execution.supervisor import ExitStatus
from experiments.execution.worker import Worker, WorkerOptions
from experiments.files import append_rows
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import Precision
from experiments.machine.liveness import HeartbeatWatch, identify
from experiments.manifests import Manifest, Segment
from experiments.planning.prefix_tree import compile_runs
from experiments.planning.stacks import StackPlan, stack_segments
from experiments.records import RunRecord, RunStatus
from experiments.store.checkpoints import available_checkpoints, declare_needed, own_checkpoint
from experiments.store.store import RunStore
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.stack import Stack
from tests.experiments.planning.test_prefix_tree import ESTIMATES

RATES = (3e-3, 1e-2, 3e-2)
BF16_TOLERANCE = 2e-3
"""Nats: 8 bits of a product's inputs and of its result, over 200 steps."""
TIMING = ("tokens_per_second", "mfu", "memory_bytes")


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A worker takes over signal handlers; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def configs(make_config: Callable[..., RunConfig]) -> list[RunConfig]:
    """Three rates of one shape, each with a seed and a decay of its own, over 200 steps."""
    base = make_config()
    return [
        replace(
            base,
            model=replace(base.model, dropout=0.0),
            tokens=256 * 200,
            seed=seed,
            optimizer=OptimizerConfig(learning_rate=rate, weight_decay=0.1 * seed),
        )
        for seed, rate in enumerate(RATES)
    ]


@pytest.fixture
def runs(configs: list[RunConfig]) -> list[PlannedRun]:
    """The same as runs of a sweep."""
    return planned(configs)


def planned(configs: list[RunConfig]) -> list[PlannedRun]:
    return [PlannedRun(run_id=run_id(config), config=config) for config in configs]


def prepare(store: RunStore, runs: list[PlannedRun], stacked: Any = 8, *, share: bool = True) -> tuple[Segment, ...]:
    """Write the runs to the store and mark those that may be trained together."""
    store.prepare()
    for run in runs:
        store.write_config(run.run_id, run.config)
    done = {run.run_id for run in runs if store.record_path(run.run_id).exists()}
    plan = compile_runs(runs, ESTIMATES, done=done, available=available_checkpoints(store), share=share)
    declare_needed(store, "test", plan.prefixes)
    configs = {run.run_id: run.config for run in runs}
    return stack_segments(plan.segments, configs, lambda _: ExecutionChoices(stacked=stacked), "cpu")[0]


def worker(store: RunStore, segments: tuple[Segment, ...], cache: Cache, **options: Any) -> Worker:
    return Worker(store=store, segments=segments, options=WorkerOptions(**options), cache=cache)


def records(store: RunStore, runs: list[PlannedRun]) -> list[RunRecord]:
    found = [store.read_record(run.run_id) for run in runs]
    assert all(record is not None for record in found)
    return [record for record in found if record is not None]


def rows(store: RunStore, run: PlannedRun) -> list[Mapping[str, Any]]:
    """The rows of a run but for times."""
    return [{key: value for key, value in row.items() if key not in TIMING} for row in store.read_metrics(run.run_id)]


def assert_as_alone(store: RunStore, alone: RunStore, runs: list[PlannedRun]) -> None:
    """Losses are within 1e-5, and rows are the same rows."""
    for run, record, expected in zip(runs, records(store, runs), records(alone, runs), strict=True):
        assert record.status == expected.status == RunStatus.DONE
        assert record.outcome["loss"] == pytest.approx(expected.outcome["loss"], abs=1e-5)
        assert record.outcome["val_counts"] == expected.outcome["val_counts"]
        found, wanted = rows(store, run), rows(alone, run)
        assert [row["step"] for row in found] == [row["step"] for row in wanted]
        assert [row["lr"] for row in found] == [row["lr"] for row in wanted]
        for row, other in zip(found, wanted, strict=True):
            assert row["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)


@pytest.fixture
def alone(tmp_path: Path, runs: list[PlannedRun], cache: Cache) -> RunStore:
    """The runs, each trained by itself."""
    store = RunStore(tmp_path / "alone")
    assert worker(store, prepare(store, runs, "off"), cache).work() == ExitStatus.DONE
    return store


def test_runs_trained_together_have_their_own_records_and_the_losses_of_the_runs_alone(
    tmp_path: Path, runs: list[PlannedRun], alone: RunStore, cache: Cache
) -> None:
    store = RunStore(tmp_path / "stacked")
    assert worker(store, prepare(store, runs), cache, checkpoint_seconds=0.0).work() == ExitStatus.DONE
    assert_as_alone(store, alone, runs)
    assert len({record.outcome["loss"] for record in records(store, runs)}) == 3
    for run, record, single in zip(runs, records(store, runs), records(alone, runs), strict=True):
        assert record.execution["stacked"] == 3
        assert "stacked" not in single.execution
        assert record.config == single.config
        assert store.claims.states()[run.run_id].endings == (RunStatus.DONE,)
        assert not own_checkpoint(store, run.run_id).exists()
        sizes = [(root.run_folder(run.run_id) / "weights.safetensors").stat().st_size for root in (store, alone)]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_member_that_diverges_is_recorded_and_changes_no_bit_of_the_others(
    tmp_path: Path, configs: list[RunConfig], precision: Precision, cache: Cache
) -> None:
    configs = [replace(config, precision=precision) for config in configs]
    runs = planned(configs)
    wild = replace(configs[1], optimizer=OptimizerConfig(learning_rate=1e3, grad_clip=None))
    mixed = planned([configs[0], wild, configs[2]])
    tame_store, store = RunStore(tmp_path / "tame"), RunStore(tmp_path / "mixed")
    for root, members in ((tame_store, runs), (store, mixed)):
        assert worker(root, prepare(root, members), cache).work() == ExitStatus.DONE
    found, expected = records(store, mixed), records(tame_store, runs)
    assert found[1].status == RunStatus.DIVERGED
    assert "lower the learning rate" in str(found[1].reason)
    assert len(store.read_metrics(mixed[1].run_id)) < len(store.read_metrics(mixed[0].run_id))
    for member in (0, 2):
        assert found[member].execution["stacked"] == 3
        assert found[member].outcome["val_sums"] == expected[member].outcome["val_sums"]
        assert found[member].execution["weights_sha256"] == expected[member].execution["weights_sha256"]
        assert rows(store, mixed[member]) == rows(tame_store, runs[member])


def test_runs_in_bf16_are_trained_together_as_near_to_the_runs_alone_as_bf16_rounds(
    tmp_path: Path, configs: list[RunConfig], alone: RunStore, runs: list[PlannedRun], cache: Cache
) -> None:
    reduced = planned([replace(config, precision="bf16") for config in configs])
    together, apart = RunStore(tmp_path / "together"), RunStore(tmp_path / "apart")
    for store, stacked in ((together, 8), (apart, "off")):
        assert worker(store, prepare(store, reduced, stacked), cache).work() == ExitStatus.DONE
    for record, single, exact in zip(
        records(together, reduced), records(apart, reduced), records(alone, runs), strict=True
    ):
        assert record.execution["stacked"] == 3
        assert record.execution["precision"] == "bf16"
        assert record.outcome["loss"] == pytest.approx(single.outcome["loss"], abs=BF16_TOLERANCE)
        assert record.outcome["loss"] != exact.outcome["loss"]


def test_a_stopped_stack_goes_on_from_the_checkpoint_of_each_member_alone_or_stacked(
    tmp_path: Path, runs: list[PlannedRun], alone: RunStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path / "stacked")
    first = worker(store, prepare(store, runs), cache)

    def stop_at_fifty(path: Path, written: Any) -> None:
        append_rows(path, written)
        if any(row["step"] == 50 for row in written):
            first.stop()

    monkeypatch.setattr("experiments.execution.segments.append_rows", stop_at_fifty)
    assert first.work() == ExitStatus.STOPPED
    monkeypatch.undo()
    for run in runs:
        assert store.claims.states()[run.run_id].endings == (RunStatus.INTERRUPTED,)
        assert own_checkpoint(store, run.run_id).exists()
    shapes = {run.run_id: own_checkpoint(store, run.run_id).stat().st_size for run in runs}
    assert max(shapes.values()) < 12 * 4 * 6000  # weights and two moments of one model, not of the stack
    assert worker(store, prepare(store, runs[:1], "off"), cache).work() == ExitStatus.DONE
    assert worker(store, prepare(store, runs[1:]), cache).work() == ExitStatus.DONE
    assert_as_alone(store, alone, runs)
    assert [record.execution.get("stacked") for record in records(store, runs)] == [None, 2, 2]


def test_a_stack_whose_process_is_killed_is_trained_to_the_same_losses(
    tmp_path: Path, runs: list[PlannedRun], alone: RunStore, cache: Cache
) -> None:
    store = RunStore(tmp_path / "stacked")
    manifest = Manifest(
        name="killed",
        runs={run.run_id: {} for run in runs},
        segments=prepare(store, runs),
        execution={"stacked": 8},
    )
    store.write_manifest(manifest)
    words = [sys.executable, "-m", "experiments", "work", str(store.manifest_path("killed"))]
    process = subprocess.Popen(
        [*words, "--checkpoint-seconds", "0"], env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 300
        while not all(own_checkpoint(store, run.run_id).exists() for run in runs):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert worker(store, prepare(store, runs), cache).work() == ExitStatus.DONE
    assert_as_alone(store, alone, runs)
    for run, record in zip(runs, records(store, runs), strict=True):
        assert record.execution["stacked"] == 3
        assert store.claims.states()[run.run_id].endings == (RunStatus.LOST, RunStatus.DONE)


def test_runs_that_share_a_prefix_are_stacked_from_where_they_leave_it(
    tmp_path: Path, configs: list[RunConfig], cache: Cache
) -> None:
    schedules = [ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=256 * steps // 5) for steps in (100, 200)]
    grid = planned(
        [
            replace(configs[seed], tokens=256 * steps, schedule=schedule)
            for seed in range(2)
            for steps, schedule in zip((100, 200), schedules, strict=True)
        ]
    )
    store, alone = RunStore(tmp_path / "stacked"), RunStore(tmp_path / "alone")
    segments = prepare(store, grid)
    assert sum(item.is_prefix for item in segments) == 2
    assert worker(store, segments, cache).work() == ExitStatus.DONE
    assert worker(alone, prepare(alone, grid, "off", share=False), cache).work() == ExitStatus.DONE
    assert_as_alone(store, alone, grid)
    shared = [record.execution["shared_steps"] for record in records(store, grid)]
    assert shared == [80, 80, 80, 80]
    assert {record.execution.get("stacked") for record in records(store, grid)} >= {2}
    assert all(max(steps) == 160 for steps in available_checkpoints(store).values())  # left for longer budgets


def test_a_stack_that_fails_is_tried_again_run_by_run(
    tmp_path: Path, runs: list[PlannedRun], alone: RunStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: object) -> torch.Tensor:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(Stack, "losses", fall)
    store = RunStore(tmp_path / "stacked")
    assert worker(store, prepare(store, runs), cache).work() == ExitStatus.DONE
    assert_as_alone(store, alone, runs)
    for run, record in zip(runs, records(store, runs), strict=True):
        assert "stacked" not in record.execution
        assert store.claims.states()[run.run_id].endings == (RunStatus.FAILED, RunStatus.DONE)


@pytest.mark.parametrize(("num_workers", "expected"), [(1, 3), (2, 2), (3, 1)])
def test_a_worker_leaves_the_others_their_part(
    tmp_path: Path, runs: list[PlannedRun], num_workers: int, expected: int
) -> None:
    store = RunStore(tmp_path)
    queue = SegmentQueue(
        store=store,
        segments=prepare(store, runs),
        limits=Limits(max_failures=3, max_losses=3),
        watch=HeartbeatWatch(60.0),
        owner=identify(),
        on_exhausted=lambda *_: None,
    )
    claimed, _ = queue.take()
    assert isinstance(claimed, Claimed)
    alike = queue.take_alike(claimed, num_workers)
    assert 1 + len(alike) == expected
    assert len(store.claims.states()) == expected


def plan_of(config: RunConfig, **choices: Any) -> StackPlan | None:
    segments = [Segment(segment_id=name, run_id=name, end_step=9) for name in "ab"]
    return stack_segments(segments, {"a": config, "b": config}, lambda _: ExecutionChoices(**choices), "cpu")[1]


def test_a_plan_says_why_runs_are_trained_alone(configs: list[RunConfig]) -> None:
    config = configs[0]
    assert plan_of(config) is None
    both = plan_of(config, stacked="auto")
    assert both is not None
    assert list(both.gains.values()) == [(1.0, 1.0)]  # nobody has said that it is faster
    assert replace(both, gains={}) == StackPlan(num_runs=2, num_alike=1, most_members=2)
    for other, words in (
        (replace(config, model=replace(config.model, dropout=0.1)), "dropout"),
        (replace(config, model=replace(config.model, positions="t5")), "t5"),
        (replace(config, model=replace(config.model, width=2048), batch_tokens=256), "as fast alone"),
    ):
        told = plan_of(other, stacked="auto")
        assert told is not None
        assert told.num_runs == 0
        assert words in told.why_not[0]
    small = plan_of(config, stacked=4, micro_batch=3)
    assert small is not None
    assert "micro_batch" in small.why_not[0]
