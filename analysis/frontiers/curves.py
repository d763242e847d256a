"""Curves through the runs of one compute budget and their minima: parabola, cubic and Akima, over many draws at once.

Owns the minimum of a loss curve over x = ln N; it must not know budgets, tables, bootstrap or frontiers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from analysis.arrays import Array

Method = Literal["parabola", "cubic", "akima"]
"""A least-squares polynomial of degree 2 or 3, or Akima's interpolant."""
METHODS: tuple[Method, ...] = get_args(Method)
"""Curves by name; the first is the default."""
MIN_SIZES: dict[Method, int] = {"parabola": 3, "cubic": 4, "akima": 5}
"""Fewest distinct sizes that a budget needs for a curve."""
DEFAULT_LOG_LOSS: dict[Method, bool] = {"parabola": False, "cubic": False, "akima": True}
"""Polynomials are fitted to the loss (Hoffmann et al. 2022, approach 2; Llama 3), Akima to its logarithm (Porian et
al. 2024)."""
MAX_LEVERAGE = 1.0
"""A run cannot pull its own fitted value by more than itself."""


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Minima of many curves over the same sizes, one per draw."""

    log_params: Array
    """ln N at the minimum, shape (draws,); NaN where the curve has none (it bends downwards)."""
    loss: Array
    """Value of the curve there, on the scale of the input, shape (draws,)."""
    interior: NDArray[np.bool_]
    """Whether the minimum lies strictly between the smallest and the largest size, shape (draws,)."""


def degree_of(method: Method) -> int:
    """Degree of a polynomial method."""
    return 2 if method == "parabola" else 3


def polynomial_design(x: Array, degree: int) -> tuple[Array, float, float]:
    """Powers of the sizes, scaled so that least squares are well conditioned.

    Parameters
    ----------
    x : Array, shape (sizes,)
        ln N.
    degree : int
        Highest power.

    Returns
    -------
    columns : Array, shape (sizes, degree + 1)
        1, u, u^2, ... of u = (x - centre) / scale.
    centre, scale : float
        Middle and half-width of the sizes.
    """
    centre = float((x.min() + x.max()) / 2)
    scale = float(np.ptp(x) / 2) or 1.0
    return np.vander((x - centre) / scale, degree + 1, increasing=True), centre, scale


def curve_minima(method: Method, x: Array, y: Array, weights: Array | None = None) -> Minima:
    """Minimum of the curve of a method for every row of losses.

    Parameters
    ----------
    method : {"parabola", "cubic", "akima"}
        Which curve.
    x : Array, shape (sizes,)
        Distinct ascending ln N.
    y : Array, shape (draws, sizes)
        Losses or log losses.
    weights : Array, shape (sizes,), optional
        How many runs stand behind each value; polynomials use them.

    Returns
    -------
    Minima
        One for each draw.

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
    degree = degree_of(method)
    coefficients, centre, scale = _polynomial(x, y, degree, weights)
    u = _cubic_minimum(coefficients[1], coefficients[2], coefficients[3] if degree == 3 else np.zeros(len(y)))
    low, high = (x[0] - centre) / scale, (x[-1] - centre) / scale
    value = sum(coefficients[power] * u**power for power in range(degree + 1))
    return Minima(log_params=centre + scale * u, loss=np.asarray(value), interior=(u > low) & (u < high))


def _polynomial(x: Array, y: Array, degree: int, weights: Array | None) -> tuple[Array, float, float]:
    """Coefficients (degree + 1, draws) of the least-squares polynomial in (x - centre) / scale, centre and scale."""
    design, centre, scale = polynomial_design(x, degree)
    root = np.ones_like(x) if weights is None else np.sqrt(weights)
    return np.linalg.pinv(design * root[:, None]) @ (y * root).T, centre, scale


def _cubic_minimum(c1: Array, c2: Array, c3: Array) -> Array:
    """Where c1 u + c2 u^2 + c3 u^3 has its local minimum; NaN where it has none. Stable as c3 goes to zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(c2**2 - 3 * c1 * c3)
        minimum = np.where(c2 + root > 0, -c1 / (c2 + root), math.nan)
    return np.asarray(minimum)


def _akima_minima(x: Array, y: Array) -> Minima:
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


def smooth_fit(x: Array, y: Array, weights: Array, *, degree: int) -> tuple[Array, Array]:
    """A least-squares polynomial through the losses of one budget.

    Parameters
    ----------
    x : Array, shape (sizes,)
        ln N.
    y : Array, shape (sizes,)
        Losses or log losses.
    weights : Array, shape (sizes,)
        How many runs stand behind each value.
    degree : int
        Of the polynomial.

    Returns
    -------
    fitted : Array, shape (sizes,)
        Its values at `x`.
    leverage : Array, shape (sizes,)
        How much one run at each size pulls its own fitted value, for scaling residuals.
    """
    design, _, _ = polynomial_design(x, degree)
    root = np.sqrt(weights)
    pinv = np.linalg.pinv(design * root[:, None])
    fitted = design @ (pinv @ (y * root))
    leverage = np.einsum("ij,ji->i", design, pinv * root) / weights
    return fitted, np.clip(leverage, 0.0, MAX_LEVERAGE)


def evaluate_curves(method: Method, x: Array, y: Array, grid: Array, weights: Array | None = None) -> Array:
    """The curves of a method through many rows of losses.

    Parameters
    ----------
    method : {"parabola", "cubic", "akima"}
        Which curve.
    x : Array, shape (sizes,)
        Distinct ascending ln N.
    y : Array, shape (draws, sizes)
        Losses or log losses.
    grid : Array, shape (m,)
        ln N at which the curves are wanted.
    weights : Array, shape (sizes,), optional
        How many runs stand behind each value; polynomials use them.

    Returns
    -------
    Array, shape (draws, m)
        Values of the curves; Akima's are NaN outside its sizes.
    """
    if method == "akima":
        return np.asarray(Akima1DInterpolator(x, y.T, axis=0)(grid)).T
    degree = degree_of(method)
    coefficients, centre, scale = _polynomial(x, y, degree, weights)
    return np.asarray((np.vander((grid - centre) / scale, degree + 1, increasing=True) @ coefficients).T)
