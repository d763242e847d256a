"""What many runs cost: plan, status, collect, report, the idle driver. `python -m benchmarks.scale [--runs 10 1000]`.

A ladder whose runs are published without training, with losses of a known law, is planned, asked for its status,
collected and reported from the shell. Then one more run is trained while the CPU time of its driver is read: a driver
that waits should cost nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster import measured, sweep_file, write_sweep
from experiments.config.counts import design_of
from experiments.config.run import canonical
from experiments.machine.devices import cpu_name
from experiments.machine.hardware import versions
from experiments.planning.planned_sweep import PlannedSweep
from experiments.records import RunRecord, RunStatus

SHAPES = [{"width": 8 * (number + 1), "depth": 1 + number % 2} for number in range(20)]
"""Each shape is trained at five numbers of tokens, by as many seeds as the number of runs asks for."""
WATCHED_SECONDS = 30.0
REPEATS = 5
"""Times that plan, status and collect are measured; a report takes minutes of the largest sweeps, and is made once."""


def law(design: dict[str, Any], rng: random.Random) -> float:
    """A loss in nats per token, with .3 % of noise."""
    clean = 1.5 + 40 * float(design["params"]) ** -0.4 + 200 * float(design["tokens"]) ** -0.45
    return clean * math.exp(0.003 * rng.gauss(0, 1))


def publish(root: Path, runs: list[str]) -> None:
    """Publish records of runs, with as many validation documents as real ones have."""
    store, rng = PlannedSweep.find("cluster", root).store, random.Random(0)
    for run_id in runs:
        config = store.read_config(run_id)
        design = design_of(config, num_train_tokens=None)
        loss = law(design, rng)
        outcome: dict[str, Any] = {"loss": loss, "loss_se": 0.003 * loss, "bpb": loss / math.log(2), "train_loss": loss}
        outcome |= {"val_sums": [loss] * 40, "val_counts": [1] * 40, "num_val_tokens": 40, "tokens_per_second": 1e5}
        outcome |= {"train_seconds": 1.0, "validation_seconds": 0.1, "mfu": 0.1}
        execution = {"attempts": 1, "device": "cpu", "shared_steps": 0, "began_unix_seconds": 1e9}
        store.claims.take(run_id, 1, {})
        store.publish(
            RunRecord(
                run_id=run_id,
                status=RunStatus.DONE,
                config=canonical(config),
                design=design,
                outcome=outcome,
                execution=execution,
            )
        )
        store.claims.end(run_id, 1, RunStatus.DONE)


def cost(*words: object, repeats: int = REPEATS) -> dict[str, float]:
    """CPU seconds and megabytes of a verb, with its start: medians."""
    found = [measured(*words)[:2] for _ in range(repeats)]
    seconds, megabytes = (statistics.median(values) for values in zip(*found, strict=True))
    return {"cpu_seconds": round(seconds, 2), "megabytes": round(megabytes)}


def idle_driver(root: Path, path: Path) -> dict[str, float]:
    """CPU time of a driver over its wall time, while its only worker trains the last run of a large sweep."""
    words = ["run", path, "--store", root, "--workers", 1, "--device", "cpu", "--wandb", "off"]
    driver = psutil.Popen(
        [sys.executable, "-m", "isoflop", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not list((root / "runs").glob("*/metrics.jsonl")):
            if driver.poll() is not None:
                raise SystemExit(f"the driver ended with {driver.returncode}")
            time.sleep(0.5)  # between two looks at a folder, which gives no other sign
        began, before = time.monotonic(), driver.cpu_times()
        seconds, after = 0.0, before
        while seconds < WATCHED_SECONDS and driver.poll() is None:
            time.sleep(1.0)  # the span that is measured
            with contextlib.suppress(psutil.NoSuchProcess):
                seconds, after = time.monotonic() - began, driver.cpu_times()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*driver.children(recursive=True), driver]:
                process.kill()
        driver.wait()
    spent = after.user + after.system - before.user - before.system
    return {"seconds": round(seconds, 1), "fraction_of_a_core": round(spent / max(seconds, 1.0), 4)}


def measure(num_runs: int, *, is_driven: bool) -> dict[str, Any]:
    """Everything for one number of runs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shapes, seeds = (SHAPES, num_runs // 100) if num_runs >= 100 else (SHAPES[: max(1, num_runs // 5)], 1)
        tokens = [131072 * 2**number for number in range(5)]
        path = sweep_file(root, tokens=tokens, shapes=shapes, seeds=seeds)
        write_sweep(path, root)
        planned = PlannedSweep.find("cluster", root)
        runs = list(planned.manifest.runs)
        result: dict[str, Any] = {"runs": len(runs), "plan": cost("plan", path, "--store", root, "--json")}
        last = max(runs, key=lambda run: planned.store.read_config(run).tokens)
        publish(root, [run for run in runs if run != last])
        if is_driven:
            result["idle_driver"] = idle_driver(root, path)
        publish(root, [last])
        result["status"] = cost("status", "cluster", "--store", root, "--json")
        result["collect"] = cost("collect", "cluster", "--store", root, "--out", root / "runs.csv")
        result["report"] = cost("report", root / "sweeps" / "cluster.json", "--out", root / "report", repeats=1)
        return result


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 1000, 5000, 10_000], help="sizes of sweeps")
    parser.add_argument("--no-driver", action="store_true", help="leave the idle driver out")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    sizes: list[dict[str, Any]] = []
    for num_runs in args.runs:
        sizes.append(measure(num_runs, is_driven=not args.no_driver))
        print(json.dumps(sizes[-1]), flush=True)
        record = {
            "command": "python -m benchmarks.scale",
            "what": "CPU seconds and peak megabytes of each command from the shell, with its start: medians of five; "
            "report once",
            "machine": {"cores": os.cpu_count(), "processor": cpu_name()},
            "load_average": os.getloadavg(),
            "versions": versions(),
            "sizes": sizes,
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
