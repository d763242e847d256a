"""The sandwich covariance of a fit, clustered, and its translation to public parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.problem import Problem

DIFFERENCE = 1e-6
"""Step of central differences in working parameters."""


def sandwich(problem: Problem, phi: Array, codes: NDArray[np.intp]) -> Array:
    """Covariance of working parameters: H^-1 (sum over clusters of s s^T) H^-1 (Huber 1967; Liang and Zeger 1986).

    H is the Hessian with the mean slope of the objective (`Objective.mean_slope`), s the score of a cluster.

    Parameters
    ----------
    problem : Problem
        Rows, weights and objective.
    phi : Array, shape (p,)
        Working parameters at the minimum.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.

    Returns
    -------
    Array, shape (p, p)
        Rows and columns of parameters at a bound are zero.
    """
    r, J, _ = problem.scaled_jacobian(phi[None, :])
    r, J = r[0], J[0]
    objective = problem.objective
    slope = objective.mean_slope(r)
    w = problem.weights
    p = phi.size
    at_bound = (phi <= problem.lower) | (phi >= problem.upper)
    hessian = (J * (w * slope)) @ J.T
    scores = J * (w * (objective.smoothed(0.0).psi(r)))
    totals = np.zeros((p, int(codes.max()) + 1))
    for j in range(p):
        totals[j] = np.bincount(codes, weights=scores[j], minlength=totals.shape[1])
    scale = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    free = ~at_bound
    out = np.zeros((p, p))
    if not free.any():
        return out
    inverse = np.linalg.pinv((hessian / np.outer(scale, scale))[np.ix_(free, free)], rcond=1e-13, hermitian=True)
    bread = inverse / np.outer(scale[free], scale[free])
    meat = totals[free] @ totals[free].T
    out[np.ix_(free, free)] = bread @ meat @ bread
    return out


def public_covariance(problem: Problem, phi: Array, covariance: Array) -> Array:
    """Covariance of public parameters by the delta method.

    Parameters
    ----------
    problem : Problem
        With the law and its units.
    phi : Array, shape (p,)
        Working parameters at the minimum.
    covariance : Array, shape (p, p)
        Of the working parameters.

    Returns
    -------
    Array, shape (p, p)
        Of the public parameters.
    """
    p, step = phi.size, DIFFERENCE
    moved = np.repeat(phi[None, :], 2 * p, axis=0)
    moved[np.arange(p), np.arange(p)] += step
    moved[p + np.arange(p), np.arange(p)] -= step
    theta = problem.law.to_public(moved, problem.log_refs)
    change = (theta[:p] - theta[p:]) / (2 * step)
    return np.asarray(change.T @ covariance @ change)
