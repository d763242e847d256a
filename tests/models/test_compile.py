"""torch.compile: one graph for all runs of a shape, with the losses of the code as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compiled_losses import CASES
from tests.marks import needs_compiler

ROOT = Path(__file__).resolve().parents[2]


def differences(backend: str, steps: int, *cases: str) -> dict[str, tuple[float, float]]:
    command = [sys.executable, "-m", "benchmarks.compiled_losses", "--backend", backend, "--steps", str(steps), *cases]
    told = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert told.returncode == 0, told.stderr
    found: dict[str, tuple[float, float]] = json.loads(told.stdout.splitlines()[-1])
    return found


def test_graphs_hold_every_objective_and_position_without_a_break_and_no_second_run_makes_another() -> None:
    found = differences("aot_eager", 4, *CASES)
    assert set(found) == set(CASES)
    assert max(max(pair) for pair in found.values()) < 1e-5


@pytest.mark.slow
@needs_compiler
def test_inductors_kernels_keep_the_losses_of_two_hundred_steps() -> None:
    found = differences("inductor", 200, "causal/rotary", "stack/rotary")
    assert max(max(pair) for pair in found.values()) < 1e-5
