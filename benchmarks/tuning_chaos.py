"""Kill the worker of a fine-tuning sweep at random moments until it is done, and compare every digit.

`python -m benchmarks.tuning_chaos [--kills 20] [--minutes 30]`. Each time a worker with its supervisor gets SIGKILL
after a random while. At the end: one published record a run, and losses equal to the last digit to those of a sweep
that nothing disturbed.
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

from experiments.data.cache import Cache
from experiments.execution.worker import Worker
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore

BODIES = """
name: bodies
data: {corpus: sotu, context: 32, val_size: 8192}
model: {family: encoder}
objective: {name: masked}
design: {kind: ladder, tokens: [51200], shapes: [{width: 16, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 1024, warmup_tokens: 10240}
"""
TUNED = """
name: tuned
pretrained: {sweep: bodies}
task: {name: "csv:rows.csv"}
design:
  kind: finetune
  examples: [16, 64]
  methods: [full, adapters]
  controls: false
  rates: {span: 1, limit: 1}
  min_steps: 600
seeds: [0, 1]
"""
WHILE_SECONDS = (2.0, 14.0)
"""Between the start of a worker and its end."""


def train(file: Path, root: Path) -> None:
    """Train a sweep in this process, planning again until nothing is missing."""
    cache, store = Cache(), RunStore(root)
    while True:
        planned, _ = PlannedSweep.write(expand_file(file, cache=cache, store=store), file, store)
        if not planned.missing():
            return
        Worker(store=store, segments=planned.segments(), cache=cache).work()


def disturb(file: Path, root: Path, *, kills: int, seconds: float, rng: random.Random) -> tuple[int, int]:
    """Start a worker and kill it, again and again.

    Parameters
    ----------
    file : Path
        The sweep.
    root : Path
        Its store.
    kills : int
        How many workers are killed.
    seconds : float
        After which no further worker is started.
    rng : Random
        Draws the moments.

    Returns
    -------
    tuple of int
        Workers that were killed, and of them those that left an attempt unfinished.
    """
    began, done, torn, store = time.monotonic(), 0, 0, RunStore(root)
    while done < kills and time.monotonic() - began < seconds:
        planned, _ = PlannedSweep.write(expand_file(file, cache=Cache(), store=store), file, store)
        if not planned.missing():
            break
        command = [sys.executable, "-m", "experiments", "work", str(planned.path)]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            worker.wait(timeout=rng.uniform(*WHILE_SECONDS))
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            done += 1
            torn += any(state.running for state in store.claims.states().values())
    return done, torn


def losses(root: Path) -> dict[str, tuple[float, float, float]]:
    """Test, validation and forgetting of every run of the tuned sweep."""
    store = RunStore(root)
    manifest = store.read_manifest("tuned")
    assert manifest is not None
    found = {}
    for run_id in manifest.runs:
        record = store.read_record(run_id)
        assert record is not None
        found[run_id] = tuple(record.outcome[name] for name in ("loss", "val_loss", "pretrained_loss_after"))
    return found


def main() -> int:
    """Disturb one store, leave the other alone, compare, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/tuning_chaos.json"))
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        lines = [f"{word} {number},{word}" for number in range(200) for word in ("warm", "cold")]
        (base / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
        (base / "bodies.yaml").write_text(BODIES)
        (base / "tuned.yaml").write_text(TUNED)
        roots = [base / "disturbed", base / "alone"]
        for root in roots:
            train(base / "bodies.yaml", root)
        kills, torn = disturb(
            base / "tuned.yaml", roots[0], kills=args.kills, seconds=60 * args.minutes, rng=random.Random(0)
        )
        for root in roots:
            train(base / "tuned.yaml", root)
        disturbed, alone = map(losses, roots)
        attempts = len([path for path in (roots[0] / "claims").iterdir() if path.suffix[1:].isdigit()])
    result: dict[str, Any] = {
        "runs": len(alone),
        "kills": kills,
        "kills_within_a_run": torn,
        "attempts": attempts,
        "one_record_each": len(disturbed) == len(alone) and disturbed.keys() == alone.keys(),
        "losses_equal_to_the_last_digit": disturbed == alone,
        "seconds": round(time.monotonic() - began),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if result["losses_equal_to_the_last_digit"] else 1


if __name__ == "__main__":
    sys.exit(main())
