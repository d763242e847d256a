"""Disturb a sweep at random moments until it is done, and compare every digit. `python -m benchmarks.chaos [--kills 50]
[--runs 24] [--minutes 60]`.

Each time, after a random while, a random choice of the driver and its workers gets SIGKILL; or a worker is frozen for
some seconds (SIGSTOP) while a worker of another driver may take its run; or a second driver joins; or the store's disk
is full for some seconds (where this may mount a small one). The sweep is started again when its driver is gone. At the
end: one published record a run, executions and steps that were taken twice counted, and losses equal to the last digit
to those of an undisturbed sweep whose runs were trained alone, while the disturbed ones share their prefixes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.strikes import Helpers, small_disk
from experiments.digests import row_of
from experiments.store.store import RunStore
from experiments.store.verify import verify_store

SWEEP = """
name: chaos
data: {{corpus: markov, corpus_options: {{num_symbols: 16, num_tokens: 2097152}}, context: 64, val_size: 32768}}
design:
  kind: ladder
  tokens: [524288, 1048576]
  shapes: [{{width: 16, depth: 1}}, {{width: 24, depth: 1}}, {{width: 32, depth: 1}}]
seeds: {seeds}
recipe: {{learning_rate: 0.01, batch_tokens: 512, warmup_tokens: 10240}}
"""


def start(sweep: Path, store: Path, *more: str, checkpoint_seconds: float) -> subprocess.Popen[bytes]:
    """Start a driver with two workers in a session of its own."""
    words = [
        "run",
        sweep,
        "--store",
        store,
        "--workers",
        2,
        "--wandb",
        "off",
        "--checkpoint-seconds",
        checkpoint_seconds,
        *more,
    ]
    command = [sys.executable, "-m", "experiments", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def outcomes(store: Path) -> dict[str, Any]:
    """run_id -> what was measured, without timing."""
    found = {}
    for path in store.glob("runs/*/record.json"):
        measured = json.loads(path.read_text())["outcome"]
        found[path.parent.name] = [measured[key] for key in ("loss", "loss_se", "val_sums", "train_loss")]
    return found


def kill_some(driver: subprocess.Popen[bytes], rng: random.Random) -> str:
    """SIGKILL the driver, a training process, all of them, with their supervisors, or everything; what was killed."""
    everyone = [child for child in psutil.Process(driver.pid).children(recursive=True) if "work" in child.cmdline()]
    workers = [child for child in everyone if not child.children()]  # those that train, not those that keep them
    choice = rng.choice(["driver", "worker", "worker", "worker", "workers", "workers", "workers", "supervisors", "all"])
    victims = {"driver": [], "worker": workers[:1], "workers": workers, "all": everyone}.get(choice, everyone)
    for worker in victims:
        worker.kill()
    if choice in ("driver", "all"):
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        psutil.wait_procs(everyone, timeout=60)
    return choice


STRIKES = ("kill", "kill", "kill", "freeze", "second driver", "full disk")
"""What may happen, with its share."""


def strike(driver: subprocess.Popen[bytes], sweep: Path, store: Path, rng: random.Random, helpers: Helpers) -> str:
    """Do one of STRIKES; what was done."""
    choice = rng.choice(STRIKES)
    if choice == "freeze":
        return helpers.freeze(driver, store, rng)
    if choice == "second driver":
        helpers.join(start(sweep, store, checkpoint_seconds=1))
        return choice
    if choice == "full disk" and os.path.ismount(store):
        return helpers.fill(store, rng)
    return f"kill {kill_some(driver, rng)}"


def wasted_fraction(store: Path) -> float:
    """Rows of metrics that were trained more than once, over those that had to be; shared ones count once."""
    needed = again = 0
    for path in store.glob("*/*/metrics.jsonl"):
        record = path.with_name("record.json")
        shared = json.loads(record.read_text())["execution"]["shared_steps"] if record.exists() else 0
        steps = [row["step"] for line in path.read_text().splitlines() if (row := row_of(line)) is not None]
        trained = [step for step in steps if step > shared]
        needed += len(set(trained))
        again += len(trained) - len(set(trained))
    return again / needed if needed else 0.0


def until_claimed(store: Path, driver: subprocess.Popen[bytes]) -> bool:
    """Wait until some run is being trained; False when the driver ends first."""
    while driver.poll() is None:
        names = {path.name for path in (store / "claims").glob("*")}
        ended = {".".join(name.split(".")[:2]) for name in names if name.count(".") == 2}
        if any(name.count(".") == 1 and name not in ended for name in names):
            return True
        time.sleep(0.02)  # between two looks at a folder, which gives no other sign
    return False


def takeup_seconds(store: Path, driver: subprocess.Popen[bytes], claims_before: set[str]) -> float | None:
    """Seconds from now until somebody claims another attempt; None when the driver ends first."""
    began = time.monotonic()
    while driver.poll() is None:
        if {path.name for path in (store / "claims").glob("*") if path.suffix[1:].isdigit()} - claims_before:
            return time.monotonic() - began
    return None


def disturb(sweep: Path, store: Path, rng: random.Random, *, kills: int, runs: int, seconds: float) -> dict[str, Any]:
    """Strike until the sweep is done or the strikes are spent, then let it end; what happened."""
    counts: dict[str, int] = {}
    helpers = Helpers()
    takeups: list[float | None] = []
    driver = start(sweep, store, checkpoint_seconds=1)
    while sum(counts.values()) < kills and len(outcomes(store)) < runs:
        if driver.poll() is not None:
            driver = start(sweep, store, checkpoint_seconds=1)
        if not until_claimed(store, driver):
            continue
        try:
            driver.wait(timeout=rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            before = {path.name for path in (store / "claims").glob("*") if path.suffix[1:].isdigit()}
            choice = strike(driver, sweep, store, rng, helpers)
            counts[choice] = counts.get(choice, 0) + 1
            if choice == "kill workers":
                takeups.append(takeup_seconds(store, driver, before))
    if driver.poll() is None:
        driver.wait()
    helpers.end()
    status = start(sweep, store, checkpoint_seconds=60).wait()
    claims = [path.name.split(".") for path in (store / "claims").iterdir()]
    endings: dict[str, int] = {}
    for parts in claims:
        if len(parts) == 3:
            endings[parts[2]] = endings.get(parts[2], 0) + 1
    return {
        "runs": len(outcomes(store)),
        "kills": counts,
        "executions": sum(len(parts) == 2 for parts in claims),
        "endings": endings,
        "exit_status": status,
        "executions_per_run": round(sum(len(parts) == 2 for parts in claims) / max(1, len(outcomes(store))), 2),
        "steps_trained_again_fraction": round(wasted_fraction(store), 4),
        "takeup_seconds_after_all_workers_died": sorted(round(item, 1) for item in takeups if item is not None),
    }


def added(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Several rounds as one."""
    whole: dict[str, Any] = {"rounds": len(results)}
    for name in ("kills", "endings"):
        whole[name] = {}
        for result in results:
            for key, count in result[name].items():
                whole[name][key] = whole[name].get(key, 0) + count
    for name in ("runs", "executions"):
        whole[name] = sum(result[name] for result in results)
    whole["executions_per_run"] = round(whole["executions"] / max(1, whole["runs"]), 2)
    again = [result["steps_trained_again_fraction"] for result in results]
    whole["steps_trained_again_fraction"] = round(sum(again) / len(again), 4)
    whole["exit_status"] = max(result["exit_status"] for result in results)
    name = "takeup_seconds_after_all_workers_died"
    whole[name] = sorted(item for result in results for item in result[name])
    return whole


def main() -> None:
    """Run the undisturbed sweep, then disturbed ones, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="kills in a round")
    parser.add_argument("--runs", type=int, default=24, help="runs of the sweep, a multiple of 6")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin rounds until then; one at least")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="longest wait before a kill, once training is under way"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "chaos.yaml"
        sweep.write_text(SWEEP.format(seeds=list(range(args.runs // 6))))
        peace, quiet = Path(folder) / "peace", Path(folder) / "quiet"
        peace.mkdir()
        assert start(sweep, peace, "--no-sharing", checkpoint_seconds=60).wait() == 0
        quiet.mkdir()
        assert start(sweep, quiet, checkpoint_seconds=1).wait() == 0
        rounds: list[dict[str, Any]] = []
        same = True
        while not rounds or time.monotonic() - began < 60 * args.minutes:
            war = Path(folder) / f"war-{len(rounds)}"
            war.mkdir()
            with small_disk(war):
                rounds.append(disturb(sweep, war, rng, kills=args.kills, runs=args.runs, seconds=args.seconds))
                same = same and outcomes(war) == outcomes(peace) == outcomes(quiet)
                damaged = len(verify_store(RunStore(war)).damaged)
            result = added(rounds) | {
                "runs_of_the_sweep": args.runs,
                "losses_equal_to_the_last_digit": same,
                "steps_trained_again_fraction_without_strikes": round(wasted_fraction(quiet), 4),
                "damaged_files_at_the_end": damaged,
                "seconds": round(time.monotonic() - began),
            }
            args.out.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(rounds[-1] | {"same": same}), flush=True)
    if not same or result["exit_status"] != 0 or result["runs"] != args.runs * len(rounds):
        sys.exit("error: a disturbed sweep differs from the undisturbed one")


if __name__ == "__main__":
    main()
