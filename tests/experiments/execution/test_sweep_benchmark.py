"""A slice of `python -m benchmarks.sweep`: both sides train the same runs, and the record says how long they took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sweep import make_study
from experiments.data.cache import Cache

ROOT = Path(__file__).resolve().parents[3]


def jobs_of(name: str, folder: Path, scale: float) -> list[dict[str, Any]]:
    folder.mkdir()
    jobs: list[dict[str, Any]] = json.loads(make_study(name, folder, scale, False).jobs.read_text())["jobs"]
    return jobs


def test_a_shortened_study_holds_the_same_runs_with_a_part_of_their_steps(tmp_path: Path, cache: Cache) -> None:
    whole, part = (jobs_of("quickstart", tmp_path / str(scale), scale) for scale in (1.0, 0.15))
    assert len(whole) == len(part) == 25
    for long, short in zip(whole, part, strict=True):
        assert (short["width"], short["batch"], short["rate"]) == (long["width"], long["batch"], long["rate"])
        assert short["steps"] == pytest.approx(0.15 * long["steps"], abs=1)
    rates = jobs_of("rates", tmp_path / "rates", 1.0)
    assert len(rates) == 45
    assert len({(job["width"], round(job["rate"], 9)) for job in rates}) == 15
    assert {job["steps"] for job in rates} == {400}


@pytest.mark.slow
def test_the_benchmark_trains_a_short_rate_sweep_plainly_and_by_stacks(tmp_path: Path, cache: Cache) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "sweep.json"
    words = ["--quick", "--studies", "rates", "steps", "--arms", "plain", "model", "stacking", "--out", str(out)]
    words += ["--threads", "1"]  # two threads beside another test would wait for each other
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sweep", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    assert (record["rates"]["runs"], record["rates"]["steps"]) == (2, 100)
    arms = record["rates"]["arms"]
    assert [arm["arm"] for arm in arms] == ["plain", "model", "stacking"]
    assert arms[0]["times_faster_than_plain"] == 1.0
    for arm in arms:
        assert arm["times_faster_than_plain"] == pytest.approx(arms[0]["seconds"][0] / arm["seconds"][0], abs=2e-3)
    assert {row["members"] for row in record["steps"]["rows"]} == {1, 2, 4, 8, 16}
    for part in ("rates", "steps"):
        assert record[part]["machine"]["cores"]
        assert "transformers" in record[part]["versions"]
