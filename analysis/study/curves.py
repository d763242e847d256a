"""Training curves of the runs of a sweep, read from the store beside its manifest. Must not know fits or figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from experiments.digests import line_has_changed
from experiments.manifests import store_of

CURVE_POINTS = 160
"""Most points of a training curve that are drawn: means over equal steps of log tokens."""


def training_curves(paths: Sequence[str | Path], frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Training loss by tokens of every run whose store lies beside the manifest, thinned evenly in log tokens."""
    out: dict[str, pd.DataFrame] = {}
    if "run_id" not in frame.columns:
        return out
    for path in map(Path, paths):
        if path.suffix != ".json" and not path.is_dir():
            continue
        for run_id in frame["run_id"].dropna().astype(str):
            file = store_of(path) / "runs" / run_id / "metrics.jsonl"
            if run_id not in out and file.exists():
                curve = _read_curve(file)
                if len(curve) > 1:
                    out[run_id] = curve
    return out


def _read_curve(file: Path) -> pd.DataFrame:
    """tokens and train_loss of one metrics file.

    A last line that was cut off in writing is left out; others that are no JSON, or have changed since they were
    written, are errors.
    """
    rows: list[dict[str, Any]] = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            message = f"{file} line {number} is not JSON ({error.msg}); delete the run and train it again"
            raise UserError(message) from error
        if line_has_changed(line):
            raise UserError(f"{file} line {number} has changed since it was written; delete the run and train it again")
        if row.get("train_loss") is not None and row.get("tokens"):
            rows.append({"tokens": float(row["tokens"]), "train_loss": float(row["train_loss"])})
    curve = pd.DataFrame(rows, columns=["tokens", "train_loss"])
    if len(curve) <= CURVE_POINTS:
        return curve
    edges = np.geomspace(curve["tokens"].min(), curve["tokens"].max() * (1 + 1e-9), CURVE_POINTS + 1)
    place = np.clip(np.searchsorted(edges, curve["tokens"], side="right"), 1, CURVE_POINTS)
    return curve.groupby(place).mean().reset_index(drop=True)
