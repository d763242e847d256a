"""From size to loss to error: two fits in a row, with the uncertainty of both carried through.

Owns the chain of a law of loss and a law of downstream error. It must not know how either was fitted, tables or
figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.spec import FitSpec

if TYPE_CHECKING:
    import pandas as pd

NUM_SAMPLES = 4000
"""Chains drawn for each point: the ends of 95 % intervals then move by some 2 % of their width from seed to seed."""


@np.errstate(over="ignore", invalid="ignore")
def predict_error(
    fit: Fit,
    error_fit: Fit,
    data: Mapping[str, Any] | pd.DataFrame,
    *,
    num_samples: int = NUM_SAMPLES,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Downstream error of runs that a fit predicts the loss of, with intervals.

    A loss is drawn from what the law of loss may be (its bootstrap draws, or its covariance), and an error from what
    the law of error may be at that loss. The two are drawn apart: how losses scatter about their law says nothing of
    how errors scatter at a given loss, even where both were fitted to the same runs. For the prediction interval both
    scatter like the runs fitted.

    Parameters
    ----------
    fit : Fit
        A law whose target is loss.
    error_fit : Fit
        A law of error whose input is loss (downstream-exponential, downstream-sigmoid).
    data : mapping or DataFrame
        The inputs of `fit`'s law.
    num_samples : int
        Chains drawn for each point.
    rng : int or Generator, optional
        Seed or generator; seed 0 by default.

    Returns
    -------
    DataFrame
        error, confidence_lo and confidence_hi (of the expected error), prediction_lo and prediction_hi (of one new
        run); NaN where either fit has no intervals.

    Raises
    ------
    UserError
        When the fits do not follow on each other, or their levels differ.
    """
    import pandas as pd

    if fit.law.target != "loss" or error_fit.law.inputs != ("loss",):
        raise UserError(
            f"{fit.law.name} gives {fit.law.target} and {error_fit.law.name} reads {', '.join(error_fit.law.inputs)}; "
            "chain a law of loss with a law of error from loss, such as downstream-exponential"
        )
    if fit.level != error_fit.level:
        raise UserError(f"the fits have levels {fit.level:g} and {error_fit.level:g}; fit both with the same --level")
    point = fit.predict(data, interval="none")
    out = error_fit.predict(point, interval="none")
    names = ("confidence_lo", "confidence_hi", "prediction_lo", "prediction_hi")
    if fit.predictor.reason is not None or error_fit.predictor.reason is not None:
        return out.assign(**dict.fromkeys(names, np.nan))
    generator = FitSpec(seed=0 if rng is None else rng).generator
    expected, new = fit.samples(data, num_samples, rng=generator)
    tails = [(1 - fit.level) / 2, (1 + fit.level) / 2]
    inner = error_fit.predictor.sample_at(error_fit.law, {"loss": expected}, rng=generator)[0]
    outer = error_fit.predictor.sample_at(error_fit.law, {"loss": new}, rng=generator)[1]
    ends = (*np.quantile(inner, tails, axis=0), *np.quantile(outer, tails, axis=0))
    return pd.DataFrame({**{name: out[name] for name in out.columns}, **dict(zip(names, ends, strict=True))})
