"""The time that a plan states counts stacks: as measured, as estimated, and never where a rate has them already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.config.kinds import AnyRun
from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.manifests import Segment
from experiments.planning.costs import CostModel, shape_of
from experiments.planning.packing import pack
from experiments.planning.plans import compile_sweep, expand_file
from experiments.planning.profile.table import Measurement, Ratio, write_measurement
from experiments.planning.stacks import StackPlan
from experiments.store.store import RunStore

SWEEP = """name: alike
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32}
design: {kind: ladder, tokens: [12800], shapes: [{width: 16, depth: 1}]}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
seeds: [0, 1, 2, 3]
execution: {stacked: 4}
"""


def alike(number: int, seconds: float = 10.0, members: int = 4) -> list[Segment]:
    return [
        Segment(segment_id=name, run_id=name, end_step=9, seconds=seconds, stack="s", stack_members=members)
        for name in "abcdefgh"[:number]
    ]


def test_without_a_gain_stacks_take_as_long_as_their_runs_one_after_another() -> None:
    assert pack(alike(8), 1).seconds == pytest.approx(80.0)
    assert pack(alike(8), 2).seconds == pytest.approx(40.0)


def test_a_stack_takes_the_time_of_its_runs_over_its_gain() -> None:
    gains = {"s": (1.0, 1.2, 1.4, 2.0)}
    assert pack(alike(8), 1, gains).seconds == pytest.approx(40.0)
    assert pack(alike(3), 1, gains).seconds == pytest.approx(30.0 / 1.4)
    assert pack(alike(1), 1, gains).seconds == pytest.approx(10.0)
    assert sum(pack(alike(8), 2, gains).busy_seconds) == pytest.approx(40.0)


def test_a_worker_leaves_the_others_their_part() -> None:
    gains = {"s": (1.0, 1.25, 1.5, 2.0)}
    packing = pack(alike(4), 2, gains)
    assert packing.busy_seconds == pytest.approx((20.0 / 1.25, 20.0 / 1.25))
    assert pack(alike(4), 4, gains).seconds == pytest.approx(10.0)


def test_other_segments_keep_their_order_and_what_waits_is_not_taken_early() -> None:
    prefix = Segment(segment_id="t-5", run_id="x", prefix="t", end_step=5, seconds=7.0)
    waiting = [replace(item, after="t-5") for item in alike(2)]
    lone = Segment(segment_id="y", run_id="y", end_step=9, seconds=1.0)
    assert pack([prefix, *waiting, lone], 1, {"s": (1.0, 2.0)}).seconds == pytest.approx(7.0 + 10.0 + 1.0)


def test_the_estimated_gain_grows_with_members_and_shrinks_with_width(make_config: Callable[..., RunConfig]) -> None:
    costs, config = CostModel(), make_config()
    wide = replace(config, model=replace(config.model, width=1024))
    gains = [costs.stack_gain(config, members) for members in (1, 2, 8)]
    assert gains[0] == 1.0
    assert gains == sorted(gains)
    assert 1.0 < costs.stack_gain(wide, 8) < costs.stack_gain(config, 8)
    costs.stacked.add(shape_of(config))
    assert costs.stack_gain(config, 8) == 1.0


def stacks_of(folder: Path, cache: Cache, store: RunStore) -> tuple[StackPlan, list[AnyRun]]:
    path = folder / "alike.yaml"
    path.write_text(SWEEP)
    expanded = expand_file(path, cache=cache)
    stacks = compile_sweep(expanded, store, CostModel()).stacks
    assert stacks is not None
    return stacks, [run.config for run in expanded.runs]


def test_a_plan_takes_the_gain_that_was_measured_and_else_the_estimate(tmp_path: Path, cache: Cache) -> None:
    store = RunStore(tmp_path / "store")
    stacks, configs = stacks_of(tmp_path, cache, store)
    (estimated,) = stacks.gains.values()
    assert estimated == tuple(CostModel().stack_gain(configs[0], members) for members in (1, 2, 3, 4))
    ratios = {"stacked": {number: Ratio(median=gain, lo=1.0, hi=9.0) for number, gain in (("2", 1.3), ("4", 1.7))}}
    assert isinstance(configs[0], RunConfig)
    entry = Measurement(
        shape="small", kind="cpu", device="one", torch="2", step_seconds=0.01, num_rounds=3, ratios=ratios
    )
    write_measurement(store, configs[0], entry)
    (measured,) = stacks_of(tmp_path, cache, store)[0].gains.values()
    assert measured == (1.0, 1.3, 1.3, 1.7)
