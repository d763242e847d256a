"""Training curves of the runs of a sweep, read from the store beside its manifest. Must not know fits or figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.archives import CURVE, archive_curves, is_archive, read_curve
from experiments.manifests import store_of

CURVE_POINTS = 160
"""Most points of a training curve that are drawn: means over equal steps of log tokens."""


def training_curves(paths: Sequence[str | Path], frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Training loss by tokens of every run whose store lies beside the manifest, thinned evenly in log tokens."""
    out: dict[str, pd.DataFrame] = {}
    if "run_id" not in frame.columns:
        return out
    ids = frame["run_id"].dropna().astype(str)
    for path in map(Path, paths):
        for run_id, curve in _curves_of(path, ids):
            if run_id not in out and len(curve["tokens"]) > 1:
                out[run_id] = _thinned(pd.DataFrame(curve, columns=list(CURVE)))
    return out


def _curves_of(path: Path, ids: Iterable[str]) -> Iterator[tuple[str, Mapping[str, list[float]]]]:
    """The curves that lie beside a manifest, in a store or in an archive."""
    if is_archive(path):
        curves = archive_curves(path)
        yield from ((run_id, curves[run_id]) for run_id in ids if run_id in curves)
    elif path.suffix == ".json" or path.is_dir():
        runs = store_of(path) / "runs"
        yield from ((run_id, read_curve(runs / run_id / "metrics.jsonl")) for run_id in ids)


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """A curve of at most CURVE_POINTS: means over equal steps of log tokens."""
    if len(curve) <= CURVE_POINTS:
        return curve
    edges = np.geomspace(curve["tokens"].min(), curve["tokens"].max() * (1 + 1e-9), CURVE_POINTS + 1)
    place = np.clip(np.searchsorted(edges, curve["tokens"], side="right"), 1, CURVE_POINTS)
    return curve.groupby(place).mean().reset_index(drop=True)
