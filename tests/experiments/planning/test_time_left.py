"""The time left of a sweep: what is trained is not counted, and what nobody waits for is not trained."""

from __future__ import annotations

import pytest

from experiments.manifests import RunFacts, Segment
from experiments.planning.costs import CostModel
from experiments.planning.time_left import Remaining


def facts(tokens: int, seconds: float) -> RunFacts:
    return RunFacts(
        params=1, width=8, depth=1, tokens=tokens, batch_tokens=1, flops=1.0, shape=(8, tokens), seconds=seconds
    )


@pytest.fixture
def remaining() -> Remaining:
    """Two runs of 100 and 200 steps of one second each; they share their first 80."""
    return Remaining(
        facts={"short": facts(100, 100.0), "long": facts(200, 200.0)},
        segments=[
            Segment(segment_id="t-80", run_id="long", prefix="t", end_step=80),
            Segment(segment_id="long", run_id="long", prefix="t", start_step=80, end_step=200, after="t-80"),
            Segment(segment_id="short", run_id="short", prefix="t", start_step=80, end_step=100, after="t-80"),
        ],
        costs=CostModel(),
    )


def test_a_shared_prefix_is_counted_once_and_before_its_branches(remaining: Remaining) -> None:
    left = {"short": 20.0, "long": 120.0}
    assert remaining.seconds(left, {}, workers=1) == 80 + 20 + 120
    assert remaining.seconds(left, {}, workers=2) == 80 + 120
    assert remaining.seconds(left, {"t": 60}, workers=2) == 20 + 120


def test_a_prefix_that_is_trained_or_that_no_run_waits_for_takes_no_time(remaining: Remaining) -> None:
    assert remaining.seconds({"short": 20.0}, {"t": 80}, workers=1) == 20
    assert remaining.left({}, {}) == []
    assert remaining.seconds({}, {}, workers=3) == 0


def test_runs_that_no_segment_covers_are_trained_alone(remaining: Remaining) -> None:
    assert [item.segment_id for item in remaining.left({"another": 5.0, "third": 7.0}, {})] == ["third", "another"]


def test_a_measured_rate_counts_at_once(remaining: Remaining) -> None:
    remaining.costs.measured[8, 200] = 2.0
    assert remaining.whole_seconds("long") == 100.0
    assert remaining.whole_seconds("short") == 100.0
