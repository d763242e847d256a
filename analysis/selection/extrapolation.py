"""How far off laws are on runs that they were not fitted to: predictions in every window, errors, and their intervals.

Owns refits on the fitted rows of each window and the scores of what they predict. It must not know how a law is
chosen, tables or figures. Every error is a fraction, (predicted - measured) / measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.fitting.spec import FitSpec
from analysis.laws.base import Law
from analysis.selection.windows import Mask, Window, held_rows
from analysis.solver.objectives import Objective
from analysis.solver.problem import make_problem
from analysis.solver.search import solve
from analysis.uncertainty.bootstrap import bootstrap_rows

MIN_FOR_INTERVAL = 5
"""Held-out runs (clusters of runs) below which no interval is given."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a loss that overflows counts as infinite
def predict_windows(law: Law, data: Mapping[str, Any], windows: Sequence[Window], spec: FitSpec) -> Array:
    """What a law, fitted to each window's fitted rows alone, predicts for all rows.

    Parameters
    ----------
    law : Law
        The law.
    data : mapping
        Columns with the law's inputs and the loss.
    windows : sequence of Window
        The splits.
    spec : FitSpec
        Objective, residuals, bounds, and row weights as an array; the rest has no part in it.

    Returns
    -------
    Array, shape (W, n)
        Predictions; not finite where the law overflows.

    Raises
    ------
    UserError
        When a window cannot be fitted.
    """
    problem = make_problem(
        law,
        data,
        objective=spec.loss_term,
        residuals=spec.residuals,
        weights=None if isinstance(spec.weights, str) else spec.weights,
        bounds=spec.bounds,
    )
    out = np.empty((len(windows), problem.num_rows))
    for place, window in enumerate(windows):
        point = solve(problem.rows(np.flatnonzero(window.fitted)))
        out[place] = law.working_value(point.phi[None, :], problem.z)[0]
    return out


@dataclass(frozen=True, kw_only=True)
class Score:
    """Errors of one law over all windows; every window counts the same."""

    mape: Estimate
    """Mean absolute error, a fraction: the mean over windows of the mean over their held-out runs."""
    rmse: float
    """Root of the mean squared error, in the unit of the loss."""
    r2: float | None
    """1 - squared error over the variance of the held-out losses; None when these are all the same."""
    by_window: Array
    """Mean absolute error of each window, shape (W,)."""
    draws: Array
    """Bootstrap draws of mape, shape (B,): the same draws of runs and windows for every law."""


@dataclass(frozen=True, kw_only=True)
class Redraws:
    """The bootstrap that all laws share: how often each run and each window was drawn."""

    runs: Array
    """Shape (B, n)."""
    windows: Array
    """Shape (B, W)."""
    reason: str | None
    """Why there are no intervals; None when there are."""

    @classmethod
    def of(cls, windows: Sequence[Window], codes: NDArray[np.intp], *, draws: int, rng: np.random.Generator) -> Redraws:
        """Draws over clusters of held-out runs and over windows; a run that several windows hold out is drawn once.

        Parameters
        ----------
        windows : sequence of Window
            The splits.
        codes : array of int, shape (n,)
            Cluster of each row, whole numbers from 0.
        draws : int
            How many.
        rng : Generator
            What draws them.

        Returns
        -------
        Redraws
            With the reason for no intervals where there are too few clusters.
        """
        ever = np.logical_or.reduce([window.held for window in windows])
        units = int(np.unique(codes[ever]).size)
        runs = np.zeros((draws, ever.size))
        runs[:, ever] = bootstrap_rows(int(ever.sum()), draws, rng=rng, cluster=codes[ever])
        picked = bootstrap_rows(len(windows), draws, rng=rng)
        reason = None
        if not draws:
            reason = "no draws were asked for"
        elif units < MIN_FOR_INTERVAL:
            reason = f"{units} independent held-out run{'s are' if units > 1 else ' is'} too few"
        return cls(runs=runs, windows=picked, reason=reason)


def window_errors(predicted: Array, measured: Array) -> Array:
    """Absolute errors as fractions of the measured loss.

    Parameters
    ----------
    predicted : Array, shape (W, n)
        Predictions.
    measured : Array, shape (n,)
        Losses.

    Returns
    -------
    Array, shape (W, n)
        Errors; infinite where the prediction is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.abs(predicted - measured) / np.abs(measured)
    return np.where(np.isfinite(errors), errors, np.inf)


def window_means(errors: Array, held: Mask, runs: Array | None = None) -> Array:
    """Mean error of each window.

    Parameters
    ----------
    errors : Array, shape (W, n)
        Absolute errors.
    held : array of bool, shape (W, n)
        Rows that each window holds out.
    runs : Array, shape (B, n), optional
        How often each draw took each run.

    Returns
    -------
    Array, shape (W,), or (B, W) with `runs`
        Means; NaN where a draw has no run of a window.
    """
    inside = np.where(held, errors, 0.0)
    if runs is None:
        return np.asarray(inside.sum(axis=1) / held.sum(axis=1))
    counts = runs @ held.T.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((runs @ inside.T) / np.where(counts > 0, counts, np.nan))


def score(predicted: Array, measured: Array, windows: Sequence[Window], redraws: Redraws, *, level: float) -> Score:
    """Errors of predictions on the held-out rows of each window.

    Parameters
    ----------
    predicted : Array, shape (W, n)
        Predictions.
    measured : Array, shape (n,)
        Losses.
    windows : sequence of Window
        The splits.
    redraws : Redraws
        Draws of runs and windows.
    level : float
        Nominal coverage of the interval of the mean error.

    Returns
    -------
    Score
        Mean error with interval, and the others.
    """
    held = held_rows(windows)
    errors = window_errors(predicted, measured)
    by_window = window_means(errors, held)
    value = float(by_window.mean())
    draws = np.full(redraws.runs.shape[0], np.nan)
    if math.isfinite(value):
        draws = mean_over_windows(window_means(errors, held, redraws.runs), redraws.windows)
    if redraws.reason is None:
        mape = Estimate.from_draws(value, draws, level=level)
    else:
        mape = Estimate(value=value, level=level, reason=redraws.reason)
    share = held / (held.sum(axis=1, keepdims=True) * len(windows))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float((share * np.where(held, predicted - measured, 0.0) ** 2).sum())
    middle = float((share * measured).sum())
    variance = float((share * (measured - middle) ** 2).sum())
    return Score(
        mape=mape,
        rmse=math.sqrt(squares) if math.isfinite(squares) else math.inf,
        r2=1 - squares / variance if variance > 0 and math.isfinite(squares) else None,
        by_window=by_window,
        draws=draws,
    )


def mean_over_windows(means: Array, picked: Array) -> Array:
    """Mean over drawn windows of per-window means.

    Parameters
    ----------
    means : Array, shape (B, W)
        Mean error of each draw and window; NaN where a draw has no run of a window.
    picked : Array, shape (B, W)
        How often each draw took each window.

    Returns
    -------
    Array, shape (B,)
        Means; windows without a drawn run are left out.
    """
    known = np.isfinite(means)
    weights = picked * known
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights * np.where(known, means, 0.0)).sum(axis=1) / weights.sum(axis=1))


def information_criteria(
    objective: Objective, value: float, *, losses: Array, weights: Array, num_params: int, log_residuals: bool
) -> tuple[float | None, float | None]:
    """AIC = 2 k - 2 log L (Akaike 1974) and BIC = k log n - 2 log L (Schwarz 1978) of a fit.

    k counts the law's parameters and the scale of the residuals; L is the likelihood of the losses, also where the
    residuals are of log losses.

    Parameters
    ----------
    objective : Objective
        What was summed.
    value : float
        The sum at the fit.
    losses : Array, shape (n,)
        Fitted losses.
    weights : Array, shape (n,)
        Row weights.
    num_params : int
        Free parameters of the law.
    log_residuals : bool
        Whether the residuals are of log losses.

    Returns
    -------
    aic, bic : float or None
        None when the law runs through every run.
    """
    best = objective.log_likelihood(value, weights)
    if not math.isfinite(best):
        return None, None
    if log_residuals:
        best -= float(weights @ np.log(losses))
    k = num_params + 1
    return 2 * k - 2 * best, k * math.log(losses.size) - 2 * best
