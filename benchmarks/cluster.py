"""Cost of claims and sharing. `python -m benchmarks.cluster [--parts claims,sharing] [--out ...json]`.

claims: 16 processes fight over 2,000 runs whose training takes no time: claims, heartbeats, records and endings are
what is left. sharing: 6 sizes at 5 evenly spaced budgets with a decay of 20 %, with shared prefixes and alone, on the
same two workers; every loss compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from experiments.config.counts import design_of
from experiments.config.run import canonical
from experiments.config.yaml_text import dump_yaml
from experiments.data.cache import Cache
from experiments.execution.queue import Limits, SegmentQueue
from experiments.machine.liveness import HeartbeatWatch, identify
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.records import RunRecord, RunStatus
from experiments.store.store import RunStore

LADDER: dict[str, Any] = {
    "name": "cluster",
    "data": {"corpus": "markov", "corpus_options": {"num_symbols": 16, "num_tokens": 4194304}, "context": 64},
    "design": {"kind": "ladder", "head_width": 8},
    "schedule": {"name": "wsd", "decay_fraction": 0.2},
    "recipe": {"learning_rate": 0.01, "batch_tokens": 512, "warmup_tokens": 10240},
    "precision": "fp32",
}


def sweep_file(folder: Path, *, tokens: list[int], shapes: list[dict[str, int]], seeds: int) -> Path:
    """A sweep of every shape at every budget."""
    raw = LADDER | {"design": LADDER["design"] | {"tokens": tokens, "shapes": shapes}, "seeds": list(range(seeds))}
    path = folder / "cluster.yaml"
    path.write_text(dump_yaml(raw))
    return path


def measured(*words: object) -> tuple[float, float, str]:
    """Run a command: CPU seconds with its start and its workers, its megabytes at the peak, and what it printed."""
    code = (
        "import re, resource, sys, isoflop; status = isoflop.main(sys.argv[1:]); "
        "used, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)); "
        "cpu = used.ru_utime + used.ru_stime + theirs.ru_utime + theirs.ru_stime; "
        # ru_maxrss would begin with the memory of the process that started this one
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()); "
        "print(cpu, peak[1], file=sys.stderr); sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    used = re.search(r"(\S+) (\d+)\n\Z", ended.stderr)
    if used is None or ended.returncode not in (0, 1):  # 1 is a verb's answer; an exception ends with it too
        raise SystemExit(ended.stderr)
    return float(used[1]), int(used[2]) / 1024, ended.stdout


# -- claims --


def contender(root: str, out: str) -> None:
    """One process that takes segments until none is left and publishes records without training."""

    sweep = PlannedSweep.find("cluster", Path(root))
    store = sweep.store
    queue = SegmentQueue(
        store=store,
        segments=sweep.segments(),
        limits=Limits(max_failures=3, max_losses=20),
        watch=HeartbeatWatch(),
        owner=identify(),
        on_exhausted=lambda run_id, state: None,
    )
    cpu, taken, idle = time.process_time(), [], 0.0
    while True:
        claimed, waiting = queue.take()
        if claimed is None:
            if not waiting:
                break
            began = time.process_time()
            time.sleep(0.05)  # as a worker does while others train, whose time is no part of what is measured
            idle += time.process_time() - began
            continue
        run_id = claimed.segment.run_id
        config = store.read_config(run_id)
        store.claims.beat(run_id, claimed.attempt)
        record = RunRecord(
            run_id=run_id,
            status=RunStatus.DONE,
            config=canonical(config),
            design=design_of(config, num_train_tokens=None),
            outcome={"loss": 1.0},
            execution={"attempts": claimed.attempt},
        )
        if store.publish(record):
            taken.append(run_id)
        store.claims.end(run_id, claimed.attempt, RunStatus.DONE)
    Path(out).write_text(json.dumps({"taken": taken, "cpu": time.process_time() - cpu - idle}))


def claims(processes: int, seeds: int) -> dict[str, Any]:
    """Claimed once each, none lost, and what a run's claims and records cost."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shapes = [{"width": 8 * (number + 1), "depth": 1} for number in range(4)]
        path = sweep_file(root, tokens=[131072], shapes=shapes, seeds=seeds)
        write_sweep(path, root)
        began = time.perf_counter()
        workers = [
            multiprocessing.Process(target=contender, args=(folder, str(root / f"{number}.json")))
            for number in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - began
        results = [json.loads((root / f"{number}.json").read_text()) for number in range(processes)]
        counts = Counter(run_id for item in results for run_id in item["taken"])
        attempts = [path for path in (root / "claims").iterdir() if path.name.count(".") == 1]
        num_runs = 4 * seeds
        return {
            "processes": processes,
            "runs": num_runs,
            "published": len(counts),
            "published_twice": sum(count > 1 for count in counts.values()),
            "executions": len(attempts),
            "cpu_milliseconds_per_run": 1e3 * sum(item["cpu"] for item in results) / num_runs,
            "wall_seconds": seconds,
        }


def write_sweep(path: Path, root: Path, *, share: bool = True) -> None:
    """Write configs and manifest as `run` does before it starts workers."""

    PlannedSweep.write(expand_file(path, cache=Cache()), path, RunStore(root), share=share)


# -- sharing --


def sharing(pairs: int) -> dict[str, Any]:
    """FLOPs and wall time of 30 runs with and without shared prefixes, and whether every loss is the same."""
    ratios, cpu_ratios, same, saved = [], [], True, 0.0
    for _ in range(pairs):
        seconds, cpu, losses = {}, {}, {}
        for arm in ("shared", "alone"):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                shapes = [{"width": width, "depth": 2} for width in (16, 24, 32, 40, 48, 64)]
                tokens = [131072 * (number + 1) for number in range(5)]
                path = sweep_file(root, tokens=tokens, shapes=shapes, seeds=1)
                if arm == "shared":
                    summary = json.loads(measured("plan", path, "--store", root, "--json", "--device", "cpu")[2])
                    saved = summary["sharing"]["saved_fraction"]
                words = ["run", path, "--store", root, "--wandb", "off", "--device", "cpu", "--workers", 2]
                began = time.perf_counter()
                cpu[arm] = measured(*words, *(["--no-sharing"] if arm == "alone" else []))[0]
                seconds[arm] = time.perf_counter() - began
                losses[arm] = {
                    file.parent.name: [json.loads(file.read_text())["outcome"][key] for key in ("loss", "val_sums")]
                    for file in root.glob("runs/*/record.json")
                }
        ratios.append(seconds["shared"] / seconds["alone"])
        cpu_ratios.append(cpu["shared"] / cpu["alone"])
        same = same and len(losses["shared"]) == 30 and losses["shared"] == losses["alone"]
    return {
        "runs": 30,
        "flops_saved_fraction": saved,
        "wall_saved_fraction": 1 - sorted(ratios)[len(ratios) // 2],
        "cpu_saved_fraction": 1 - sorted(cpu_ratios)[len(cpu_ratios) // 2],
        "pairs": pairs,
        "losses_equal_to_the_last_bit": same,
    }


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="claims,sharing")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    measures = {
        "claims": lambda: claims(args.processes, 500),
        "sharing": lambda: sharing(args.pairs),
    }
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    result = known | {part: measures[part]() for part in args.parts.split(",")}
    result["peak_megabytes_of_this_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
