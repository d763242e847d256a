"""Where the search starts.

Variable projection on a grid over the nonlinear parameters, solved for all grid points at once.

For every grid point the amplitudes and the offset follow by nonnegative least squares, reweighted a few times towards
the robust objective; the local minima of the resulting surface are the starts.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.objectives import Objective
from analysis.solver.problem import Problem

REWEIGHTINGS = 2
"""Reweighted solves after the first; more change the starts, not the optimum reached from them."""
MIN_COEFFICIENT = 1e-12
"""An amplitude that vanishes starts at this fraction of the typical loss."""
ELEMENTS = 2_000_000
"""Most (grid point, column, row) triples held at once."""


def grid_starts(problem: Problem, *, keep: int = 8, reweightings: int = REWEIGHTINGS) -> tuple[Array, Array]:
    """The best local minima of the projected objective on the law's grid.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    keep : int
        Most starts; a law's `min_starts` goes before it.
    reweightings : int
        Reweighted solves after the first.

    Returns
    -------
    phi : Array, shape (S, p)
        Working parameters, best first.
    value : Array, shape (S,)
        Objectives on the grid; infinite where a prediction is not finite.
    """
    eta = problem.law.grid_for(problem.z)
    probe = problem.law.basis(eta[:1], problem.z)
    size = max(1, ELEMENTS // max(probe.shape[1] * problem.num_rows, 1))
    phis, values = [], []
    for s in range(0, eta.shape[0], size):
        phi, value = projected(problem, eta[s : s + size], reweightings)
        phis.append(phi)
        values.append(value)
    phi, value = np.concatenate(phis), np.concatenate(values)
    chosen = local_minima(value, problem.law.grid_shape())
    order = chosen[np.argsort(value[chosen], kind="stable")][:keep]
    if order.size < problem.law.min_starts:
        slices = value.reshape(problem.law.grid_shape()[0], -1)
        best = slices.argmin(axis=1) + np.arange(slices.shape[0]) * slices.shape[1]
        order = np.unique(np.concatenate([order, best[np.isfinite(value[best])]]))
    return np.clip(phi[order], problem.lower, problem.upper), value[order]


def local_minima(value: Array, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Grid points that no neighbour along an axis undercuts.

    Parameters
    ----------
    value : Array, shape (G,)
        Objective at every grid point; infinite where it failed.
    shape : tuple of int
        Number of grid values along each axis, whose product is G.

    Returns
    -------
    array of int
        Flat indices; points that failed are none.
    """
    surface = value.reshape(shape) if shape else value.reshape(1)
    lowest = np.isfinite(surface)
    for axis in range(surface.ndim):
        for shift in (1, -1):
            neighbour = np.roll(surface, shift, axis=axis)
            edge = [slice(None)] * surface.ndim
            edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            neighbour[tuple(edge)] = np.inf
            lowest &= surface <= neighbour
    return np.flatnonzero(lowest)


def projected(problem: Problem, eta: Array, reweightings: int = REWEIGHTINGS) -> tuple[Array, Array]:
    """Working parameters (G, p) with amplitudes and offset solved for at nonlinear parameters (G, k), and values (G,).

    A value is infinite where the law gives no finite loss.
    """
    columns = problem.law.basis(eta, problem.z)
    target = problem.y
    if problem.log_residuals:
        columns, target = columns / problem.y, np.ones_like(problem.y)
    free = np.zeros(columns.shape[1], dtype=bool)
    if not np.isfinite(problem.lower[[p.kind == "offset" for p in problem.law.parameters]]).all():
        free[list(problem.law.offset_columns())] = True
    weights = np.broadcast_to(problem.weights, (eta.shape[0], problem.num_rows))
    coefficients = nonnegative_least_squares(columns, target, weights, free)
    # the reweighting stays gentle: below a hundredth of the typical residual all rows count alike
    objective: Objective = problem.objective
    if not objective.is_quadratic:
        for _ in range(reweightings):
            r = np.einsum("gq,gqn->gn", coefficients, columns) - target
            floor = 0.01 * float(np.median(np.abs(r[:: max(1, len(r) // 16)])))
            reweighted = weights * objective.irls(r, max(floor, 1e-15))
            coefficients = nonnegative_least_squares(columns, target, reweighted, free)
    least = np.where(free, -np.inf, MIN_COEFFICIENT * float(np.median(np.abs(problem.y))))
    phi = np.clip(problem.law.assemble(eta, np.maximum(coefficients, least)), problem.lower, problem.upper)
    r = np.einsum("gq,gqn->gn", coefficients, columns) - target
    if problem.log_residuals:
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.log(np.maximum(r + 1.0, 1e-300))
    value = objective.smoothed(0.0).rho(r) @ problem.weights
    return phi, np.where(np.isfinite(value), value, np.inf)


def nonnegative_least_squares(columns: Array, target: Array, weights: Array, free: NDArray[np.bool_]) -> Array:
    """Nonnegative least squares for many problems at once, by trying every active set.

    Parameters
    ----------
    columns : Array, shape (G, q, n)
        Columns of each problem.
    target : Array, shape (n,)
        What they are to add up to.
    weights : Array, shape (G, n)
        Row weights.
    free : array of bool, shape (q,)
        Columns whose coefficient may take either sign.

    Returns
    -------
    Array, shape (G, q)
        Coefficients of the least weighted squares.
    """
    q = columns.shape[1]
    weighted = columns * weights[:, None, :]
    gram = np.matmul(weighted, columns.transpose(0, 2, 1))
    moment = weighted @ target
    scale = np.sqrt(np.maximum(np.einsum("gqq->gq", gram), 1e-300))
    gram, moment = gram / (scale[:, :, None] * scale[:, None, :]), moment / scale
    best, best_gain = np.zeros_like(moment), np.full(moment.shape[0], -np.inf)
    constrained = [j for j in range(q) if not free[j]]
    for drop in itertools.chain.from_iterable(
        itertools.combinations(constrained, k) for k in range(len(constrained) + 1)
    ):
        kept = [j for j in range(q) if j not in drop]
        if not kept:
            continue
        block = gram[np.ix_(range(gram.shape[0]), kept, kept)] + 1e-12 * np.eye(len(kept))
        solved = np.linalg.solve(block, moment[:, kept, None])[:, :, 0]
        signs = np.array([not free[j] for j in kept])
        feasible = ((solved >= 0) | ~signs).all(axis=1)
        gain = np.where(feasible, (solved * moment[:, kept]).sum(axis=1), -np.inf)
        better = gain > best_gain
        best[better] = 0.0
        rows = np.flatnonzero(better)
        best[rows[:, None], np.array(kept)] = solved[rows]
        best_gain[rows] = gain[rows]
        if not drop and bool(feasible.all()):
            break
    return np.asarray(best / scale)
