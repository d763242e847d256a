"""How far a sweep is, where runs share their first steps."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.config.counts import design_of, flops_of
from experiments.config.designs import PlannedRun
from experiments.config.prefixes import branch_step
from experiments.config.run import RunConfig, canonical, run_id
from experiments.files import append_rows
from experiments.machine.devices import gpu_memory_bytes
from experiments.manifests import Manifest
from experiments.planning.costs import CostModel, facts_of
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.prefix_tree import compile_runs
from experiments.records import RunRecord, RunStatus
from experiments.status.progress import ProgressReader
from experiments.store.checkpoints import prefix_folder
from experiments.store.store import RunStore
from models.config.schedules import ScheduleConfig
from tests.experiments.planning.test_prefix_tree import ESTIMATES
from tests.known import trained


@pytest.fixture
def shared(tmp_path: Path, make_config: Callable[..., RunConfig]) -> tuple[RunStore, list[PlannedRun], ProgressReader]:
    """Two budgets of one trunk, nothing trained yet."""
    store, runs = RunStore(tmp_path), []
    store.prepare()
    for steps in (100, 200):
        schedule = ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=round(0.2 * steps) * 256)
        config = make_config(tokens=256 * steps, schedule=schedule)
        store.write_config(run_id(config), config)
        runs.append(PlannedRun(run_id=run_id(config), config=config))
    costs = CostModel()
    manifest = Manifest(
        name="shared",
        runs={run.run_id: {} for run in runs},
        facts={run.run_id: facts_of(run.config, costs) for run in runs},
        segments=compile_runs(runs, ESTIMATES).segments,
    )
    return store, runs, ProgressReader(PlannedSweep(store, manifest), costs, 2)


def publish(store: RunStore, run: PlannedRun, shared_steps: int) -> None:
    """A finished run that took so many steps from its trunk."""
    (segment,) = (item for item in compile_runs([run], ESTIMATES).segments)
    store.claims.take(run.run_id, 1, {})
    store.publish(
        RunRecord(
            run_id=run.run_id,
            status=RunStatus.DONE,
            config=canonical(trained(run.config)),
            design=design_of(trained(run.config), num_train_tokens=None),
            outcome={"loss": 1.0},
            execution={"trunk": segment.prefix, "shared_steps": shared_steps},
        )
    )
    store.claims.end(run.run_id, 1, RunStatus.DONE)


def test_runs_are_as_far_as_the_trunk_that_they_wait_for(
    shared: tuple[RunStore, list[PlannedRun], ProgressReader],
) -> None:
    store, runs, reader = shared
    before = reader.read()
    assert [row.status for row in before.runs] == ["queued", "queued"]
    assert before.flops_spent == 0
    (prefix,) = (item for item in compile_runs(runs, ESTIMATES).segments if item.is_prefix)
    assert store.claims.take(prefix.segment_id, 1, {})
    folder = prefix_folder(store, str(prefix.prefix))
    folder.mkdir(parents=True)
    append_rows(folder / "metrics.jsonl", [{"step": 40, "tokens": 40 * 256, "train_loss": 2.0}])
    now = reader.read()
    assert [(row.status, row.tokens_done, row.loss) for row in now.runs] == [("running", 40 * 256, 2.0)] * 2
    assert now.flops_spent == pytest.approx(flops_of(trained(runs[0].config), tokens=40 * 256))
    assert now.seconds_left < before.seconds_left


def test_shared_steps_are_spent_once(shared: tuple[RunStore, list[PlannedRun], ProgressReader]) -> None:
    store, runs, reader = shared
    for run in runs:
        publish(store, run, branch_step(runs[0].config))
    done = reader.read()
    assert done.flops_done == pytest.approx(sum(flops_of(trained(run.config)) for run in runs))
    per_step = flops_of(trained(runs[0].config), tokens=256)
    assert done.flops_spent == pytest.approx(per_step * (80 + 20 + 120))
    assert done.seconds_left == 0


def test_the_memory_of_the_smallest_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 24564\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpu_memory_bytes() == 24564 << 20
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_memory_bytes() is None
