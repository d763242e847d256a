"""Curves through the runs of one compute budget and their minima: parabola, cubic and Akima, over many draws at once.

Owns the minimum of a loss curve over x = ln N; it must not know budgets, tables, bootstrap or frontiers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

METHODS = ("parabola", "cubic", "akima")
"""Curves by name; the first is the default."""
MIN_SIZES = {"parabola": 3, "cubic": 4, "akima": 5}
"""Fewest distinct sizes that a budget needs for a curve."""
DEFAULT_LOG_LOSS = {"parabola": False, "cubic": False, "akima": True}
"""Polynomials are fitted to the loss (Hoffmann et al. 2022, approach 2; Llama 3), Akima to its logarithm (Porian et
al. 2024)."""


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Minima of many curves over the same sizes, one per draw."""

    log_params: NDArray[np.float64]
    """(draws,) ln N at the minimum; NaN where the curve has none (it bends downwards)."""
    loss: NDArray[np.float64]
    """(draws,) value of the curve there, on the scale of the input."""
    interior: NDArray[np.bool_]
    """(draws,) whether the minimum lies strictly between the smallest and the largest size."""


def polynomial_design(x: NDArray[np.float64], degree: int) -> tuple[NDArray[np.float64], float, float]:
    """Columns 1, u, u^2, ... of u = (x - centre) / scale, which keeps the least squares well conditioned."""
    centre = float((x.min() + x.max()) / 2)
    scale = float(np.ptp(x) / 2) or 1.0
    return np.vander((x - centre) / scale, degree + 1, increasing=True), centre, scale


def curve_minima(
    method: str, x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> Minima:
    """Minimum of the curve of `method` for every row of `y`.

    Parameters
    ----------
    method : one of `METHODS`.
    x : (sizes,) distinct ascending ln N.
    y : (draws, sizes) losses or log losses.
    weights : (sizes,) how many runs stand behind each value; polynomials use them.

    Raises
    ------
    ValueError
        For an unknown method or fewer sizes than `MIN_SIZES`.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    if x.size < MIN_SIZES[method]:
        raise ValueError(f"{method} needs {MIN_SIZES[method]} sizes in a budget, got {x.size}")
    if method == "akima":
        return _akima_minima(x, y)
    degree = 2 if method == "parabola" else 3
    design, centre, scale = polynomial_design(x, degree)
    root = np.ones_like(x) if weights is None else np.sqrt(weights)
    coefficients = np.linalg.pinv(design * root[:, None]) @ (y * root).T
    u = _cubic_minimum(coefficients[1], coefficients[2], coefficients[3] if degree == 3 else np.zeros(len(y)))
    low, high = (x[0] - centre) / scale, (x[-1] - centre) / scale
    value = sum(coefficients[power] * u**power for power in range(degree + 1))
    return Minima(log_params=centre + scale * u, loss=np.asarray(value), interior=(u > low) & (u < high))


def _cubic_minimum(c1: NDArray[np.float64], c2: NDArray[np.float64], c3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where c1 u + c2 u^2 + c3 u^3 has its local minimum; NaN where it has none. Stable as c3 goes to zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(c2**2 - 3 * c1 * c3)
        minimum = np.where(c2 + root > 0, -c1 / (c2 + root), math.nan)
    return np.asarray(minimum)


def _akima_minima(x: NDArray[np.float64], y: NDArray[np.float64]) -> Minima:
    """The lowest point of Akima's interpolant, exactly: every piece is a cubic."""
    pieces = np.asarray(Akima1DInterpolator(x, y.T, axis=0).c)  # (4, sizes - 1, draws), highest power first
    c3, c2, c1, c0 = pieces
    step = _cubic_minimum(c1, c2, c3)
    width = np.diff(x)[:, None]
    with np.errstate(invalid="ignore"):
        inside = (step > 0) & (step < width)
        step = np.where(inside, step, 0.0)
    value = np.where(inside, ((c3 * step + c2) * step + c1) * step + c0, math.inf)
    candidates = np.concatenate([value, y.T])
    places = np.concatenate([x[:-1, None] + step, np.broadcast_to(x[:, None], y.T.shape)])
    best = candidates.argmin(axis=0)
    columns = np.arange(len(y))
    where = places[best, columns]
    return Minima(log_params=where, loss=candidates[best, columns], interior=(where > x[0]) & (where < x[-1]))


def smooth_fit(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64], *, degree: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares polynomial values at `x`, and the leverage of one run at each size (for scaling residuals)."""
    design, _, _ = polynomial_design(x, degree)
    root = np.sqrt(weights)
    pinv = np.linalg.pinv(design * root[:, None])
    fitted = design @ (pinv @ (y * root))
    leverage = np.einsum("ij,ji->i", design, pinv * root) / weights
    return fitted, np.clip(leverage, 0.0, 1.0)


def evaluate_curve(
    method: str, x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The curve of `method` through one budget's runs at the points `grid`, for drawing; Akima is NaN outside its
    sizes."""
    if method == "akima":
        return np.asarray(Akima1DInterpolator(x, y)(grid))
    degree = 2 if method == "parabola" else 3
    design, centre, scale = polynomial_design(x, degree)
    root = np.sqrt(weights)
    coefficients = np.linalg.pinv(design * root[:, None]) @ (y * root)
    return np.asarray(np.vander((grid - centre) / scale, degree + 1, increasing=True) @ coefficients)
