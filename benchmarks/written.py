"""Texts of two real tasks, learnt by shipped sweeps and written by beam search, beside baselines that learn nothing.

English to German, learnt from fresh weights, is compared with a copy of the source; titles of news articles, learnt by
a body that was pre-trained on articles and from fresh weights, with the first sentence.

    isoflop data fetch translations && isoflop data fetch news
    python -m benchmarks.written --store STORE --json benchmarks/written.json

The runs lie in the store, so that a benchmark that was stopped goes on; a task that is not asked for keeps its record.
A task has an entry for each method of its sweep.
Loss is that of the sweep's own test texts; scores are those of the whole test split, which the kept weights write.
Rates are not tuned, and there is one seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.minilm import train_missing
from experiments.data.cache import Cache
from experiments.execution.tuning import Bodies
from experiments.files import write_atomic
from experiments.records import RunRecord
from experiments.store.store import RunStore
from experiments.training.tuning.tasks import measure

SWEEPS = Path(__file__).resolve().parents[1] / "experiments" / "sweeps"
BASELINES = {"translate-de": {"bleu": "copy_bleu", "chrf": "copy_chrf"}, "headlines": {"rougeL": "lead_rougeL"}}
"""Measures of each task, and the baseline of each."""
GAINS = {"bleu": "bleu_over_copy", "rougeL": "rougeL_over_lead"}
"""Measures whose gain over the baseline has a paired interval. A score is `above` where the whole interval of its gain
lies above zero; without a gain, where its own interval lies above the baseline."""
DESIGN = ("params_total", "examples", "steps", "lr", "flops")
OUTCOME = ("loss", "loss_per_byte", "best_step", "loss_at_best_step", "train_seconds", "truncated_test")


def written_again(record: RunRecord, root: Path) -> dict[str, Any]:
    """Measures of the texts that the kept weights of a run write for the whole test split, and how many these are.

    A sweep tests on the first of them alone, since beam search takes longer than training there.
    """
    bodies = Bodies(RunStore(root), Cache())
    run, model = bodies.load(record.run_id)
    head = bodies.head(run)
    rows = head.rows(bodies.task(run).splits["test"], run.longest)
    found = head.metrics(measure(head, model, rows, torch.device("cpu")), rows)
    return found | {"tested": len(rows), "truncated_test": sum(row.is_cut for row in rows)}


def row(name: str, record: RunRecord, measures: Mapping[str, Any]) -> dict[str, Any]:
    """What the benchmark tells of a run and of the texts that it writes."""
    outcome, design = {**record.outcome, **measures}, record.design
    scores: dict[str, dict[str, Any]] = {}
    for score, baseline in BASELINES[name].items():
        low, high = outcome[f"{score}_lo"], outcome[f"{score}_hi"]
        scores[score] = {"score": outcome[score], "interval": [low, high], "baseline": outcome[baseline]}
        least, level = low, outcome[baseline]
        if gain := GAINS.get(score):
            least, level = outcome[f"{gain}_lo"], 0.0
            scores[score] |= {"gain": outcome[gain], "gain_interval": [least, outcome[f"{gain}_hi"]]}
        scores[score]["above"] = least is not None and least > level
    kept = {key: design[key] for key in DESIGN} | {key: outcome[key] for key in OUTCOME}
    return scores | kept | {"tested": outcome["tested"]}


def main() -> int:
    """Train what is missing, print the record, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", choices=list(BASELINES), default=list(BASELINES), help="default: both")
    parser.add_argument("--json", type=Path, help="write the record here")
    args = parser.parse_args()
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    for name in args.tasks:
        records = train_missing(SWEEPS / f"{name}.yaml", args.store)
        found[name] = {one.design["method"]: row(name, one, written_again(one, args.store)) for one in records}
        if args.json:
            write_atomic(args.json, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
