"""The held-out score of a fit: predictions of runs that it has not seen, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.runs.columns import as_columns
from analysis.selection.auto import AutoFit
from analysis.study.study import Choices, HeldOut

NARROW = 0.9
"""Coverage of the second prediction interval of a held-out run."""


def held_out(
    fit: Fit, fitted: pd.DataFrame, held: pd.DataFrame, choices: Choices, *, auto: AutoFit | None = None
) -> HeldOut:
    """Predict the held-out runs, and carry the best fitted loss forward beside it.

    Intervals of the two mean errors are percentiles over draws of the law and of the held-out runs together. A weighted
    set of laws, where there is one, predicts in place of the law, and makes no draws.
    """
    inputs = as_columns(held, fit.law.inputs)
    alone = fit.predict(inputs)
    predicted = alone if auto is None else auto.predict(inputs)
    narrower = (fit.at_level(NARROW) if auto is None else auto.at_level(NARROW)).predict(inputs)
    measured = held["loss"].to_numpy(dtype=float)
    best = _best_smaller(fitted, held)
    value = predicted["loss"].to_numpy(dtype=float)
    rows = pd.DataFrame(
        {
            "row": held["row"].to_numpy(),
            "run_id": held["run_id"].to_numpy() if "run_id" in held.columns else [None] * len(held),
            "budget": held["budget_group"].to_numpy(),
            **{name: held[name].to_numpy() for name in ("params", "tokens", "flops")},
            "predicted": value,
            "lo": predicted["prediction_lo"].to_numpy(),
            "hi": predicted["prediction_hi"].to_numpy(),
            "lo_90": narrower["prediction_lo"].to_numpy(),
            "hi_90": narrower["prediction_hi"].to_numpy(),
            "measured": measured,
            "error_fraction": (value - measured) / measured,
            "carried_forward": best,
            "carried_error": (best - measured) / measured,
        }
    )
    if auto is not None:
        rows = rows.assign(law_lo=alone["prediction_lo"].to_numpy(), law_hi=alone["prediction_hi"].to_numpy())
    mape, carried = _mean_errors(fit, rows, inputs, choices, weighted=auto is not None)
    return HeldOut(
        rows=rows.sort_values(["flops", "params"]).reset_index(drop=True),
        mape=mape,
        carried_mape=carried,
        coverage=float(((measured >= rows["lo"]) & (measured <= rows["hi"])).mean()),
        half_width=float(((rows["hi"] - rows["lo"]) / (2 * rows["predicted"])).mean()),
        reach=float(held["flops"].max() / fitted["flops"].max()),
    )


def _best_smaller(fitted: pd.DataFrame, held: pd.DataFrame) -> NDArray[np.float64]:
    """For each held-out run the lowest loss among fitted runs of less compute; among all where none has less."""
    flops, loss = (fitted[name].to_numpy(dtype=float) for name in ("flops", "loss"))
    out = [
        float(loss[flops < compute].min() if bool((flops < compute).any()) else loss.min())
        for compute in held["flops"].to_numpy(dtype=float)
    ]
    return np.array(out)


def _mean_errors(
    fit: Fit, rows: pd.DataFrame, inputs: Mapping[str, Any], choices: Choices, *, weighted: bool
) -> tuple[Estimate, Estimate]:
    """Mean absolute errors of the predictions and of carrying forward; `rows` are in the order of `inputs`."""
    measured, best = (rows[name].to_numpy(dtype=float) for name in ("measured", "carried_forward"))
    values = [float(rows[name].abs().mean()) for name in ("error_fraction", "carried_error")]
    draws = fit.draws
    if draws is None or len(rows) < 2:
        why = "no draws were asked for" if draws is None else "one held-out run"
        mape, carried = (Estimate(value=value, level=fit.level, reason=why) for value in values)
        return mape, carried
    rng = np.random.default_rng([choices.seed, 2])
    law_draws = np.array([fit.law(theta, inputs) for theta in draws])
    picks = rng.integers(0, len(rows), size=(len(draws), len(rows)))
    carried = Estimate.from_draws(values[1], np.abs((best / measured)[picks] - 1).mean(axis=1), level=fit.level)
    if weighted:
        why = "a weighted set of laws makes no draws"
        return Estimate(value=values[0], level=fit.level, reason=why), carried
    errors = np.abs(np.take_along_axis(law_draws, picks, axis=1) / measured[picks] - 1).mean(axis=1)
    return Estimate.from_draws(values[0], errors, level=fit.level), carried
