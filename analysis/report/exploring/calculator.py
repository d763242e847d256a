"""The table behind the sliders of a page: what the law predicts over compute and tokens per parameter.

Predictions and intervals are those of the fit, computed here on a grid; the page only interpolates between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.study.study import Study

NUM_FLOPS, NUM_RATIOS = 37, 25
"""Points of the grid."""
SMALLEST, LARGEST = 1 / 3, 100.0
"""The grid's ends in compute, as factors of the smallest and largest compute of the runs."""
RATIOS = (1.0, 2000.0)
"""Tokens per parameter at the grid's ends; widened to hold the runs."""
FINE = 600
"""Sizes among which the one of a given ratio is interpolated."""


def calculator(study: Study) -> dict[str, Any]:
    """Predictions on a grid of compute and tokens per parameter.

    Parameters
    ----------
    study : Study
        Whose law predicts.

    Returns
    -------
    dict
        `flops` and `ratios`, the axes in natural logarithms; `loss`, `lo`, `hi`, `params` as lists over ratios in a
        list over compute; `best`, the ratio of least loss at each compute. `lo` and `hi`, the ends of the prediction
        interval of one run, are None where the fit gives no interval, and `reason` says why. `fitted` is the largest
        fitted compute, `unit` that of the losses.
    """
    frame = study.table.frame
    fit = study.comparison.fit
    flops = np.geomspace(float(frame["flops"].min()) * SMALLEST, float(frame["flops"].max()) * LARGEST, NUM_FLOPS)
    seen = (frame["tokens"] / frame["params"]).to_numpy(dtype=float)
    ratios = np.geomspace(min(RATIOS[0], seen.min()), max(RATIOS[1], seen.max()), NUM_RATIOS)
    params = np.stack([_params_at(study, float(budget), ratios) for budget in flops])
    at = {"params": params.ravel(), "tokens": (params * ratios).ravel()}
    predicted = fit.predict({name: at[name] for name in fit.law.inputs})
    shape = params.shape
    loss = predicted["loss"].to_numpy(dtype=float).reshape(shape)
    low, high = (predicted[f"prediction_{end}"].to_numpy(dtype=float).reshape(shape) for end in ("lo", "hi"))
    known = bool(np.isfinite(low).all() and np.isfinite(high).all())
    return {
        "flops": np.log(flops).round(6).tolist(),
        "ratios": np.log(ratios).round(6).tolist(),
        "params": np.log(params).round(4).tolist(),
        "loss": loss.round(5).tolist(),
        "lo": low.round(5).tolist() if known else None,
        "hi": high.round(5).tolist() if known else None,
        "reason": None if known else (fit.predictor.reason or "the fit has no intervals"),
        "best": np.log(ratios[loss.argmin(axis=1)]).round(4).tolist(),
        "fitted": study.fitted_span[1],
        "level": study.choices.level,
        "unit": study.loss_unit,
    }


def _params_at(study: Study, flops: float, ratios: Array) -> Array:
    """N at which a budget pays for each number of tokens per parameter."""
    middle = np.sqrt(flops / 6)
    sizes = np.geomspace(middle / 1e4, middle * 1e4, FINE)
    log_ratio = np.log(study.shapes.tokens(flops, sizes) / sizes)
    return np.exp(np.interp(-np.log(ratios), -log_ratio, np.log(sizes)))
