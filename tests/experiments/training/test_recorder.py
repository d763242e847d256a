"""What is watched: windows that are the run's, not the attempt's; divergence; utilisation."""

from __future__ import annotations

import math

import pytest

from experiments.training.divergence import DivergenceGuard
from experiments.training.recorder import ROWS_PER_RUN, Recorder, window_steps


@pytest.mark.parametrize("num_steps", [1, 50, 99, 100, 101, 3200, 10**6])
def test_a_run_gets_between_one_and_two_hundred_rows(num_steps: int) -> None:
    rows = math.ceil(num_steps / window_steps(num_steps))
    assert min(num_steps, ROWS_PER_RUN) <= rows <= 2 * ROWS_PER_RUN + 1


def recorder(peak_flops_per_second: float = 60.0) -> Recorder:
    clock = iter(range(10**6))
    return Recorder(
        num_steps=800,
        batch_tokens=10,
        flops_per_step=300,
        clock=lambda: next(clock),
        peak_flops_per_second=peak_flops_per_second,
    )


def rows_of(record: Recorder, losses: list[float], start: int = 0) -> list[dict[str, object]]:
    rows = []
    for step, loss in enumerate(losses, start + 1):
        record.fetch([loss], step=step)
        if record.is_row(step):
            rows.append(record.row(step=step, learning_rate=0.1, grad_norm=1.0)[0])
    return rows


def test_rows_do_not_depend_on_where_a_run_was_interrupted() -> None:
    losses = [3 - 0.001 * step for step in range(800)]
    whole = rows_of(recorder(), losses)
    first = recorder()
    rows = rows_of(first, losses[:413])
    second = recorder()
    state = first.state()
    second.window, second.guard.first = state["window"], state["guard_first"]
    rows += rows_of(second, losses[413:], start=413)
    timing = ("tokens_per_second", "mfu", "memory_bytes")
    assert [{k: v for k, v in row.items() if k not in timing} for row in rows] == [
        {k: v for k, v in row.items() if k not in timing} for row in whole
    ]


def test_utilisation_is_flops_per_second_over_the_peak() -> None:
    row = rows_of(recorder(), [1.0] * 8)[-1]
    assert row["tokens_per_second"] == pytest.approx(10.0)
    assert row["mfu"] == pytest.approx(10 * 300 / 10 / 60)
    assert rows_of(recorder(peak_flops_per_second=0.0), [1.0] * 8)[-1]["mfu"] is None


def test_a_loss_that_explodes_or_is_not_finite_stops_the_run_and_a_bumpy_one_does_not() -> None:
    guard = DivergenceGuard(num_steps=100)
    assert guard.verdict(step=1, loss=3.0) is None
    assert guard.verdict(step=50, loss=3.9) is None
    assert "rose from 3.000" in str(guard.verdict(step=51, loss=4.1))
    assert "nan" in str(DivergenceGuard(num_steps=100).verdict(step=1, loss=math.nan))
