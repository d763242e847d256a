"""The compiler: nothing trained twice, nothing that is waited for after what waits, and what sharing saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config.designs import PlannedRun
from experiments.config.prefixes import branch_step, prefix_id
from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import resolve
from experiments.manifests import Segment
from experiments.planning.packing import pack, workers_per_gpu
from experiments.planning.prefix_tree import CompiledSweep, Estimates, compile_runs
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from tests.known import trained

ESTIMATES = Estimates(
    seconds=lambda config: config.tokens * config.model.width * 1e-6,
    flops=lambda config: 6.0 * config.tokens * config.model.width,
    memory_bytes=lambda config: 1000 * config.model.width,
    checkpoint_bytes=lambda config: 100 * config.model.width,
)


def planned(config: RunConfig) -> PlannedRun:
    return PlannedRun(run_id=run_id(config), config=config)


@pytest.fixture
def ladder(make_config: Callable[..., RunConfig]) -> Callable[..., list[PlannedRun]]:
    """Runs of several budgets (in steps) and widths with a decay of 20 % of each budget."""

    def make(steps: list[int], widths: tuple[int, ...] = (16,), **changes: Any) -> list[PlannedRun]:
        runs = []
        for width in widths:
            for number in steps:
                config = make_config(tokens=256 * number, **changes)
                decay = round(0.2 * number) * 256
                config = replace(
                    config,
                    model=replace(config.model, width=width),
                    schedule=ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=decay),
                )
                runs.append(planned(config))
        return runs

    return make


def trained_steps(plan: CompiledSweep) -> int:
    return sum(item.end_step - item.start_step for item in plan.segments)


def test_five_even_budgets_of_six_sizes_save_more_than_half_of_the_flops(
    ladder: Callable[..., list[PlannedRun]],
) -> None:
    runs = ladder([100, 200, 300, 400, 500], (8, 16, 24, 32, 40, 48))
    plan = compile_runs(runs, ESTIMATES)
    assert plan.saved_fraction == pytest.approx(1 - (400 + 20 + 40 + 60 + 80 + 100) / 1500)
    assert plan.saved_fraction > 0.5
    doubling = compile_runs(ladder([100, 200, 400, 800, 1600]), ESTIMATES)
    assert doubling.saved_fraction == pytest.approx(1 - (1280 + 0.2 * 3100) / 3100)


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.integers(60, 400), min_size=1, max_size=6, unique=True),
    available=st.lists(st.integers(1, 300), max_size=3, unique=True),
    num_done=st.integers(0, 5),
)
def test_every_missing_run_is_covered_once_from_a_checkpoint_that_is_there_or_is_made_before(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], available: list[int], num_done: int
) -> None:
    runs = [planned(_config(number)) for number in steps]
    prefix = str(prefix_id(trained(runs[0].config)))
    done = {run.run_id for run in runs[:num_done]}
    plan = compile_runs(runs, ESTIMATES, done=done, available={prefix: available})
    branches = [item for item in plan.segments if not item.is_prefix]
    assert sorted(item.run_id for item in branches) == sorted(run.run_id for run in runs if run.run_id not in done)
    by_id = {item.segment_id: item for item in plan.segments}
    assert len(by_id) == len(plan.segments)
    order = [item.segment_id for item in plan.segments]
    branch = {run.run_id: branch_step(run.config) for run in runs}
    for item in plan.segments:
        if item.after is not None:
            before = by_id[item.after]
            assert (before.end_step, before.prefix) == (item.start_step, item.prefix)
            assert order.index(before.segment_id) < order.index(item.segment_id)
            assert before.path_seconds >= item.path_seconds
        else:
            assert item.start_step == 0 or item.start_step in available
        if not item.is_prefix:
            assert item.start_step <= branch[item.run_id]
    covered: set[int] = set()
    for item in (item for item in plan.segments if item.is_prefix):
        part = set(range(item.start_step, item.end_step))
        assert not part & covered, "a step of the prefix is trained twice"
        covered |= part
    assert plan.flops <= plan.flops_alone


def _config(number: int) -> RunConfig:
    data = resolve(
        DataConfig(corpus="markov", corpus_options={"num_symbols": 8, "num_tokens": 65536}, context=32), Cache()
    )
    return RunConfig(
        model=TransformerConfig(vocab_size=data.vocab_size, width=16, depth=1, num_heads=2, context=32),
        data=data,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(name="wsd", warmup_tokens=2560, decay_tokens=round(0.2 * number) * 256),
        tokens=256 * number,
        batch_tokens=256,
    )


def test_a_longer_budget_goes_on_from_the_checkpoint_that_an_earlier_sweep_left(
    ladder: Callable[..., list[PlannedRun]],
) -> None:
    short, long = ladder([100, 400])
    prefix = str(prefix_id(trained(short.config)))
    first = compile_runs([short], ESTIMATES)
    assert [item.keep_step for item in first.segments] == [80]
    later = compile_runs([short, long], ESTIMATES, done={short.run_id}, available={prefix: [80]})
    (only,) = later.segments
    assert (only.run_id, only.start_step, only.after, only.keep_step) == (long.run_id, 80, None, 320)


def test_a_constant_schedule_shares_all_of_the_shorter_run(make_config: Callable[..., RunConfig]) -> None:
    schedule = ScheduleConfig(name="constant", warmup_tokens=2560)
    runs = [planned(make_config(tokens=256 * number, schedule=schedule)) for number in (100, 200)]
    plan = compile_runs(runs, ESTIMATES)
    assert trained_steps(plan) == 200


def test_seeds_sizes_and_rates_are_trunks_of_their_own(
    ladder: Callable[..., list[PlannedRun]], make_config: Callable[..., RunConfig]
) -> None:
    runs = ladder([100]) + ladder([100], seed=1) + ladder([100], optimizer=OptimizerConfig(learning_rate=2e-2))
    assert len({prefix_id(trained(run.config)) for run in runs}) == 3
    same = ladder([100, 200])
    assert prefix_id(trained(same[0].config)) == prefix_id(trained(same[1].config))
    cosine = make_config(schedule=ScheduleConfig(name="cosine", warmup_tokens=2560))
    assert prefix_id(cosine) is None


def test_the_plan_says_why_nothing_is_shared(make_config: Callable[..., RunConfig]) -> None:
    def why(*configs: RunConfig) -> tuple[str, ...]:
        return compile_runs([planned(config) for config in configs], ESTIMATES).why_not

    base, more = make_config(), make_config(tokens=51200)
    faster = replace(more, optimizer=OptimizerConfig(learning_rate=5e-3))
    assert why(base) == ("every size has one token budget",)
    assert why(base, more) == ()
    assert why(base, faster) == ("learning rate differs by tokens",)
    cosine = ScheduleConfig(name="cosine", warmup_tokens=2560)
    (reason,) = why(replace(base, schedule=cosine), replace(more, schedule=cosine))
    assert "schedule 'cosine' depends on the budget" in reason
    bigger = replace(more, batch_tokens=512)
    assert why(base, bigger) == ("batch differs by tokens",)


def test_sharing_can_be_switched_off(ladder: Callable[..., list[PlannedRun]]) -> None:
    runs = ladder([100, 200])
    plan = compile_runs(runs, ESTIMATES, share=False)
    assert all(item.prefix is None and item.start_step == 0 for item in plan.segments)
    assert plan.flops == plan.flops_alone


def test_packing_keeps_precedence_and_is_never_faster_than_the_longest_chain(
    ladder: Callable[..., list[PlannedRun]],
) -> None:
    plan = compile_runs(ladder([100, 200, 300], (8, 16, 32)), ESTIMATES)
    one, many = pack(plan.segments, 1), pack(plan.segments, 100)
    assert one.seconds == pytest.approx(sum(item.seconds for item in plan.segments))
    assert many.seconds == pytest.approx(plan.critical_seconds)
    two = pack(plan.segments, 2)
    assert many.seconds <= two.seconds <= one.seconds
    assert sum(two.busy_seconds) == pytest.approx(one.seconds)


def test_several_small_runs_share_a_gpu_and_a_large_one_has_it_alone() -> None:
    small = Segment(segment_id="a", run_id="a", end_step=1, memory_bytes=1 << 30)
    large = Segment(segment_id="b", run_id="b", end_step=1, memory_bytes=60 << 30)
    assert workers_per_gpu([small], 80 << 30) == 8
    assert workers_per_gpu([small], 8 << 30) == 4
    assert workers_per_gpu([small, large], 80 << 30) == 1
    assert workers_per_gpu([large], 8 << 30) == 1


def test_a_segment_comes_back_from_its_plain_data(ladder: Callable[..., list[PlannedRun]]) -> None:
    for item in compile_runs(ladder([100, 200]), ESTIMATES).segments:
        assert Segment.from_dict(item.to_dict()) == item
