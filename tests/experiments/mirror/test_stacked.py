"""Runs trained together in the mirror: each is a run of its own there, also one that diverged, in both precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.execution.supervisor import ExitStatus
from experiments.execution.worker import Worker, WorkerOptions
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import Precision
from experiments.manifests import Segment
from experiments.planning.stacks import stack_segments
from experiments.records import RunStatus
from experiments.store.store import RunStore
from models.config.optimizer import OptimizerConfig
from tests.experiments.mirror.conftest import Study
from tests.experiments.mirror.test_online import assert_equal_to_records, stored
from tests.experiments.mirror.wandb_backend import Backend

RATES = (3e-3, 1e3, 3e-2)
"""One a member; the second diverges."""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_member_of_a_stack_is_a_run_of_its_own_in_wandb(
    precision: Precision, make_config: Callable[..., RunConfig], cache: Cache, tmp_path: Path, backend: Backend
) -> None:
    base = make_config(precision=precision)
    configs = [
        replace(
            base,
            model=replace(base.model, dropout=0.0),
            seed=seed,
            optimizer=OptimizerConfig(learning_rate=rate, grad_clip=None),
        )
        for seed, rate in enumerate(RATES)
    ]
    study = Study(RunStore(tmp_path / "store"), configs)
    segments = [Segment(segment_id=name, run_id=name, end_step=configs[0].num_steps) for name in study.ids]
    choices = ExecutionChoices(stacked=3)
    by_id = dict(zip(study.ids, configs, strict=True))
    together, plan = stack_segments(segments, by_id, lambda _: choices, "cpu")
    assert plan is not None
    assert plan.most_members == 3
    worker = Worker(store=study.store, segments=together, options=WorkerOptions(execution=choices), cache=cache)
    assert worker.work() == ExitStatus.DONE
    assert study.sync("online") == 0
    assert_equal_to_records(backend, study)
    records = [study.store.find_record(identity) for identity in study.ids]
    assert [record and record.status for record in records] == [RunStatus.DONE, RunStatus.DIVERGED, RunStatus.DONE]
    assert set(backend.runs) == {f"isoflop/{identity}" for identity in study.ids}
    for identity, record, rate in zip(study.ids, records, RATES, strict=True):
        run = stored(backend, identity)
        assert record is not None
        assert run.state == ("finished" if record.status is RunStatus.DONE else "failed")
        assert len(run.rows) == len(study.store.read_metrics(identity))
        assert run.config["optimizer"]["value"]["learning_rate"] == rate
        if record.status is RunStatus.DONE:
            assert record.execution["stacked"] == 3
            assert run.summary["loss"] == record.outcome["loss"]
    assert len(stored(backend, study.ids[1]).rows) < len(stored(backend, study.ids[0]).rows)
