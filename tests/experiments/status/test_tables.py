"""The live table in 80 columns: every run with its role, seed, budget, whole loss and status, and a bar above."""

from __future__ import annotations

import io

import pytest

from experiments.records import RunStatus
from experiments.status.progress import RunProgress, SweepProgress
from experiments.status.tables import progress_table

REASON = "the loss is not finite at step 1,204; the learning rate is too high for this size, lower recipe.rate_scale"


def shown(progress: SweepProgress, width: int) -> list[str]:
    """The lines that a terminal of a width shows."""
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(progress_table(progress, width=width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.fixture
def progress() -> SweepProgress:
    """A sweep of large runs of every role and status."""
    statuses = [RunStatus.RUNNING, RunStatus.DIVERGED, RunStatus.QUEUED, RunStatus.DONE, RunStatus.INTERRUPTED]
    roles = ["fit", "heldout", "replicate", "fit", "heldout"]
    runs = tuple(
        RunProgress(
            run_id=f"{number:012x}",
            params=123_456_789,
            width=1024,
            depth=24,
            tokens=2_600_000_000,
            flops=3.1e21,
            status=status,
            seed=100 + number,
            role=role,
            budget=3.1e21,
            tokens_done=1_300_000_000,
            loss=10.8231,
            tokens_per_second=123456.0,
            mfu=0.31,
            attempts=1,
            reason=REASON if status is RunStatus.DIVERGED else None,
            seconds_left=273_600.0,
        )
        for number, (status, role) in enumerate(zip(statuses, roles, strict=True))
    )
    return SweepProgress(name="isoflop-speeches", runs=runs, seconds_left=273_600.0, design="isoflop")


def test_eighty_columns_hold_every_run_whole(progress: SweepProgress) -> None:
    lines = shown(progress, 80)
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.startswith("00000000000")]
    table = rows[: len(progress.runs)]
    for run in progress.runs:
        (row,) = [line for line in table if line.startswith(run.run_id)]
        for cell in ("10.8231", "3.1e21", "1024x24", "123M", str(run.seed), run.status.value, "50%", "3d 04h"):
            assert cell in row.replace("  ", " "), (cell, row)
        assert (run.role or "").replace("replicate", "repeat") in row
    assert "…" not in "\n".join(lines)


def test_the_reason_of_a_failure_stands_whole_below_the_table(progress: SweepProgress) -> None:
    text = " ".join(shown(progress, 80))
    assert f"000000000001 diverged: {REASON}" in text


def test_a_bar_shows_how_far_the_sweep_is(progress: SweepProgress) -> None:
    bar = shown(progress, 80)[1]
    assert bar == "━" * 40 + "─" * 40


def test_a_wide_terminal_shows_tokens_and_speed_too(progress: SweepProgress) -> None:
    header = shown(progress, 120)[2]
    assert {"tokens", "tokens/s", "MFU"} <= set(header.split())
    assert "MFU" not in shown(progress, 80)[2]
