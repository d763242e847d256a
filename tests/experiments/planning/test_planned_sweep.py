"""A sweep in its store: what is written is what is found again, and what changed is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.config.kinds import canonical, design_of, flops_of
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.planning.costs import CostModel, facts_of, learned_costs, shape_of
from experiments.planning.planned_sweep import Changes, PlannedSweep
from experiments.planning.plans import expand_file
from experiments.records import RunRecord, RunStatus
from experiments.store.store import RunStore


@pytest.fixture
def file(sweep_text: str, tmp_path: Path) -> Path:
    """The tiny sweep of four runs."""
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text)
    return path


@pytest.fixture
def sweep(file: Path, cache: Cache, tmp_path: Path) -> PlannedSweep:
    """The tiny sweep, written to a store."""
    planned, changes = PlannedSweep.write(expand_file(file, cache=cache), file, RunStore(tmp_path))
    assert changes == Changes()
    return planned


def publish(sweep: PlannedSweep, run_id: str, rate: float) -> None:
    config = sweep.store.read_config(run_id)
    record = RunRecord(
        run_id=run_id,
        status=RunStatus.DONE,
        config=canonical(config),
        design=design_of(config, num_train_tokens=None),
        outcome={"loss": 1.0, "tokens_per_second": rate},
        execution={"device": "cpu"},
    )
    assert sweep.store.publish(record)


def test_a_sweep_is_found_as_it_was_written_by_manifest_file_and_name(
    sweep: PlannedSweep, file: Path, tmp_path: Path
) -> None:
    for name in (str(sweep.path), str(file), "tiny"):
        found = PlannedSweep.find(name, tmp_path)
        assert found.manifest == sweep.manifest
        assert found.segments() == sweep.segments()
        assert found.facts == sweep.facts


def test_a_sweep_that_was_never_run_is_refused_with_those_that_were(sweep: PlannedSweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sweep 'small' is not in the store .* it knows tiny"):
        PlannedSweep.find("small", tmp_path)


def test_runs_stand_in_the_workers_order_the_longest_first(sweep: PlannedSweep) -> None:
    runs = sweep.runs()
    assert [run.run_id for run in runs] == list(sweep.run_ids) == list(sweep.facts)
    seconds = [CostModel().seconds(run.config) for run in runs]
    assert seconds == sorted(seconds, reverse=True)


def test_facts_are_those_of_the_configs_also_where_an_older_manifest_holds_none(sweep: PlannedSweep) -> None:
    costs = CostModel()
    counted = {run.run_id: facts_of(run.config, costs) for run in sweep.runs()}
    assert sweep.facts == counted
    older = PlannedSweep(sweep.store, type(sweep.manifest)(name="tiny", runs=sweep.manifest.runs))
    assert dict(older.facts) == counted


def test_segments_cover_every_missing_run_once_also_those_that_the_manifest_forgot(sweep: PlannedSweep) -> None:
    assert sorted(item.run_id for item in sweep.segments() if not item.is_prefix) == sorted(sweep.run_ids)
    bare = PlannedSweep(sweep.store, type(sweep.manifest)(name="tiny", runs=sweep.manifest.runs))
    publish(sweep, sweep.run_ids[0], 1e4)
    left = bare.segments()
    assert sorted(item.run_id for item in left) == sorted(sweep.run_ids[1:]) == sorted(bare.missing())
    assert all(item.start_step == 0 and item.prefix is None for item in left)


def test_a_second_plan_tells_which_runs_are_new_and_which_are_gone(
    sweep: PlannedSweep, file: Path, cache: Cache
) -> None:
    expanded = expand_file(file, ["--design.tokens=[25600, 51200]"], cache=cache)
    planned, changes = PlannedSweep.write(expanded, file, sweep.store)
    assert set(changes.added) == set(planned.run_ids) - set(sweep.run_ids)
    assert set(changes.removed) == set(sweep.run_ids) - set(planned.run_ids)
    assert len(changes.added) == len(changes.removed) == 2
    assert changes.corpus is None


def test_a_cost_model_learns_rates_by_shape_from_finished_runs(sweep: PlannedSweep) -> None:
    first = sweep.runs()[0]
    publish(sweep, first.run_id, 12_800.0)
    costs = sweep.costs("cpu")
    assert costs.measured == {shape_of(first.config): 12_800.0}
    assert costs.seconds(first.config) == first.config.tokens / 12_800.0
    assert learned_costs(sweep.store, sweep.run_ids, "cuda").measured == {}
    assert shape_of(canonical(first.config)) == shape_of(first.config)


def test_flops_of_a_sweep_are_those_of_its_runs(sweep: PlannedSweep) -> None:
    assert {run.run_id: flops_of(run.config) for run in sweep.runs()} == {
        run_id: facts.flops for run_id, facts in sweep.facts.items()
    }
