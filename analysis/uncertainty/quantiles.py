"""Normal and Student quantiles without scipy, whose import takes longer than a fit.

The tests check them against scipy; docs/decisions/2026-11-28-own-quantiles.md has the times.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import Array

LARGE_DOF = 2e5
"""Degrees of freedom from which Student's quantiles are normal."""


def normal_quantile(probability: float) -> float:
    """The standard normal quantile."""
    return NormalDist().inv_cdf(probability)


def student_cdf(t: float, dof: float) -> float:
    """Student's distribution function, by the continued fraction of the incomplete beta function.

    Parameters
    ----------
    t : float
        Where it is wanted.
    dof : float
        Degrees of freedom.

    Returns
    -------
    float
        P(T <= t).
    """
    x = dof / (dof + t * t)
    half = 0.5 * _beta_tail(x, dof / 2, 0.5)
    return 1 - half if t > 0 else half


def student_quantile(probability: ArrayLike, dof: float) -> Array:
    """Student's quantiles.

    Parameters
    ----------
    probability : array
        Probabilities, of any shape.
    dof : float
        Degrees of freedom; above LARGE_DOF the normal quantiles are given.

    Returns
    -------
    Array
        Quantiles in the shape of `probability`, to 2e-11 of their size.
    """
    wanted = np.atleast_1d(np.asarray(probability, dtype=np.float64))
    out = np.array([_one(float(p), dof) for p in wanted.ravel()]).reshape(wanted.shape)
    return out.reshape(np.shape(probability))


@lru_cache(maxsize=4096)
def _one(p: float, dof: float) -> float:
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -_one(1 - p, dof)
    if dof > LARGE_DOF:
        return normal_quantile(p)
    low, high = 0.0, 2.0
    while student_cdf(high, dof) < p:
        low, high = high, 2 * high
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if student_cdf(middle, dof) < p else (low, middle)
        if high - low < 1e-13 * high:
            break
    return 0.5 * (low + high)


def _beta_tail(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) (Press et al., Numerical Recipes, section 6.4)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    h = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 + numerator * d, 1 + numerator / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return h
