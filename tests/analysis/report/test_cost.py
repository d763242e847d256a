"""What training cost is counted once where runs share steps."""

import pandas as pd
import pytest

from analysis.report.cost import duration, training_cost

RUNS = pd.DataFrame(
    {
        "flops": [1e18, 2e18, 4e18],
        "train_seconds": [600.0, 1200.0, 2400.0],
        "threads": [1, 1, 1],
        "world_size": [1, 1, 1],
        "device": ["cpu"] * 3,
        "steps": [100, 200, 400],
        "shared_steps": [75, 150, 0],
        "trunk": ["a", "a", None],
    }
)


def test_shared_steps_count_once() -> None:
    # alone 1e18 * 1/4 + 2e18 * 1/4 + 4e18, and the longest shared part, 1.5e18
    assert training_cost(RUNS)["training"] == "6.2e18 FLOPs in 3 runs, 1.0 hours of one core"


def test_without_trunks_every_run_counts() -> None:
    cost = training_cost(RUNS.drop(columns="trunk"))
    assert cost["training"] == "7.0e18 FLOPs in 3 runs, 1.2 hours of one core"


def test_threads_and_gpus_multiply_time() -> None:
    busy = RUNS.assign(threads=4, trunk=None)
    assert training_cost(busy)["training"].endswith("4.7 hours of one core")
    many = RUNS.assign(threads=4, world_size=8, device="cuda", trunk=None)
    assert training_cost(many)["training"].endswith("9.3 hours of one GPU")


def test_a_table_without_times_says_compute_alone() -> None:
    assert training_cost(RUNS[["flops"]])["training"] == "7.0e18 FLOPs in 3 runs"
    assert training_cost(RUNS[["steps"]]) == {}


def test_eight_gpus_train_small_grids_at_more_compute_and_take_days_for_large_ones() -> None:
    # 8 GPUs of 989e12 FLOPs a second at 40 %: 1.14e19 an hour
    small = training_cost(RUNS[["flops"]])["on 8 H100s"]
    assert small.startswith("37 minutes")
    assert "1.6 times the compute, its largest run at 6.5e18 FLOPs" in small
    assert training_cost(pd.DataFrame({"flops": [1e21]}))["on 8 H100s"].startswith("3.7 days")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than a second"), (41 * 60, "41 minutes"), (7200, "2.0 hours"), (1e7, "116 days")],
)
def test_durations_read_like_speech(seconds: float, text: str) -> None:
    assert duration(seconds) == text
