"""`isoflop profile`: what it measures and keeps, what `plan` says of it, and that its seconds are a bound."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.config.run import RunConfig
from experiments.training.step_times import MIN_ROUNDS, Arm, StepTimes, time_steps

SWEEP = """name: measured
data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32}
design: {kind: ladder, tokens: [12800], shapes: [{width: 16, depth: 1}]}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
seeds: [0, 1]
"""


@pytest.fixture
def words(tmp_path: Path, cache: object) -> list[str]:
    """The sweep and its store, as a command line names them."""
    (tmp_path / "measured.yaml").write_text(SWEEP)
    return [str(tmp_path / "measured.yaml"), "--store", str(tmp_path / "store"), "--device", "cpu"]


def test_a_profile_is_measured_once_kept_and_said_by_plan(words: list[str], capsys: Any) -> None:
    assert main(["plan", *words]) == 0
    assert "whole batches; not measured (`isoflop profile` finds what is faster here)" in capsys.readouterr().out
    assert main(["profile", *words, "--seconds", "30", "--json"]) == 0
    (shape,) = json.loads(capsys.readouterr().out)["shapes"]
    assert shape["state"].startswith("kept in ")
    assert set(shape["ratios"]["attention"]) == {"sdpa", "explicit", "blockwise"}
    assert set(shape["ratios"]["stacked"]) == {"2"}  # two runs are alike
    assert set(shape["ratios"]["micro_batch"]) == {"4", "2"}
    assert all(one["lo"] <= one["median"] <= one["hi"] for part in shape["ratios"].values() for one in part.values())
    assert shape["num_rounds"] >= MIN_ROUNDS
    assert "1.3 times the speed would save 0 s" in shape["skipped"]["compile"]
    assert main(["profile", *words]) == 0
    told = capsys.readouterr().out
    assert "measured before" in told
    assert told.splitlines()[-1].startswith("next: isoflop plan")
    assert main(["plan", *words]) == 0
    assert "execution of width 16 x 1 layers, batches of 8 x 32, fp32: eager" in capsys.readouterr().out
    assert main(["plan", *words, "--json"]) == 0
    (planned,) = json.loads(capsys.readouterr().out)["profile"]
    assert planned["measured"]
    assert len(planned["why"]) == len(planned["values"])
    assert any(reason.startswith("compile: not measured") for reason in planned["not_taken"])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_seconds_that_are_no_bound_are_refused(words: list[str], seconds: str, capsys: Any) -> None:
    assert main(["profile", *words, f"--seconds={seconds}"]) == 2
    assert "give a number above 0, such as 60" in capsys.readouterr().err


def ticking(step: float) -> Iterator[float]:
    """A clock that moves on by so much with every look."""
    now = 0.0
    while True:
        yield now
        now += step


def test_no_round_begins_after_the_bound(make_config: Callable[..., RunConfig]) -> None:
    config = make_config()
    arms = [Arm(name="default", config=config), Arm(name="two", config=config, members=2)]
    clock = ticking(1.0)
    assert time_steps(arms, "cpu", seconds=1.5, clock=lambda: next(clock)) is None  # the first steps took it all
    clock = ticking(1.0)
    assert time_steps(arms, "cpu", seconds=4.5, clock=lambda: next(clock)) is None  # too few rounds to say anything
    clock = ticking(1.0)
    times = time_steps(arms, "cpu", seconds=2 + MIN_ROUNDS + 0.5, clock=lambda: next(clock))
    assert times is not None
    assert times.num_rounds == MIN_ROUNDS + 1
    assert set(times.first_seconds) == {"default", "two"}


def test_ratios_are_taken_round_by_round() -> None:
    times = StepTimes(seconds={"a": [2.0, 20.0, 4.0], "b": [1.0, 10.0, 4.0]}, first_seconds={})
    assert times.ratios("b", "a") == (2.0, 1.5, 2.0)
    assert times.median("a") == 4.0
