"""The first hour: from a folder of one's own texts to a report, each command printed by the one before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder with a blank in its name, texts in it, and `isoflop` on the path."""
    shim = tmp_path / "bin" / "isoflop"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m isoflop "$@"\n')
    shim.chmod(0o755)
    folder = tmp_path / "my study"
    (folder / "my texts").mkdir(parents=True)
    words = np.array([f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "ru") for b in "abdefghijklmnopqrstuvwxyz"])
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, len(words) + 1)
    for number in range(30):
        drawn = rng.choice(words, size=12_000, p=chances / chances.sum())
        (folder / "my texts" / f"{number}.txt").write_text(" ".join(drawn))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    return folder


def paste(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in bash as it stands."""
    told = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=600)
    assert told.returncode == 0, f"{command}\n{told.stdout}\n{told.stderr}"
    return told


@pytest.mark.slow
def test_five_commands_lead_from_a_folder_of_texts_to_a_report_and_each_prints_the_next(home: Path) -> None:
    command = "isoflop init mine.yaml --corpus 'text:my texts' --trial"
    pasted = [command]
    while True:
        last = paste(command).stdout.splitlines()[-1]
        if not last.startswith("next: "):
            break
        command = last.removeprefix("next: ")
        pasted.append(command)
    assert [words.split()[1] for words in pasted] == ["init", "plan", "run", "collect", "report"]
    assert last == "report: reports/mine/report.html"
    assert "my texts" in (home / "reports" / "mine" / "report.html").read_text(encoding="utf-8")
    told = paste("isoflop status mine.yaml").stdout
    assert "20 of 20" in told
    assert told.splitlines()[-1] == "next: isoflop collect sweeps/mine.json --out mine.csv"
    assert paste("isoflop plan mine.yaml").stdout.splitlines()[-1].startswith("next: isoflop collect")
    assert "20 of 20" in paste("isoflop status").stdout


def test_the_next_command_carries_the_options_of_the_plan(home: Path) -> None:
    (home / "one more.yaml").write_text(
        "name: tiny\n"
        "data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}\n"
        "design: {kind: ladder, tokens: [12800], shapes: [{width: 8, depth: 1}], head_width: 8}\n"
        "recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}\n"
    )
    told = paste("isoflop plan 'one more.yaml' --store 'my store' --workers 1 '--design.tokens=[12800, 25600]'").stdout
    command = told.splitlines()[-1].removeprefix("next: ")
    ended = paste(f"{command} --wandb off").stdout
    assert "2 of 2 runs are done" in ended
    assert ended.splitlines()[-1] == "next: isoflop collect 'my store/sweeps/tiny.json' --out 'my store/tiny.csv'"


def test_plan_measures_a_corpus_and_refuses_what_run_refuses_with_the_number_that_settles_all(home: Path) -> None:
    sweep = (
        "name: small\ndata: {corpus: 'text:my texts', context: 32}\n"
        "design: {kind: ladder, tokens: [4e+6, 2e+7, 9e+6], shapes: [{width: 8, depth: 1}]}\n"
        "recipe: {learning_rate: 0.01, batch_tokens: 1024, warmup_tokens: 10240}\n"
    )
    (home / "small.yaml").write_text(sweep)
    told = {
        verb: subprocess.run(
            ["bash", "-c", f"isoflop {verb} small.yaml"], capture_output=True, text=True, check=False, timeout=100
        )
        for verb in ("plan", "run")
    }
    assert told["plan"].returncode == told["run"].returncode == 2
    errors = [text.stderr.splitlines()[-1] for text in told.values()]
    assert errors[0] == errors[1]
    remedy = errors[0].rpartition("max_epochs: ")[2]
    (home / "small.yaml").write_text(sweep.replace("context: 32", f"context: 32, max_epochs: {remedy}"))
    assert paste("isoflop plan small.yaml").returncode == 0
    assert not (home / "sweeps").exists()


def test_plan_refuses_a_name_that_another_file_has_claimed(home: Path) -> None:
    sweep = (
        "name: tiny\n"
        "data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}\n"
        "design: {kind: ladder, tokens: [12800], shapes: [{width: 8, depth: 1}], head_width: 8}\n"
        "recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}\n"
    )
    (home / "one.yaml").write_text(sweep)
    (home / "two.yaml").write_text(sweep)
    paste("isoflop run one.yaml --wandb off")
    told = subprocess.run(["bash", "-c", "isoflop plan two.yaml"], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "belongs to one.yaml" in told.stderr


def test_folders_of_the_users_with_our_names_break_nothing(home: Path) -> None:
    for name in ("models", "experiments", "analysis"):
        (home / name).mkdir()
        (home / name / "__init__.py").write_text("raise SystemExit('a file of the user was imported')\n")
    (home / "one.yaml").write_text(
        "name: tiny\n"
        "data: {corpus: markov, corpus_options: {num_symbols: 8, num_tokens: 65536}, context: 32, val_size: 4096}\n"
        "design: {kind: ladder, tokens: [12800], shapes: [{width: 8, depth: 1}], head_width: 8}\n"
        "recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}\n"
    )
    assert "1 of 1 runs are done" in paste("isoflop run one.yaml").stdout  # with the mirror, a process too
    notebook = f"PYTHONPATH={ROOT} {sys.executable} -c 'import isoflop as iso; print(iso.count_params, iso.fit_law)'"
    assert "function fit_law" in paste(notebook).stdout
