"""Intervals of test measures by the bootstrap over examples.

The draws of a split depend on its size alone, so that those of several runs on one task are the same and their
differences are paired.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
"""Draws over the examples of a split."""
LEVEL = 0.95
"""Coverage of the intervals."""


def draws(num_examples: int, num_draws: int = DRAWS) -> NDArray[np.int64]:
    """Rows of indices with replacement, the same for every run on a split of this size.

    Parameters
    ----------
    num_examples : int
        Size of the split.
    num_draws : int
        Number of draws.

    Returns
    -------
    array, shape (num_draws, num_examples)
        Indices of examples.
    """
    return np.random.default_rng(0).integers(0, num_examples, (num_draws, num_examples))


def mean_interval(
    values: NDArray[np.float64], weights: NDArray[np.int64] | None = None
) -> tuple[float | None, float | None]:
    """The bootstrap interval of a mean over examples, or of a ratio of sums.

    Parameters
    ----------
    values : array, shape (n,)
        One value of each example.
    weights : array, shape (n,), optional
        What each value is a sum over; None: the values are averaged as they are.

    Returns
    -------
    tuple of (float or None)
        Its ends at LEVEL; None where there is nothing to average.
    """
    chosen = draws(len(values))
    counts = np.ones(len(values), dtype=np.int64) if weights is None else weights
    sums, totals = values[chosen].sum(1), counts[chosen].sum(1)
    if not totals.any():
        return None, None
    return ends(sums[totals > 0] / totals[totals > 0])


def ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """The ends at LEVEL of values of draws, shape (num_draws,)."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
