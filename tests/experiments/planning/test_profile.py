"""Measured times decide how runs are executed, but no identity, no forced field and nothing that has begun."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.execution.supervisor import ExitStatus
from experiments.execution.worker import Worker, WorkerOptions
from experiments.machine.choices import ExecutionChoices
from experiments.planning.costs import training_memory_bytes
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.planning.profile.choice import Load, choose, memory_excess, profile_sweep
from experiments.planning.profile.table import (
    Measurement,
    Ratio,
    profile_path,
    read_measurement,
    shape_key,
    write_measurement,
)
from experiments.records import RunRecord, RunStatus
from experiments.store.store import RunStore

SWEEP = """name: measured
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32}
design: {kind: ladder, tokens: [12800], shapes: SHAPES}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
seeds: [0, 1]
"""
ONE, TWO = "[{width: 16, depth: 1}]", "[{width: 16, depth: 1}, {width: 24, depth: 1}]"
CLEAR, UNCLEAR, SLOWER = (
    Ratio(median=1.4, lo=1.3, hi=1.5),
    Ratio(median=1.4, lo=0.9, hi=2.0),
    Ratio(median=0.8, lo=0.7, hi=0.9),
)
LOAD = Load(num_runs=4, num_steps=1000, workers=2)


def measurement(**fields: Any) -> Measurement:
    """One in which explicit attention is clearly faster."""
    values: dict[str, Any] = {
        "shape": "width 16",
        "kind": "cpu",
        "device": "a processor",
        "torch": "2.0",
        "step_seconds": 0.01,
        "num_rounds": 9,
        "ratios": {"attention": {"explicit": CLEAR, "sdpa": SLOWER}},
    }
    return Measurement(**values | fields)


def sweep_file(folder: Path, shapes: str = ONE, more: str = "") -> Path:
    """The YAML of a small sweep."""
    path = folder / "measured.yaml"
    path.write_text(SWEEP.replace("SHAPES", shapes) + more)
    return path


def planned(file: Path, store: RunStore, cache: Cache, *overrides: str) -> PlannedSweep:
    """The sweep as `run` writes it."""
    return PlannedSweep.write(expand_file(file, overrides, cache=cache), file, store)[0]


def measure(file: Path, store: RunStore, cache: Cache, entry: Measurement) -> None:
    """Keep the same measurement for every shape of a sweep."""
    for run in expand_file(file, cache=cache).runs:
        assert isinstance(run.config, RunConfig)
        write_measurement(store, run.config, entry)


def train(sweep: PlannedSweep, cache: Cache, **options: Any) -> list[RunRecord]:
    """Train what is left as `work` does."""
    choices = ExecutionChoices(**sweep.manifest.execution)
    given = WorkerOptions(execution=choices, profile=sweep.manifest.profile, **options)
    worker = Worker(store=sweep.store, segments=sweep.segments(), options=given, cache=cache)
    assert worker.work() in (ExitStatus.DONE, ExitStatus.RESTART)
    found = [sweep.store.find_record(run_id) for run_id in sweep.run_ids]
    return [record for record in found if record is not None]


def test_the_fastest_value_of_a_field_is_chosen_where_it_is_clearly_faster() -> None:
    values, why, not_taken = choose(measurement(), ExecutionChoices(), LOAD)
    assert values == {"attention": "explicit"}
    assert why == ("attention explicit: 1.40 times as fast (1.30 to 1.50)",)
    assert not_taken == ()
    unclear = measurement(ratios={"attention": {"explicit": UNCLEAR}})
    values, why, not_taken = choose(unclear, ExecutionChoices(), LOAD)
    assert values == {}
    assert "not clear" in not_taken[0]


def test_what_a_user_forces_is_not_chosen() -> None:
    for forced in ("sdpa", "explicit"):
        values, _, _ = choose(measurement(), ExecutionChoices(attention=forced), LOAD)
        assert values == {}
    assert ExecutionChoices(attention="sdpa").completed({"attention": "explicit", "stacked": 4}).attention == "sdpa"
    eager, off = ExecutionChoices(compile=False), ExecutionChoices(stacked="off")
    assert eager.completed({"compile": True}).compile is False
    assert eager.forced == {"compile": False}
    assert not off.completed({"stacked": 4}).stacks
    assert ExecutionChoices(profile=False).completed({"stacked": 4}).stacked is None


@pytest.mark.parametrize(("num_steps", "taken"), [(1000, False), (100_000, True)])
def test_compiling_is_chosen_where_it_pays_back_within_what_is_left(num_steps: int, taken: bool) -> None:
    entry = measurement(ratios={"compile": {"true": CLEAR}}, compile_seconds=60.0)
    values, _, not_taken = choose(entry, ExecutionChoices(), replace(LOAD, num_steps=num_steps))
    assert values == ({"compile": True} if taken else {})
    assert taken or "it saves 3 s of what is left and costs 120 s" in not_taken[0]


@pytest.mark.parametrize(("num_runs", "expected"), [(1, {"threads": 2}), (2, {})])
def test_more_threads_are_chosen_where_runs_do_not_keep_all_cores_busy(num_runs: int, expected: dict[str, int]) -> None:
    entry = measurement(ratios={"threads": {"2": CLEAR}})
    assert choose(entry, ExecutionChoices(), replace(LOAD, num_runs=num_runs))[0] == expected


def test_stacking_comes_before_what_was_not_measured_with_it_and_precision_is_never_chosen() -> None:
    ratios = {name: {value: CLEAR} for name, value in (("stacked", "4"), ("micro_batch", "4"), ("precision", "bf16"))}
    values, _, not_taken = choose(measurement(ratios=ratios), ExecutionChoices(), LOAD)
    assert values == {"stacked": 4}
    assert any("never chosen here, since it makes other runs" in words for words in not_taken)
    assert choose(measurement(ratios=ratios), ExecutionChoices(), replace(LOAD, num_runs=1))[0] == {"micro_batch": 4}


def test_a_measurement_is_kept_for_one_shape_device_and_torch_and_believed_only_as_written(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = RunStore(tmp_path), sweep_file(tmp_path, TWO)
    configs = [run.config for run in expand_file(file, cache=cache).runs]
    assert isinstance(configs[0], RunConfig)
    keys = {str(shape_key(config)) for config in configs}
    assert len(keys) == 2  # seeds are no part of a shape
    path = write_measurement(store, configs[0], measurement())
    key = str(shape_key(configs[0]))
    (other,) = keys - {key}
    assert read_measurement(store, key, "cpu") == measurement()
    assert read_measurement(store, other, "cpu") is None
    with monkeypatch.context() as patch:
        patch.setattr("experiments.planning.profile.table.device_name", lambda kind: "another processor")
        assert profile_path(store, key, "cpu") != path
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", lambda name: "9.9")
        assert read_measurement(store, key, "cpu") is None
    path.write_text(path.read_text().replace("1.4", "9.4"))
    with pytest.raises(UserError, match="remove it and `isoflop profile` again"):
        read_measurement(store, key, "cpu")


def test_measured_choices_reach_workers_and_records_and_change_no_identity_and_no_loss(
    tmp_path: Path, cache: Cache
) -> None:
    file = sweep_file(tmp_path)
    plain, store = RunStore(tmp_path / "plain"), RunStore(tmp_path / "measured")
    before = planned(file, plain, cache)
    assert "profile" not in json.loads(before.path.read_text())
    expected = train(before, cache)
    ratios = {"attention": {"explicit": CLEAR}, "stacked": {"2": CLEAR}}
    measure(file, store, cache, measurement(ratios=ratios))
    sweep = planned(file, store, cache)
    assert list(sweep.manifest.profile.values()) == [{"attention": "explicit", "stacked": 2}]
    assert sweep.run_ids == before.run_ids
    for record, other in zip(train(sweep, cache), expected, strict=True):
        assert record.execution["attention_backend"] == "explicit"
        assert record.execution["stacked"] == 2
        assert record.execution["measured_choices"] == "attention stacked"
        assert "measured_choices" not in other.execution
        assert other.execution["attention_backend"] == "blockwise"
        assert record.outcome["loss"] == pytest.approx(other.outcome["loss"], abs=1e-5)


def test_a_sweep_file_may_refuse_or_overrule_what_was_measured(tmp_path: Path, cache: Cache) -> None:
    store, file = RunStore(tmp_path / "store"), sweep_file(tmp_path)
    measure(file, store, cache, measurement())
    assert planned(file, store, cache, "--execution.profile=false").manifest.profile == {}
    sweep = planned(file, store, cache, "--execution.attention=sdpa")
    assert sweep.manifest.profile == {}
    assert {record.execution["attention_backend"] for record in train(sweep, cache)} == {"sdpa"}


def test_a_shape_that_has_begun_keeps_what_it_began_with(tmp_path: Path, cache: Cache) -> None:
    store, file = RunStore(tmp_path / "store"), sweep_file(tmp_path)
    assert len(train(planned(file, store, cache), cache, max_runs=1)) == 1
    file = sweep_file(tmp_path, TWO)
    measure(file, store, cache, measurement())
    sweep = planned(file, store, cache)
    assert list(sweep.manifest.profile.values()) == [{"attention": "explicit"}]
    backends = {(record.design["width"], record.execution["attention_backend"]) for record in train(sweep, cache)}
    assert backends == {(16, "blockwise"), (24, "explicit")}
    measure(file, store, cache, measurement(ratios={"attention": {"sdpa": CLEAR}}))  # the machine has changed its mind
    assert planned(file, store, cache).manifest.profile == sweep.manifest.profile


def test_a_part_of_a_sweep_is_trained_as_the_whole_was_planned(tmp_path: Path, cache: Cache) -> None:
    store, file = RunStore(tmp_path / "store"), sweep_file(tmp_path)
    measure(file, store, cache, measurement(ratios={"stacked": {"2": CLEAR}}))
    sweep, expanded = planned(file, store, cache), expand_file(file, cache=cache)
    part = sweep.part(replace(expanded, runs=expanded.runs[:1]))
    assert part.manifest.profile == sweep.manifest.profile != {}


def _stopping(worker: Worker) -> Callable[[Path, Any], None]:
    """Stops the worker in place of writing rows."""
    return lambda path, rows: worker.stop()


def test_a_stopped_run_with_measured_choices_goes_on_to_the_same_digit(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, losses = sweep_file(tmp_path), []
    for stopped in (False, True):
        store = RunStore(tmp_path / f"stopped-{stopped}")
        measure(file, store, cache, measurement(ratios={"micro_batch": {"2": CLEAR}}))
        sweep = planned(file, store, cache)
        if stopped:
            options = WorkerOptions(profile=sweep.manifest.profile)
            worker = Worker(store=store, segments=sweep.segments(), options=options, cache=cache)
            monkeypatch.setattr("experiments.execution.segments.append_rows", _stopping(worker))
            assert worker.work() == ExitStatus.STOPPED
            monkeypatch.undo()
            sweep = planned(file, store, cache)
        records = train(sweep, cache)
        assert all(record.status is RunStatus.DONE and record.execution["micro_batch"] == 2 for record in records)
        losses.append([record.outcome["val_sums"] for record in records])
    assert losses[0] == losses[1]


def test_a_damaged_measurement_is_named_with_what_to_do_and_not_used(tmp_path: Path, cache: Cache) -> None:
    store, file = RunStore(tmp_path / "store"), sweep_file(tmp_path)
    measure(file, store, cache, measurement())
    (path,) = (store.root / "profile").iterdir()
    path.write_text(path.read_text().replace("1.4", "9.4"))
    sweep, changes = PlannedSweep.write(expand_file(file, cache=cache), file, store)
    assert sweep.manifest.profile == {}
    assert len(changes.damage) == 1
    assert changes.damage[0].startswith(f"{path} cannot be believed")
    assert changes.damage[0].endswith("remove it and `isoflop profile` again")


def test_layers_are_computed_again_where_a_batch_would_not_fit_on_the_gpu_and_nobody_said_otherwise(
    tmp_path: Path, cache: Cache
) -> None:
    runs = expand_file(sweep_file(tmp_path, "[{width: 16, depth: 1}, {width: 24, depth: 4}]"), cache=cache).runs
    small, large = (known_config(runs[place].config) for place in (0, -1))
    store, free = RunStore(tmp_path), ExecutionChoices()
    between = int((training_memory_bytes(small) + training_memory_bytes(large)) / 2 / 0.9)
    found = {item.shape[:8]: item for item in profile_sweep(runs, (), store, free, "measured", "cuda", between)}
    assert dict(found["width 16"].values) == {}
    assert dict(found["width 24"].values) == {"recompute": True}
    assert "layers computed again" in found["width 24"].execution
    assert "the GPU has" in found["width 24"].why[-1]
    assert training_memory_bytes(large, ExecutionChoices(recompute=True)) < training_memory_bytes(large)
    for decided in (
        ExecutionChoices(recompute=False),
        ExecutionChoices(profile=False),
        ExecutionChoices(micro_batch=1),
    ):
        assert memory_excess(large, decided, between) is None
    assert memory_excess(large, free, None) is None


def known_config(config: object) -> RunConfig:
    assert isinstance(config, RunConfig)
    return config
