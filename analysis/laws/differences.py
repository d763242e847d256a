"""Second derivatives of a law by central differences of its first ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.arrays import Array

STACKED = 2000
"""(Vector, row) pairs up to which all differences of a curvature are taken in one call: with few starts and short
tables most of the time is spent between calls."""


def curvature_by_differences(jacobian: Callable[[Array], Array], phi: Array, weights: Array) -> Array:
    """Weighted sum over rows of second derivatives.

    Parameters
    ----------
    jacobian : callable
        First derivatives, shape (C, p, n), at parameter vectors of shape (C, p).
    phi : Array, shape (B, p)
        Where the derivatives are taken.
    weights : Array, shape (B, n)
        Weight of each row.

    Returns
    -------
    Array, shape (B, p, p)
        The sums, symmetric.
    """
    B, p = phi.shape
    steps = 1e-5 * np.maximum(np.abs(phi), 0.1)
    if B * weights.shape[1] <= STACKED:
        shift = np.zeros((p, B, p))
        shift[np.arange(p), :, np.arange(p)] = steps.T
        moved = np.concatenate([phi + shift, phi - shift]).reshape(-1, p)
        slopes = jacobian(moved).reshape(2 * p, B, p, -1)
        sums = np.matmul(slopes, weights[:, :, None])[..., 0]
        out = ((sums[:p] - sums[p:]) / (2 * steps.T[:, :, None])).transpose(1, 2, 0)
        return np.asarray(0.5 * (out + out.transpose(0, 2, 1)))
    out = np.empty((B, p, p))
    for j in range(p):
        moved = phi.copy()
        moved[:, j] += steps[:, j]
        up = np.matmul(jacobian(moved), weights[:, :, None])[:, :, 0]
        moved[:, j] -= 2 * steps[:, j]
        down = np.matmul(jacobian(moved), weights[:, :, None])[:, :, 0]
        out[:, j, :] = (up - down) / (2 * steps[:, [j]])
    return 0.5 * (out + out.transpose(0, 2, 1))
