"""Minima and roots of many functions of one variable at once: golden section and bisection on arrays of brackets.

`scipy.optimize.elementwise` does the same; docs/decisions/2026-11-28-own-search-in-one-variable.md says why it is not
used. This file knows no law.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array

GOLDEN = float((np.sqrt(5.0) - 1) / 2)
"""The golden section: the part of a bracket that each step keeps."""
BISECTIONS = 60
"""Halvings of a bracket: to 1e-18 of its width."""


def minimum(function: Callable[[Array], Array], low: Array, high: Array, *, steps: int) -> Array:
    """Where functions of one variable are least, by golden section (Kiefer 1953).

    Parameters
    ----------
    function : callable
        Takes and gives arrays of the shape of the brackets; element by element it has one minimum in its bracket.
    low : Array
        Lower ends of the brackets.
    high : Array
        Upper ends, in the same shape.
    steps : int
        Steps, each of which keeps a part GOLDEN of the bracket.

    Returns
    -------
    Array
        Middle of the last bracket. A minimum is found to about the square root of the precision of `function`, 1e-8 of
        the scale on which it doubles.
    """
    lo, hi = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    inner, outer = hi - GOLDEN * (hi - lo), lo + GOLDEN * (hi - lo)
    f_inner, f_outer = function(inner), function(outer)
    for _ in range(steps):
        left = f_inner < f_outer
        lo, hi = np.where(left, lo, inner), np.where(left, outer, hi)
        new_inner, new_outer = hi - GOLDEN * (hi - lo), lo + GOLDEN * (hi - lo)
        fresh = function(np.where(left, new_inner, new_outer))
        f_inner, f_outer = np.where(left, fresh, f_outer), np.where(left, f_inner, fresh)
        inner, outer = new_inner, new_outer
    return np.asarray(0.5 * (lo + hi))


def boundary(below: Callable[[Array], NDArray[np.bool_]], low: Array, high: Array, *, steps: int = BISECTIONS) -> Array:
    """Where a condition that holds at the low end of a bracket ceases to hold, by bisection.

    Parameters
    ----------
    below : callable
        The condition, of and with the shape of the brackets; element by element it changes once.
    low : Array
        Lower ends of the brackets.
    high : Array
        Upper ends, in the same shape.
    steps : int
        Halvings.

    Returns
    -------
    Array
        Middle of the last bracket.
    """
    lo, hi = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    for _ in range(steps):
        middle = 0.5 * (lo + hi)
        left = below(middle)
        lo, hi = np.where(left, middle, lo), np.where(left, hi, middle)
    return np.asarray(0.5 * (lo + hi))
