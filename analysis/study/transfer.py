"""What pre-training is worth in examples: from how many a model with fresh weights reaches the same loss.

It needs no law: the curve from scratch is read between its own points, as Hernandez et al. 2021 (arXiv 2102.01293)
define the effective data transferred. It must not know figures or HTML.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.arrays import Array

PRETRAINED, SCRATCH = "full", "scratch"
"""The two methods that are compared: all weights learn, from the body or from fresh ones."""
DRAWS = 2000
"""Draws of the noise between seeds."""
WORTH_COLUMNS = ["pretrained", "params", "examples", "worth", "lo", "hi", "reason"]
"""Columns of `examples_worth`."""


def examples_worth(cells: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """For each tuned body and number of examples, the number from which fresh weights reach the same loss.

    Parameters
    ----------
    cells : DataFrame
        Of a TuningStudy: pretrained, params, arm, examples, loss, loss_se.
    rng : Generator
        Draws the noise.

    Returns
    -------
    DataFrame
        WORTH_COLUMNS: `worth` in examples, with its 95 % interval. Where no run from scratch has so low a loss, `worth`
        is the most examples tried and the reason says that it is a lower bound; in the same way for a loss above all.
    """
    rows = []
    for (body, params), group in cells[cells["examples"] > 0].groupby(["pretrained", "params"], sort=True):
        scratch = group[group["arm"] == SCRATCH].sort_values("examples")
        tuned = group[group["arm"] == PRETRAINED].sort_values("examples")
        if len(scratch) < 2:
            continue
        for cell in tuned.to_dict("records"):
            known = {"pretrained": body, "params": params, "examples": cell["examples"]}
            rows.append(known | _worth(float(cell["loss"]), float(cell["loss_se"]), scratch, rng))
    return pd.DataFrame(rows, columns=WORTH_COLUMNS)


def _worth(loss: float, noise: float, scratch: pd.DataFrame, rng: np.random.Generator) -> dict[str, object]:
    """Where the curve from scratch has this loss, with an interval from draws of both; or which end bounds it."""
    log_x = np.log(scratch["examples"].to_numpy(dtype=float))
    curve, spread = (scratch[name].to_numpy(dtype=float) for name in ("loss", "loss_se"))
    here = _examples_of(loss, log_x, curve)
    out: dict[str, object] = {"worth": float(np.exp(here)), "lo": None, "hi": None, "reason": None}
    most = round(float(np.exp(log_x[-1])))
    if here >= log_x[-1]:
        return out | {"reason": f"a lower bound: {most} examples from scratch do not reach this loss"}
    if here <= log_x[0]:
        return out | {"reason": "an upper bound: the fewest examples from scratch reach this loss"}
    if not (np.isfinite(noise) and np.isfinite(spread).all()):
        return out | {"reason": "no interval: no cell has a second seed"}
    drawn = [
        _examples_of(loss + noise * rng.standard_normal(), log_x, curve + spread * rng.standard_normal(len(curve)))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    if high >= log_x[-1]:
        return out | {
            "lo": float(np.exp(low)),
            "reason": f"no upper end: beyond the {most} examples tried from scratch",
        }
    return out | {"lo": float(np.exp(low)), "hi": float(np.exp(high))}


def _examples_of(loss: float, log_x: Array, curve: Array) -> float:
    """Log examples at which a curve, made to fall, has a loss, by straight lines between points; an end when beyond."""
    falling = np.minimum.accumulate(curve)
    if loss >= falling[0]:
        return float(log_x[0])
    if loss < falling[-1]:
        return float(log_x[-1])
    i = int(np.flatnonzero(falling <= loss)[0])
    share = (falling[i - 1] - loss) / (falling[i - 1] - falling[i])
    return float(log_x[i - 1] + share * (log_x[i] - log_x[i - 1]))
