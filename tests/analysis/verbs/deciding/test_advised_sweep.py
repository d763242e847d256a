"""The sweep that `advise` writes, trained: its runs are long enough, and what it was advised for is known better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import isoflop
from analysis.fitting.fit import Fit
from experiments.config.designs import MIN_LAW_STEPS
from experiments.config.yaml_text import read_yaml

ROOT = Path(__file__).resolve().parents[4]
SWEEP = ROOT / "experiments" / "sweeps" / "quickstart.yaml"
RECORDS = ROOT / "reports" / "quickstart" / "records.parquet"
BATCH = 1024
"""Tokens of a step under the sweep's recipe."""

SMALL = ["--vocab-size", "264", "--context", "128", "--head-width", "16"]
"""Shapes of some ten thousand parameters."""


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What a verb says as JSON."""
    assert isoflop.main([*map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def fit_to(path: Path, *tables: object) -> Path:
    """The law of the quickstart, fitted to tables."""
    assert isoflop.main(["fit", *map(str, tables), "--law", "hoffmann", "--out", str(path)]) == 0
    return path


@pytest.mark.slow
def test_the_advised_runs_narrow_the_interval_that_they_were_advised_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, sweep = fit_to(tmp_path / "first.json", RECORDS), tmp_path / "next.yaml"
    capsys.readouterr()
    ask = ["--budget", "1e12", "--for", "a", "--template", SWEEP, "--draws", "8"]
    before = told(capsys, "advise", first, *ask, "--out", sweep)["plan"]
    runs = Fit.load(first).runs
    assert runs is not None
    for cell in before["cells"]:
        assert cell["steps"] == round(cell["tokens"] / BATCH) >= MIN_LAW_STEPS
        assert cell["flops"] >= 0.98 * runs["flops"].min()
    assert isoflop.main(["run", str(sweep), "--workers", "1", "--wandb", "off"]) == 0
    second = fit_to(tmp_path / "second.json", RECORDS, "sweeps/next.json")
    capsys.readouterr()
    after = told(capsys, "advise", second, *ask, "--max-runs", "2")["plan"]
    assert after["now"]["hi"] - after["now"]["lo"] < before["now"]["hi"] - before["now"]["lo"]
    assert after["now"]["lo"] < before["now"]["value"] < after["now"]["hi"]


def cheap(tmp_path: Path, **columns: int) -> Path:
    """A fit of runs of 1e5 to 1e6 tokens."""
    frame = pd.DataFrame([(n, d) for n in (1e4, 2e4, 4e4, 8e4) for d in (1e5, 3e5, 1e6)], columns=["params", "tokens"])
    frame["loss"] = 1.7 + 40 / frame["params"] ** 0.34 + 410 / frame["tokens"] ** 0.4
    frame.assign(**columns).to_csv(tmp_path / "runs.csv", index=False)
    return fit_to(tmp_path / "fit.json", tmp_path / "runs.csv")


def test_a_best_run_that_is_too_short_is_flagged_and_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, out = cheap(tmp_path), tmp_path / "next.yaml"
    words = ["advise", fit, "--budget", "6e9", "--template", SWEEP]
    capsys.readouterr()
    assert isoflop.main([str(word) for word in words]) == 0
    errors = capsys.readouterr().err
    assert f"steps of 1.02k tokens (batch of {SWEEP})" in errors
    assert isoflop.main([str(word) for word in (*words, "--out", out)]) == 2
    assert "raise --budget, or lower recipe.batch_tokens" in capsys.readouterr().err
    assert not out.exists()
    assert isoflop.main([str(word) for word in (*words[:2], "--budget", "1e13", *words[4:], "--out", out)]) == 0
    (cell,) = read_yaml(out)["design"]["cells"]
    assert cell["tokens"][0] >= MIN_LAW_STEPS * BATCH


def test_the_batch_of_the_runs_counts_without_a_template_and_short_runs_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = [*SMALL, "--budget", "1e12", "--at", "flops=1e12", "--laws", "hoffmann", "--draws", "2", "--max-runs", "5"]
    fit = cheap(tmp_path, batch=512)
    capsys.readouterr()
    assert isoflop.main(["advise", str(fit), *ask]) == 0
    out, errors = capsys.readouterr()
    assert "at least 350 steps (batch of the fit's runs)" in out
    assert "4 of the fit's 12 runs took fewer than 350 steps" in errors
    assert "fit --where 'tokens >= 350 * batch'" in errors
    cells = told(capsys, "advise", fit, *ask)["plan"]["cells"]
    assert min(cell["tokens"] for cell in cells) >= 349 * 512
    assert isoflop.main(["advise", str(cheap(tmp_path)), *ask]) == 0
    assert "steps: not known without --template" in capsys.readouterr().out


def test_limits_that_leave_only_short_runs_say_which_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = str(cheap(tmp_path, batch=65_536))
    ask = [*SMALL, "--budget", "1e12", "--at", "flops=1e12"]
    capsys.readouterr()
    assert isoflop.main(["advise", fit, *ask]) == 2
    errors = capsys.readouterr().err
    assert "the longest run within the limits takes 15 steps of 65.5k tokens" in errors
    assert "raise --max-tokens" in errors
    assert isoflop.main(["advise", fit, *ask, "--min-steps", "9"]) == 2
    assert "`plan` takes no shorter runs" in capsys.readouterr().err
