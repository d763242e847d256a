"""The held-out score of a fit: predictions of runs that it has not seen, beside what was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.estimate import Estimate
from analysis.fitting.fit import Fit
from analysis.runs.columns import as_columns
from analysis.study.study import Choices, HeldOut

NARROW = 0.9
"""Coverage of the second prediction interval of a held-out run."""


def held_out(fit: Fit, fitted: pd.DataFrame, held: pd.DataFrame, choices: Choices) -> HeldOut:
    """Predict the held-out runs, and carry the best fitted loss forward beside it.

    Intervals of the two mean errors are percentiles over draws of the law and of the held-out runs together.
    """
    inputs = as_columns(held, fit.law.inputs)
    predicted = fit.predict(inputs)
    narrower = _at_level(fit, NARROW).predict(inputs)
    measured = held["loss"].to_numpy(dtype=float)
    best = float(fitted["loss"].min())
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
    rng = np.random.default_rng([choices.seed, 2])
    draws = fit.draws
    if draws is None or len(held) < 2:
        why = "no draws were asked for" if draws is None else "one held-out run"
        mape = Estimate(value=float(rows["error_fraction"].abs().mean()), level=fit.level, reason=why)
        carried = Estimate(value=float(rows["carried_error"].abs().mean()), level=fit.level, reason=why)
    else:
        law_draws = np.array([fit.law(theta, inputs) for theta in draws])
        picks = rng.integers(0, len(held), size=(len(draws), len(held)))
        errors = np.abs(np.take_along_axis(law_draws, picks, axis=1) / measured[picks] - 1).mean(axis=1)
        carried_errors = np.abs(best / measured[picks] - 1).mean(axis=1)
        mape = Estimate.from_draws(float(rows["error_fraction"].abs().mean()), errors, level=fit.level)
        carried = Estimate.from_draws(float(rows["carried_error"].abs().mean()), carried_errors, level=fit.level)
    return HeldOut(
        rows=rows.sort_values(["flops", "params"]).reset_index(drop=True),
        mape=mape,
        carried_mape=carried,
        coverage=float(((measured >= rows["lo"]) & (measured <= rows["hi"])).mean()),
        half_width=float(((rows["hi"] - rows["lo"]) / (2 * rows["predicted"])).mean()),
        reach=float(held["flops"].max() / fitted["flops"].max()),
    )


def _at_level(fit: Fit, level: float) -> Fit:
    """The fit with intervals of another coverage."""
    calibration = replace(fit.predictor.calibration, level=level)
    return replace(fit, predictor=replace(fit.predictor, calibration=calibration))
