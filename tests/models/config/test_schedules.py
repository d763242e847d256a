"""The laws of the schedules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config.schedules import ScheduleConfig, ScheduleName, decay_start, learning_rate_multiplier
from models.errors import UserError


def multiplier(schedule: ScheduleConfig, tokens_seen: int, total_tokens: int = 1000) -> float:
    return learning_rate_multiplier(schedule, tokens_seen=tokens_seen, total_tokens=total_tokens)


@st.composite
def schedules(draw: st.DrawFn) -> ScheduleConfig:
    name: ScheduleName = draw(st.sampled_from(["constant", "cosine", "linear", "wsd"]))
    return ScheduleConfig(
        name=name,
        warmup_tokens=draw(st.integers(0, 400)),
        decay_tokens=draw(st.integers(0, 1500)) if name == "wsd" else None,
        decay_shape=draw(st.sampled_from(["linear", "1-sqrt"])),
        final_fraction=draw(st.floats(0, 1)),
    )


@settings(max_examples=100, deadline=None)
@given(schedules(), st.integers(0, 1200))
def test_multipliers_stay_between_zero_and_one(schedule: ScheduleConfig, tokens_seen: int) -> None:
    assert 0.0 <= multiplier(schedule, tokens_seen) <= 1.0


@settings(max_examples=100, deadline=None)
@given(schedules(), st.integers(401, 999))
def test_after_warmup_no_schedule_rises(schedule: ScheduleConfig, tokens_seen: int) -> None:
    assert multiplier(schedule, tokens_seen + 1) <= multiplier(schedule, tokens_seen) + 1e-12


@settings(max_examples=100, deadline=None)
@given(schedules(), st.integers(0, 1000), st.integers(1000, 9000))
def test_before_the_decay_a_longer_run_has_the_same_rates(
    schedule: ScheduleConfig, tokens_seen: int, longer: int
) -> None:
    if tokens_seen <= decay_start(schedule, total_tokens=1000):
        assert multiplier(schedule, tokens_seen) == multiplier(schedule, tokens_seen, longer)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_every_decay_ends_at_its_final_fraction(name: ScheduleName) -> None:
    schedule = ScheduleConfig(
        name=name, warmup_tokens=100, decay_tokens=300 if name == "wsd" else None, final_fraction=0.1
    )
    assert multiplier(schedule, 50) == 0.5
    assert multiplier(schedule, 100) == 1.0
    assert multiplier(schedule, 1000) == pytest.approx(0.1)


def test_one_minus_sqrt_decays_as_its_name_says() -> None:
    schedule = ScheduleConfig(name="wsd", decay_tokens=400, decay_shape="1-sqrt")
    assert multiplier(schedule, 700) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "cosin"},
        {"name": "wsd"},
        {"name": "cosine", "decay_tokens": 5},
        {"name": "linear", "warmup_tokens": -1},
    ],
)
def test_a_schedule_that_cannot_work_says_why(fields: dict[str, object]) -> None:
    with pytest.raises(UserError):
        ScheduleConfig(**fields)  # type: ignore[arg-type]
