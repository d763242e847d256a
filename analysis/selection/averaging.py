"""Averages over laws: weights from held-out errors, the average's own held-out error, predictions with intervals.

Owns how laws are weighed and mixed. It must not know how one law is chosen, tables or figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.selection.candidates import Candidate
from analysis.selection.extrapolation import Redraws, Score, score, window_errors
from analysis.selection.windows import Window, held_rows

THINNED = 100
"""Draws of a law, and residuals, of which every pair is one possible new run."""
DRAWS = 200
"""Bootstrap draws of every law that is averaged."""


@dataclass(frozen=True, kw_only=True)
class Average:
    """Laws weighed by the inverse of their mean squared held-out error (Bates and Granger 1969)."""

    weights: Mapping[str, float]
    """By law; they sum to one."""
    predicted: Array
    """Average of the windows' predictions, shape (W, n), each window weighed by earlier windows alone."""
    score: Score
    """Errors of `predicted` on the held-out runs."""


def inverse_errors(squares: Array) -> Array:
    """Weights of laws from their mean squared errors.

    Parameters
    ----------
    squares : Array, shape (laws,)
        Mean squared errors.

    Returns
    -------
    Array, shape (laws,)
        Inverses over their sum; equal when none is finite, and shared by the laws without error when there are such.
    """
    if not np.isfinite(squares).any():
        return np.full(squares.size, 1 / squares.size)
    exact = squares <= 0
    inverse = exact.astype(np.float64) if exact.any() else 1 / squares
    return np.asarray(inverse / inverse.sum())


def average_laws(
    candidates: Sequence[Candidate], losses: Array, windows: Sequence[Window], redraws: Redraws, *, level: float
) -> Average:
    """Weigh the laws that the runs identify by their errors in all windows, and score that rule honestly.

    The score of a window uses weights from smaller windows and the runs between their cut-offs and its own, which its
    fits have seen; the first window weighs all laws alike.

    Parameters
    ----------
    candidates : sequence of Candidate
        Scored laws.
    losses : Array, shape (n,)
        Measured losses.
    windows : sequence of Window
        The splits.
    redraws : Redraws
        Draws of runs and windows.
    level : float
        Nominal coverage of the interval of the error.

    Returns
    -------
    Average
        Weights, predictions and score.

    Raises
    ------
    UserError
        When the runs identify no law.
    """
    members = [one for one in candidates if one.reason is None]
    if not members:
        raise UserError("there is nothing to average: the runs identify none of the laws")
    held = held_rows(windows)
    errors = np.stack([window_errors(one.predicted, losses) for one in members])  # (laws, W, n)
    predicted = np.stack([one.predicted for one in members])
    mixed = np.empty_like(predicted[0])
    for place, window in enumerate(windows):
        known = held[:place] & window.fitted
        weights = inverse_errors(_mean_squares(errors[:, :place], known))
        mixed[place] = _mix(weights, predicted[:, place])
    weights = inverse_errors(_mean_squares(errors, held))
    return Average(
        weights={one.name: float(weight) for one, weight in zip(members, weights, strict=True)},
        predicted=mixed,
        score=score(mixed, losses, windows, redraws, level=level),
    )


def _mean_squares(errors: Array, rows: NDArray[np.bool_]) -> Array:
    """Mean over windows of the mean squared error on `rows` (W, n), by law; infinite without rows."""
    used = rows.any(axis=1)
    if not used.any():
        return np.full(errors.shape[0], np.inf)
    with np.errstate(over="ignore"):
        squares = np.where(rows[used], errors[:, used], 0.0) ** 2
    return np.asarray((squares.sum(axis=2) / rows[used].sum(axis=1)).mean(axis=1))


def _mix(weights: Array, values: Array) -> Array:
    """Weighted mean over the first axis; laws without weight do not count, whatever they say."""
    used = weights > 0
    with np.errstate(invalid="ignore"):
        return np.asarray(np.tensordot(weights[used], values[used], axes=1))


def refit_members(
    average: Average, candidates: Sequence[Candidate], data: Mapping[str, Any], spec: FitSpec
) -> dict[str, Fit]:
    """Fit the averaged laws to all runs, with bootstrap draws for intervals.

    Parameters
    ----------
    average : Average
        Which laws.
    candidates : sequence of Candidate
        The laws by name.
    data : mapping
        Columns with loss, as `inputs_of` gives them.
    spec : FitSpec
        How to fit; DRAWS draws are made whatever it says.

    Returns
    -------
    dict of Fit
        By name of the law.
    """
    laws = {one.name: one.law for one in candidates}
    drawn = replace(spec.reseeded(), bootstrap=DRAWS)
    return {name: fit_law(laws[name], data, drawn) for name in average.weights}


def predict_average(
    weights: Mapping[str, float], fits: Mapping[str, Fit], point: Mapping[str, Any], *, level: float
) -> dict[str, Any]:
    """The average at one point.

    Intervals are quantiles of the mixture: every law's draws (and residuals, for a new run) in proportion to its
    weight, so that they hold the disagreement between laws beside each law's own uncertainty.

    Parameters
    ----------
    weights : mapping
        Weight of each law; they sum to one.
    fits : mapping
        The fits with their draws, as `refit_members` makes them.
    point : mapping
        Inputs of the laws, one value each.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    dict
        `loss`; `confidence`, the ends for the average law; `prediction`, the ends for one new run.
    """
    at = {name: np.atleast_1d(np.asarray(value, dtype=np.float64)) for name, value in point.items()}
    middle, laws, runs, shares = 0.0, [], [], []
    for name, weight in weights.items():
        fit = fits[name]
        centre = float(fit.predict(at, interval="none")["loss"].iloc[0])
        middle += weight * centre
        draws = fit.draws
        assert draws is not None
        drawn = np.array([float(fit.law(theta, at)[0]) for theta in thin(draws)])
        inflation, residuals = fit.predictor.calibration.inflation, thin(fit.predictor.residuals)
        if fit.predictor.log_residuals:
            moved = centre * np.exp(inflation * np.log(np.maximum(drawn, 1e-300) / centre))
            new = moved[:, None] * np.exp(residuals[None, :])
        else:
            moved = centre + inflation * (drawn - centre)
            new = moved[:, None] + residuals[None, :]
        laws.append(moved)
        runs.append(new.ravel())
        shares.append(weight)
    tails = ((1 - level) / 2, (1 + level) / 2)
    return {
        "loss": middle,
        "confidence": weighted_quantiles(laws, shares, tails),
        "prediction": weighted_quantiles(runs, shares, tails),
    }


def thin(values: Array) -> Array:
    """At most THINNED of the values, evenly spaced in their order."""
    if len(values) <= THINNED:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, THINNED).round().astype(int)])


def weighted_quantiles(parts: Sequence[Array], shares: Sequence[float], tails: Sequence[float]) -> list[float]:
    """Quantiles of a mixture of samples.

    Parameters
    ----------
    parts : sequence of Array
        Values of each part.
    shares : sequence of float
        Weight of each part, however many values it has.
    tails : sequence of float
        Probabilities.

    Returns
    -------
    list of float
        One quantile for each probability.
    """
    values = np.concatenate(parts)
    weights = np.concatenate([np.full(part.size, share / part.size) for part, share in zip(parts, shares, strict=True)])
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return [float(values[order][min(int(np.searchsorted(below, tail)), values.size - 1)]) for tail in tails]
