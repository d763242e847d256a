"""Kill the worker of a fine-tuning sweep at random moments until it is done, and compare every digit.

    python -m benchmarks.killed_tuning --kills 20 --json benchmarks/killed_tuning.json

A worker is a fork of this process, so that it trains at once. Each gets SIGKILL when it has written a number of rows of
metrics that is drawn, and then a random part of a second later. At the end: one published record a run, and losses
equal to the last digit to those of a sweep that nothing disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import yaml

from experiments.data.cache import Cache
from experiments.execution.worker import Worker
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore

TUNED: dict[str, Any] = {
    "name": "tuned",
    "pretrained": {
        "scratch": True,
        "model": {"family": "encoder", "width": 16, "depth": 1, "num_heads": 2, "context": 32},
    },
    "task": {"name": "csv:rows.csv"},
    "design": {
        "kind": "finetune",
        "examples": [16, 64],
        "methods": ["scratch"],
        "controls": False,
        "rates": {"span": 1, "limit": 1},
        "min_steps": 100,
    },
    "seeds": [0, 1, 2],
}
"""Twelve or more runs of twenty rows each."""
MAX_ROWS = 15
"""Rows that a worker writes at most before it is killed."""
LAST_SECONDS = 0.1
"""And how much longer it may live."""


def planned(file: Path, root: Path) -> PlannedSweep:
    """The sweep as its records ask for it now."""
    store = RunStore(root)
    return PlannedSweep.write(expand_file(file, cache=Cache(), store=store), file, store)[0]


def finish(file: Path, root: Path) -> None:
    """Train what is missing in this process."""
    while True:
        sweep = planned(file, root)
        if not sweep.missing():
            return
        Worker(store=sweep.store, segments=sweep.segments(), cache=Cache()).work()


def count_rows(root: Path) -> int:
    """Rows of metrics of all runs."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob("runs/*/metrics.jsonl"))


def work(sweep: PlannedSweep) -> NoReturn:
    """Be a worker, and end without a word."""
    status = 3
    try:
        status = Worker(store=sweep.store, segments=sweep.segments(), cache=Cache()).work()
    finally:
        os._exit(status)


def disturb(file: Path, root: Path, kills: int, rng: random.Random) -> list[int]:
    """Start workers and kill them; the rows that each had written. Fewer than asked for where the sweep is done."""
    lived: list[int] = []
    while len(lived) < kills:
        sweep = planned(file, root)
        if not sweep.missing():
            return lived
        before, wanted = count_rows(root), rng.randint(0, MAX_ROWS)
        pid = os.fork()
        if pid == 0:
            work(sweep)
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if count_rows(root) - before >= wanted:
                time.sleep(rng.uniform(0, LAST_SECONDS))
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                if os.WIFSIGNALED(status):
                    lived.append(count_rows(root) - before)
                break
            time.sleep(0.001)
    return lived


def losses(file: Path, root: Path) -> dict[str, list[float]]:
    """Test, validation and training loss of every run."""
    sweep, found = planned(file, root), {}
    for run_id in sweep.run_ids:
        record = sweep.store.read_record(run_id)
        assert record is not None, f"{run_id} has no record"
        found[run_id] = [record.outcome[name] for name in ("loss", "val_loss", "train_loss", "accuracy")]
    return found


def main() -> int:
    """Disturb one store, leave the other alone, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the record here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        lines = [f"{word} {number},{word}" for number in range(200) for word in ("warm", "cold")]
        (base / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
        file = base / "tuned.yaml"
        file.write_text(yaml.safe_dump(TUNED))
        lived = disturb(file, base / "disturbed", args.kills, random.Random(args.seed))
        for name in ("disturbed", "alone"):
            finish(file, base / name)
        disturbed, alone = losses(file, base / "disturbed"), losses(file, base / "alone")
        records = len(list((base / "disturbed" / "runs").glob("*/record.json")))
    result: dict[str, Any] = {
        "runs": len(alone),
        "kills": len(lived),
        "rows_before_each_kill": lived,
        "one_record_each": records == len(alone) and disturbed.keys() == alone.keys(),
        "losses_equal_to_the_last_digit": disturbed == alone,
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if args.json:
        args.json.write_text(text, encoding="utf-8")
    return 0 if result["one_record_each"] and result["losses_equal_to_the_last_digit"] else 1


if __name__ == "__main__":
    sys.exit(main())
