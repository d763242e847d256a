"""Texts of two real tasks, learnt from fresh weights by the shipped sweeps and written by beam search, beside baselines
that learn nothing: English to German against a copy of the source, and titles of news articles against the first
sentence.

    isoflop data fetch translations && isoflop data fetch news
    python -m benchmarks.written --store STORE --json benchmarks/written.json

The runs lie in the store, so that a benchmark that was stopped goes on; a task that is not asked for keeps its record.
Rates are not tuned, and there is one seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.minilm import train_missing
from experiments.records import RunRecord

SWEEPS = Path(__file__).resolve().parents[1] / "experiments" / "sweeps"
BASELINES = {"translate-de": {"bleu": "copy_bleu", "chrf": "copy_chrf"}, "headlines": {"rougeL": "lead_rougeL"}}
"""Measures of each task, and the baseline of each; a score is `above` where its whole interval is."""
DESIGN = ("params_total", "examples", "steps", "lr", "flops")
OUTCOME = ("loss", "loss_per_byte", "best_step", "loss_at_best_step", "train_seconds", "truncated_test")


def row(name: str, record: RunRecord) -> dict[str, Any]:
    """What the benchmark tells of a run."""
    outcome, design = record.outcome, record.design
    scores = {}
    for measure, baseline in BASELINES[name].items():
        low, high = outcome[f"{measure}_lo"], outcome[f"{measure}_hi"]
        scores[measure] = {
            "score": outcome[measure],
            "interval": [low, high],
            "baseline": outcome[baseline],
            "above": low is not None and low > outcome[baseline],
        }
    kept = {key: design[key] for key in DESIGN} | {key: outcome[key] for key in OUTCOME}
    return scores | kept | {"tested": len(outcome["val_counts"])}


def main() -> int:
    """Train what is missing, print the record, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", choices=list(BASELINES), default=list(BASELINES), help="default: both")
    parser.add_argument("--json", type=Path, help="write the record here")
    args = parser.parse_args()
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    for name in args.tasks:
        (record,) = train_missing(SWEEPS / f"{name}.yaml", args.store)
        found[name] = row(name, record)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
