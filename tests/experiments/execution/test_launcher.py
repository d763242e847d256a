"""A sweep as its user runs it: processes that are killed, stopped and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from experiments.data.cache import Cache

Verb = Callable[..., subprocess.CompletedProcess[str]]


def outcomes(store: Path) -> dict[str, tuple[Any, ...]]:
    """run_id -> what the run measured, without its timing."""
    found = {}
    for path in sorted(store.glob("runs/*/record.json")):
        record = json.loads(path.read_text())
        measured = record["outcome"]
        found[record["run_id"]] = tuple(measured[key] for key in ("loss", "loss_se", "val_sums", "train_loss"))
    return found


def command(*words: object) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "experiments", *map(str, words)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Cache, sweep_text: str) -> tuple[Path, Path]:
    """A sweep that ran through in peace, and its file."""
    folder = tmp_path_factory.mktemp("peace")
    sweep = folder / "tiny.yaml"
    sweep.write_text(sweep_text)
    told = subprocess.run(
        command("run", sweep, "--store", folder, "--workers", 1, "--wandb", "off"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "4 of 4 runs are done" in told.stdout
    return sweep, folder


def workers_of(driver: int) -> list[psutil.Process]:
    """Worker processes of a driver."""
    try:
        return [child for child in psutil.Process(driver).children() if "work" in child.cmdline()]
    except psutil.NoSuchProcess:
        return []


def until_training(store: Path, driver: subprocess.Popen[bytes], rows: int) -> None:
    """Wait until the store holds more than `rows` metric rows of runs and of the trunks that they share."""
    while sum(len(path.read_text().splitlines()) for path in store.glob("*/*/metrics.jsonl")) <= rows:
        assert driver.poll() is None, "the driver ended before anything was trained"


@pytest.fixture
def start(cache: Cache) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a driver in the background, its messages in STORE/driver.log; what is left of it is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(sweep: Path, store: Path) -> subprocess.Popen[bytes]:
        words = ["run", sweep, "--store", store, "--workers", 1, "--wandb", "off", "--checkpoint-seconds", 0]
        store.mkdir(exist_ok=True)
        with (store / "driver.log").open("wb") as log:
            driver = subprocess.Popen(command(*words), stdout=log, stderr=log, start_new_session=True)
        started.append(driver)
        return driver

    yield begin
    for driver in started:
        for worker in workers_of(driver.pid):
            worker.kill()
        driver.kill()
        driver.wait()


def test_kill_and_ctrl_c_change_no_digit_and_publish_every_run_once(
    undisturbed: tuple[Path, Path], start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    sweep, peace = undisturbed

    driver = start(sweep, tmp_path)
    until_training(tmp_path, driver, rows=20)
    (worker,) = workers_of(driver.pid)
    worker.kill()  # a worker alone: the driver starts another one
    until_training(tmp_path, driver, rows=60)
    workers = workers_of(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)  # then the driver: its worker ends with it
    driver.wait()
    psutil.wait_procs(workers, timeout=30)
    assert not any(item.is_running() for item in workers)

    driver = start(sweep, tmp_path)
    until_training(tmp_path, driver, rows=120)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    assert "the same command goes on from here" in (tmp_path / "driver.log").read_text()

    driver = start(sweep, tmp_path)
    assert driver.wait(timeout=300) == 0
    assert outcomes(tmp_path) == outcomes(peace)
    executions = [path for path in (tmp_path / "claims").iterdir() if path.suffix[1:].isdigit()]
    assert len(executions) >= 4 + 2
    done = [path.name.split(".")[0] for path in (tmp_path / "claims").glob("*.done")]
    assert sum(not name.startswith("t") for name in done) == 4
    assert sum(name.startswith("t") for name in done) == 2, "each size has a prefix that both of its budgets share"


def test_running_again_trains_nothing(undisturbed: tuple[Path, Path], run_verb: Verb) -> None:
    sweep, store = undisturbed
    before = {path: path.stat().st_mtime_ns for path in store.glob("runs/*/*")}
    told = run_verb("run", sweep, "--store", store, "--wandb", "off")
    assert told.returncode == 0
    assert "4 of 4 runs are done" in told.stdout
    assert {path: path.stat().st_mtime_ns for path in store.glob("runs/*/*")} == before


def test_an_extended_sweep_says_what_it_adds_and_trains_only_that(
    undisturbed: tuple[Path, Path], run_verb: Verb
) -> None:
    sweep, store = undisturbed
    before = set(outcomes(store))
    longer = run_verb("run", sweep, "--store", store, "--wandb", "off", "--design.tokens=[12800,25600,38400]")
    assert longer.returncode == 0, longer.stderr
    assert "the sweep adds 2 runs" in longer.stdout
    assert before < set(outcomes(store))
    first = [path.name for path in (store / "claims").glob("*.1")]
    assert sum(not name.startswith("t") for name in first) == 6
    records = [json.loads(path.read_text()) for path in store.glob("runs/*/record.json")]
    assert {record["execution"]["shared_steps"] for record in records if record["design"]["tokens"] == 38400} == {80}
    again = run_verb("run", sweep, "--store", store, "--wandb", "off")
    assert "the sweep no longer lists 2 runs" in again.stdout
    assert len(outcomes(store)) == 6


def test_a_second_file_cannot_take_a_sweep_name(undisturbed: tuple[Path, Path], run_verb: Verb, tmp_path: Path) -> None:
    sweep, store = undisturbed
    other = tmp_path / "other.yaml"
    other.write_text(sweep.read_text())
    told = run_verb("run", other, "--store", store, "--wandb", "off")
    assert told.returncode == 2
    assert "belongs to" in told.stderr
    assert "give this file another name" in told.stderr


def test_status_and_collect_tell_what_was_trained(
    undisturbed: tuple[Path, Path], run_verb: Verb, tmp_path: Path
) -> None:
    import pandas as pd

    sweep, store = undisturbed
    status = json.loads(run_verb("status", sweep, "--store", store, "--json").stdout)
    assert status["counts"] == {"done": 4}
    assert status["seconds_left"] == 0
    for suffix in ("csv", "parquet"):
        out = tmp_path / f"runs.{suffix}"
        assert run_verb("collect", sweep, "--store", store, "--out", out).returncode == 0
        frame = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
        assert len(frame) == 4
        assert {"params", "tokens", "flops", "loss", "loss_se", "width", "depth", "device"} <= set(frame.columns)
        assert (frame["loss"] > 0).all()


def test_records_that_are_gone_damaged_or_another_runs_are_named_and_trained_again_to_the_same_digits(
    undisturbed: tuple[Path, Path], run_verb: Verb, tmp_path: Path
) -> None:
    import shutil

    store = tmp_path / "copy"
    shutil.copytree(undisturbed[1], store)
    sweep, peace = store / "tiny.yaml", outcomes(store)
    listed = json.loads((store / "sweeps" / "tiny.json").read_text())["runs"]
    gone, cut, swapped, good = (store / "runs" / run_id / "record.json" for run_id in sorted(listed))
    gone.unlink()
    cut.write_text(cut.read_text()[:100])
    shutil.copy(good, swapped)
    status = json.loads(run_verb("status", "tiny", "--store", store, "--json").stdout)
    assert status["counts"] == {"done": 1, "queued": 3}
    reasons = {run["run_id"]: run["reason"] for run in status["runs"]}
    assert "its record is gone" in reasons[gone.parent.name]
    assert "not complete JSON" in reasons[cut.parent.name]
    assert "another run" in reasons[swapped.parent.name]
    collected = run_verb("collect", "tiny", "--out", tmp_path / "x.csv", "--store", store)
    assert (collected.returncode, "1 runs" in collected.stdout) == (0, True)
    assert str(cut) in collected.stderr
    assert str(swapped) in collected.stderr
    told = run_verb("run", sweep, "--wandb", "off", "--store", store)
    assert "4 of 4 runs are done" in told.stdout
    assert str(cut) in told.stderr
    assert outcomes(store) == peace
    for victim in (cut, swapped):
        assert (victim.parent / "earlier" / "damaged-record.json").exists()


def test_prune_removes_only_what_no_sweep_lists(undisturbed: tuple[Path, Path], run_verb: Verb, tmp_path: Path) -> None:
    import shutil

    _, peace = undisturbed
    store = tmp_path / "copy"
    shutil.copytree(peace, store)
    listed = set(json.loads((store / "sweeps" / "tiny.json").read_text())["runs"])
    shutil.copytree(store / "runs" / min(listed), store / "runs" / "000000000000")
    assert "would remove" in run_verb("prune", "--store", store, "--dry-run").stdout
    assert (store / "runs" / "000000000000").exists()
    asked = run_verb("prune", "--store", store)
    assert asked.returncode == 2, "without a terminal to ask on, only --yes removes"
    assert (store / "runs" / "000000000000").exists()
    assert run_verb("prune", "--store", store, "--yes").returncode == 0
    assert not (store / "runs" / "000000000000").exists()
    assert listed <= set(outcomes(store))
