"""Runs that lie far from a law: which, and why they are flagged. They are never dropped. Knows residuals, no law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLAG_RESIDUAL = 4.0
"""A run further from the law than this many robust standard deviations is flagged ..."""
FLAG_SCALE = 2.5
"""... when it is also this many plain standard deviations away: a law that runs through most points has tiny robust
ones."""


def far_runs(residuals: NDArray[np.float64], fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which fitted runs lie further from the law than FLAG_RESIDUAL and FLAG_SCALE allow.

    Parameters
    ----------
    residuals : of log loss (or of loss), shape (n,)
    fitted : rows that the law was fitted to, shape (n,)
    """
    inside = residuals[fitted]
    spread = 1.4826 * float(np.median(np.abs(inside - np.median(inside))))
    threshold = max(FLAG_RESIDUAL * spread, FLAG_SCALE * float(inside.std()), 1e-12)
    return np.asarray(fitted & (np.abs(residuals) > threshold))
