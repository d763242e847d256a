"""What no run can escape: a full disk, a read-only store, a corpus that changed, a budget that no corpus fills. One
sentence, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.data.cache import Cache
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore

Verb = Callable[..., subprocess.CompletedProcess[str]]


def mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few hundred kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix" or not mount("-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)):
        pytest.skip("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def told_in_one_sentence(told: subprocess.CompletedProcess[str], *words: str) -> None:
    assert told.returncode not in (0, 1)
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line
    assert "Traceback" not in told.stderr


def test_a_full_disk_loses_nothing_and_the_sweep_goes_on_when_there_is_room(
    small_disk: Path, sweep_text: str, run_verb: Verb, tmp_path: Path
) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    words = ("run", sweep, "--store", small_disk, "--wandb", "off", "--workers", 1)
    told_in_one_sentence(run_verb(*words), "cannot write", "No space left", "run")
    kept = {path: path.read_text() for path in small_disk.glob("runs/*/record.json")}
    for text in kept.values():
        assert json.loads(text)["status"] == "done"
    assert mount("-o", "remount,size=20m", str(small_disk))
    assert run_verb(*words).returncode == 0
    assert len(list(small_disk.glob("runs/*/record.json"))) == 4
    assert {path: path.read_text() for path in kept} == kept


def test_a_read_only_store_is_told_before_anything_is_trained(
    small_disk: Path, sweep_text: str, run_verb: Verb, tmp_path: Path
) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    assert mount("-o", "remount,ro", str(small_disk))
    told = run_verb("run", sweep, "--store", small_disk, "--wandb", "off")
    told_in_one_sentence(told, "Read-only file system", "--store")


def text_sweep(tmp_path: Path, words: str) -> Path:
    corpus = tmp_path / "corpus"
    corpus.mkdir(exist_ok=True)
    for number in range(20):
        (corpus / f"{number}.txt").write_text(f"{number} {words} " * 200)
    sweep = tmp_path / "text.yaml"
    sweep.write_text(
        f"name: text\ndata: {{corpus: 'text:{corpus}', context: 32}}\n"
        "design: {kind: ladder, tokens: [12800], shapes: [{width: 8, depth: 1}], head_width: 8}\n"
        "recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}\n"
    )
    return sweep


def test_a_corpus_that_changed_under_a_planned_sweep_stops_the_worker_with_one_sentence(
    run_verb: Verb, tmp_path: Path
) -> None:
    sweep, store = text_sweep(tmp_path, "to be or not to be"), RunStore(tmp_path / "store")
    PlannedSweep.write(expand_file(sweep, cache=Cache()), sweep, store)
    text_sweep(tmp_path, "that is the question")
    told_in_one_sentence(run_verb("work", store.manifest_path("text"), "--no-linger"), "changed under this sweep")
    assert not list(store.root.glob("runs/*/record.json"))


def test_a_new_plan_on_changed_text_says_so_and_keeps_the_old_runs(run_verb: Verb, tmp_path: Path) -> None:
    sweep, store = text_sweep(tmp_path, "to be or not to be"), tmp_path / "store"
    words = ("run", sweep, "--store", store, "--wandb", "off", "--workers", 1)
    assert run_verb(*words).returncode == 0
    text_sweep(tmp_path, "that is the question")
    told = run_verb(*words)
    assert told.returncode == 0
    assert "has changed" in told.stdout
    assert "adds 1 run" in told.stdout
    assert len(list(store.glob("runs/*/record.json"))) == 2


def test_two_drivers_at_once_share_the_work_and_publish_every_run_once(
    sweep_text: str, tmp_path: Path, cache: Cache
) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    words = ["run", str(sweep), "--store", str(tmp_path), "--wandb", "off", "--workers", "1"]
    drivers = [
        subprocess.Popen([sys.executable, "-m", "experiments", *words], stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [driver.wait(timeout=300) for driver in drivers] == [0, 0]
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 4
    done = [path.name.split(".")[0] for path in (tmp_path / "claims").glob("*.done")]
    assert len(done) == len(set(done)), "something was trained twice"
    assert sum(not name.startswith("t") for name in done) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("--design.tokens=[128000000]", "training tokens"),
        ("--design.tokns=[1]", "did you mean tokens?"),
        ("--design.shapes=[{width: 10, depth: 1, num_heads: 3}]", "width 10 is not divisible by num_heads 3"),
    ],
)
def test_bad_input_ends_before_anything_is_written(
    sweep_text: str, run_verb: Verb, tmp_path: Path, change: str, told: str
) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    store = tmp_path / "store"
    answer = run_verb("run", sweep, "--store", store, "--wandb", "off", change)
    told_in_one_sentence(answer, told)
    assert answer.returncode == 2
    assert not store.exists()
