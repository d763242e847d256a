"""Fine-tuning sweeps in miniature: labelled sentences, sweep files, and what `run` does in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from experiments.__main__ import main
from experiments.data.cache import Cache
from experiments.execution.worker import Worker
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore

BODIES = """
name: bodies
data: {corpus: "text:TEXT", context: 32, val_size: 2048, val_fraction: 0.2, max_epochs: 50, val_document_size: 512}
model: {family: encoder, bias: true, norm: layernorm}
objective: {name: masked}
design: {kind: ladder, tokens: [12800], shapes: [{width: 16, depth: 1}, {width: 32, depth: 1}], head_width: 8}
recipe: {learning_rate: 0.01, batch_tokens: 256, warmup_tokens: 2560}
"""
WORDS = {"warm": ["sun", "fire", "heat", "summer"], "cold": ["ice", "snow", "frost", "winter"]}


def rows(count: int) -> pd.DataFrame:
    """Sentences of which one word says the label."""
    rng = np.random.default_rng(0)
    labels = rng.choice(list(WORDS), count)
    texts = [f"the {rng.choice(WORDS[label])} of {rng.integers(10**6)}" for label in labels]
    return pd.DataFrame({"said": texts, "what": labels})


def write_bodies(root: Path, text: str = BODIES) -> Path:
    """A sweep file of small bodies on the sentences, and a table of labelled ones, in one folder."""
    (root / "text.txt").write_text("\n".join(rows(4000)["said"]))
    rows(400).to_csv(root / "rows.csv", index=False)
    path = root / "bodies.yaml"
    path.write_text(text.replace("TEXT", str(root / "text.txt")))
    return path


def write_sweep(path: Path, table: Path, **changes: Any) -> Path:
    """A fine-tuning sweep; keywords replace fields of its design, and whole blocks where they have the name."""
    raw: dict[str, Any] = {
        "name": path.stem,
        "pretrained": {"sweep": "bodies"},
        "task": {"name": f"csv:{table}", "text": "said", "label": "what"},
        "design": {"kind": "finetune", "examples": [16], "methods": ["head"], "min_steps": 6, "controls": False},
        "seeds": [0],
    }
    for key, value in changes.items():
        (raw if key in raw else raw["design"])[key] = value
    path.write_text(yaml.safe_dump(raw))
    return path


def train(path: Path, root: Path, cache: Cache) -> None:
    """What `run` does, in this process: plan, train what is missing, and plan again until nothing is."""
    store = RunStore(root)
    while True:
        planned, _ = PlannedSweep.write(expand_file(path, cache=cache, store=store), path, store)
        if not planned.missing():
            return
        assert Worker(store=store, segments=planned.segments(), cache=cache).work() == 0


def records(name: str, store: Path) -> pd.DataFrame:
    """The records of a sweep as `collect` writes them."""
    out = store / f"{name}.csv"
    assert main(["collect", name, "--store", str(store), "--out", str(out)]) == 0
    return pd.read_csv(out)
