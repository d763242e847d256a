"""How a loss depends on the peak learning rate, size by size: what a recipe's choice costs against the best rate tried.

Reads records, because runs are compared on the same validation documents. It must not know how rates were chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.paired.difference import paired_difference
from experiments.records import RunRecord, RunStatus

SCALE = "recipe.rate_scale"
"""Label that a sweep gives to runs whose rate it varies; 1 is the recipe's own rate."""


def rate_table(records: Iterable[tuple[RunRecord, dict[str, Any]]]) -> pd.DataFrame:
    """One row a run: its rate, loss, and excess over the best run of its size and tokens with a paired interval.

    Parameters
    ----------
    records : iterable of (RunRecord, dict)
        Records with the sweep's labels.

    Returns
    -------
    DataFrame
        width, depth, params, tokens, batch, lr, seed, scale, status, loss, best_lr, excess_fraction, excess_lo,
        excess_hi; losses in nats per token, excesses as fractions of the best loss. A run that diverged has no loss.

    Raises
    ------
    UserError
        When no run carries a rate scale: then nothing was varied.
    """
    found = [(record, labels) for record, labels in records if SCALE in labels]
    if not found:
        raise UserError(
            f"no run of this sweep varies the rate; give the sweep `vary: {{{SCALE}: [0.25, 0.5, 1, 2, 4]}}`"
        )
    cells: dict[tuple[Any, ...], list[tuple[RunRecord, dict[str, Any]]]] = {}
    for record, labels in found:
        design = record.design
        key = (design["params"], labels.get("budget"), design["batch"], design.get("seed"))
        cells.setdefault(key, []).append((record, labels))
    rows = []
    for members in cells.values():
        done = [record for record, _ in members if record.status is RunStatus.DONE]
        best = min(done, key=lambda record: record.outcome["loss"]) if done else None
        rows += [_row(record, labels, best) for record, labels in sorted(members, key=lambda item: item[1][SCALE])]
    return pd.DataFrame(rows).sort_values(["params", "tokens", "scale", "seed"]).reset_index(drop=True)


def _row(record: RunRecord, labels: dict[str, Any], best: RunRecord | None) -> dict[str, Any]:
    design, outcome = record.design, record.outcome
    row: dict[str, Any] = {name: design[name] for name in ("width", "depth", "params", "tokens", "batch", "lr")}
    row |= {
        "seed": design.get("seed", 0),
        "scale": labels[SCALE],
        "status": record.status,
        "loss": outcome.get("loss", np.nan),
    }
    if best is None or record.status is not RunStatus.DONE:
        return row | {"best_lr": np.nan, "excess_fraction": np.nan, "excess_lo": np.nan, "excess_hi": np.nan}
    loss = best.outcome["loss"]
    difference = paired_difference(outcome["val_sums"], best.outcome["val_sums"], outcome["val_counts"])
    return row | {
        "best_lr": best.design["lr"],
        "excess_fraction": difference.value / loss,
        "excess_lo": float(difference.lo or 0.0) / loss,
        "excess_hi": float(difference.hi or 0.0) / loss,
    }


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the recipe's own rate."""
    return frame[frame["scale"] == 1].reset_index(drop=True)
