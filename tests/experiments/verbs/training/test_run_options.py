"""Some runs alone (`-k`), an end at the first failure (`-x`), and overrides in the help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import isoflop
from analysis.laws.registry import ALIASES, get_law
from experiments.config.report_laws import LAW_ALIASES
from experiments.config.sweep import ReportConfig
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.planning.chosen import chosen_runs
from experiments.planning.plans import expand_file
from tests.experiments.conftest import SWEEP


@pytest.fixture
def sweep(tmp_path: Path, cache: Cache) -> Path:
    """Two sizes at two budgets."""
    file = tmp_path / "tiny.yaml"
    file.write_text(SWEEP)
    return file


def test_words_of_a_run_pick_it_and_all_of_them_must_hold(sweep: Path, cache: Cache) -> None:
    whole = expand_file(sweep, cache=cache)
    first = whole.runs[0]
    shape = f"{first.config.model.width}x{first.config.model.depth}"
    assert len(chosen_runs(whole, "fit").runs) == 4
    assert len(chosen_runs(whole, shape).runs) == 2
    assert chosen_runs(whole, f"{shape} budget={first.labels['budget']:g}").runs == (first,)
    assert chosen_runs(whole, first.run_id[:6]).runs == (first,)
    assert len(chosen_runs(whole, f"width={first.config.model.width}").runs) == 2
    with pytest.raises(UserError, match="picks none of the 4 runs; the first one has the words"):
        chosen_runs(whole, "heldout")


def test_only_the_picked_run_is_trained_and_the_sweep_keeps_all(
    sweep: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = min(expand_file(sweep, cache=cache).runs, key=lambda run: run.config.tokens).run_id
    words = ["run", str(sweep), "--store", str(sweep.parent), "--wandb", "off", "--workers", "1"]
    assert isoflop.main([*words, "-k", run_id]) == 0
    told = capsys.readouterr().out
    assert "1 of 4 runs" in told
    assert told.splitlines()[-1].startswith("next: isoflop run ")
    assert [path.parent.name for path in sweep.parent.glob("runs/*/record.json")] == [run_id]
    manifest = json.loads((sweep.parent / "sweeps" / "tiny.json").read_text())
    assert len(manifest["runs"]) == 4
    assert isoflop.main([*words, "-k", "nothing"]) == 2


def test_the_first_failure_ends_the_sweep_where_that_is_asked(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "name: two\n"
        "data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 262144}, context: 32, val_size: 4096}\n"
        "design: {kind: ladder, tokens: [12800], shapes: [{width: 8, depth: 1}], head_width: 8}\n"
        "recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 0, grad_clip: null}\n"
        "vary: {size: {long: {recipe.learning_rate: 1.0e+30, design.tokens: [25600]}, short: {seeds: [0]}}}\n"
    )
    words = ["run", str(file), "--store", str(tmp_path), "--wandb", "off", "--workers", "1", "-x"]
    assert isoflop.main(words) == 1
    told = capsys.readouterr()
    assert "stopped at the first run" in told.out
    assert "0 of 2 runs are done" in told.out
    assert "diverged" in told.err


def test_the_help_of_run_shows_how_fields_are_overridden(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("run", "plan"):
        with pytest.raises(SystemExit):
            isoflop.main([verb, "--help"])
        assert "--design.budgets='[1e11, 2e11]'" in capsys.readouterr().out


def test_chinchilla_is_another_name_of_hoffmanns_law(sweep: Path, cache: Cache) -> None:
    assert ALIASES == LAW_ALIASES
    assert get_law("chinchilla") is get_law("hoffmann")
    report = expand_file(sweep, ["--report.law=chinchilla"], cache=cache).sweep.report
    assert isinstance(report, ReportConfig)
    assert report.law == "chinchilla"
