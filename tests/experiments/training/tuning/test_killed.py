"""SIGKILL at chosen moments of a fine-tuning sweep: one record a run, and the digits of a sweep left in peace."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest

from experiments.data.cache import Cache
from experiments.execution import segments, tuning
from experiments.execution.worker import Worker
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.claims import Claims
from experiments.store.store import RunStore
from tests.tuning import records, rows, train, write_sweep

MOMENTS: list[tuple[Any, str, int, bool]] = [
    (Claims, "take", 1, True),  # a run is claimed and not begun
    (tuning, "append_rows", 1, False),  # before its first row is written
    (tuning, "append_rows", 5, True),  # in the midst of it
    (tuning, "append_rows", 11, True),  # in the midst of the next one
    (tuning, "write_atomic", 1, False),  # trained, and its weights not kept
    (tuning, "write_atomic", 1, True),  # its weights kept, and no record
    (RunStore, "publish", 1, True),  # its record published, and its weights not in their place
    (segments, "place_weights", 1, True),  # all in place, and the claim not ended
]
"""Whose function, its name, at which of its calls, and whether it is done before the end comes."""
FRESH = {"family": "encoder", "width": 16, "depth": 1, "num_heads": 2, "context": 32}


def end_at(owner: Any, name: str, call: int, is_done: bool) -> None:
    """Replace a function by one that kills this process at one of its calls."""
    original: Callable[..., Any] = getattr(owner, name)
    left = [call]

    def struck(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not is_done:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, struck)


def work_until(moment: tuple[Any, str, int, bool], path: Path, root: Path, cache: Cache) -> None:
    """Train in a process of its own, which is killed at a moment."""

    def child() -> NoReturn:
        try:
            end_at(*moment)
            store = RunStore(root)
            planned, _ = PlannedSweep.write(expand_file(path, cache=cache, store=store), path, store)
            Worker(store=store, segments=planned.segments(), cache=cache).work()
        finally:
            os._exit(3)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which wait for work here
        pid = os.fork()
    if pid == 0:
        child()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"{moment[1]} was called fewer than {moment[2]} times"


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_every_moment_ends_in_the_same_digits(tmp_path: Path, cache: Cache) -> None:
    rows(400).to_csv(tmp_path / "rows.csv", index=False)
    path = write_sweep(
        tmp_path / "killed.yaml",
        tmp_path / "rows.csv",
        pretrained={"scratch": True, "model": FRESH},
        methods=["scratch"],
        examples=[16, 32],
        min_steps=20,
        rates={"span": 1, "limit": 1},
        seeds=[0, 1],
    )
    for moment in MOMENTS:
        work_until(moment, path, tmp_path / "killed", cache)
    train(path, tmp_path / "killed", cache)
    train(path, tmp_path / "alone", cache)
    killed, alone = records("killed", tmp_path / "killed"), records("killed", tmp_path / "alone")
    assert len(killed) == 8  # two sizes: three rates with one seed, and the best with the other
    assert killed["run_id"].is_unique
    assert (killed["status"] == "done").all()
    columns = ["run_id", "loss", "val_loss", "best_val_loss", "accuracy", "loss_lo", "loss_hi"]
    pd.testing.assert_frame_equal(killed[columns], alone[columns])
    for run_id in killed["run_id"]:
        weights = [tmp_path / root / "runs" / run_id / "weights.safetensors" for root in ("killed", "alone")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
