"""Damped Newton over many problems at once: the same rows, each draw its own weights and start, each stopping on its
own.

Exact second derivatives (robust residuals carry as much curvature as slope), an eigenvalue-modified step, box bounds
by an active set. It knows a `Problem` and nothing of laws, tables or starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.problem import Problem

CHUNK_ELEMENTS = 40_000
"""Draws are taken in chunks of about this many (draw, row) pairs: the arrays of one chunk stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where each start ended."""

    phi: Array
    """Working parameters, shape (B, p)."""
    value: Array
    """Objective, shape (B,)."""
    converged: NDArray[np.bool_]
    """Whether the predicted decrease fell under the tolerance, shape (B,)."""
    iterations: int
    """Most iterations that a start took."""


def polish(
    problem: Problem, phi: Array, weights: Array | None = None, *, max_iterations: int = 100, tolerance: float = 1e-11
) -> Solution:
    """Minimise from every start, each under weights of its own.

    lad, and huber with a very small delta, are reached through smoother objectives (`Objective.widening`).

    Parameters
    ----------
    problem : Problem
        The rows, the law and the objective.
    phi : Array, shape (B, p)
        Working parameters of the starts.
    weights : Array, shape (B, n) or (n,), optional
        Row weights of every start; those of the problem by default.
    max_iterations : int
        Most steps from one start.
    tolerance : float
        A start is done when the predicted decrease is below this fraction of the objective.

    Returns
    -------
    Solution
        Where each start ended.
    """
    weights = problem.weights if weights is None else weights
    objective = problem.objective
    typical = 0.0
    if not objective.is_quadratic:
        typical = float(np.median(np.abs(problem.residuals(np.clip(phi[:1], problem.lower, problem.upper)))))
    smoother = objective.widening(typical)
    if not smoother:
        return _in_chunks(problem, phi, weights, max_iterations, tolerance)
    iterations = 0
    for smooth in smoother:
        solution = _in_chunks(problem.with_objective(smooth), phi, weights, max_iterations, tolerance)
        phi, iterations = solution.phi, iterations + solution.iterations
    exact = problem.with_objective(objective.smoothed(0.0))
    return Solution(phi=phi, value=exact.value(phi, weights), converged=solution.converged, iterations=iterations)


def _in_chunks(problem: Problem, phi: Array, weights: Array, max_iterations: int, tolerance: float) -> Solution:
    size = max(1, CHUNK_ELEMENTS // max(problem.num_rows, 1))
    parts = [
        _newton(
            problem,
            phi[s : s + size],
            weights if weights.ndim == 1 else weights[s : s + size],
            max_iterations,
            tolerance,
        )
        for s in range(0, phi.shape[0], size)
    ]
    return Solution(
        phi=np.concatenate([p.phi for p in parts]),
        value=np.concatenate([p.value for p in parts]),
        converged=np.concatenate([p.converged for p in parts]),
        iterations=max(p.iterations for p in parts),
    )


def _newton(problem: Problem, start: Array, weights: Array, max_iterations: int, tolerance: float) -> Solution:
    lower, upper = problem.lower, problem.upper
    phi = np.clip(start, lower, upper)
    W = np.broadcast_to(weights, (phi.shape[0], problem.num_rows)) if weights.ndim == 1 else weights
    value = problem.value(phi, W)
    damping = np.full(phi.shape[0], 1e-3)
    converged = np.zeros(phi.shape[0], dtype=bool)
    active = np.flatnonzero(np.isfinite(value))
    iteration = 0
    while active.size and iteration < max_iterations:
        iteration += 1
        p, w = phi[active], W[active] if weights.ndim > 1 else W[: active.size]
        gradient, hessian, scale = problem.derivatives(p, w)
        held = ((p <= lower) & (gradient > 0)) | ((p >= upper) & (gradient < 0))
        step_at = _steps(gradient, hessian, scale, held)
        left = np.arange(active.size)
        for _ in range(12):
            step, predicted = step_at(left, damping[active[left]])
            trial = np.clip(p[left] + step, lower, upper)
            wl = w[left] if weights.ndim > 1 else w[: left.size]
            reached = problem.value(trial, wl)
            gained = value[active[left]] - reached
            good = gained > 1e-4 * np.maximum(predicted, 0.0)
            floor = tolerance * np.maximum(value[active[left]], 1e-300)
            done = (predicted <= floor) & (gained >= -floor)
            index = active[left]
            better = good | (done & (gained >= 0))
            phi[index[better]] = trial[better]
            value[index[better]] = reached[better]
            converged[index[done]] = True
            damping[index[good]] *= np.where(gained[good] > 0.75 * predicted[good], 0.1, 0.5)
            damping[index[~good & ~done]] *= 8.0
            left = left[~good & ~done]
            if not left.size:
                break
        damping[active] = np.clip(damping[active], 1e-10, 1e12)
        stuck = active[left]
        converged[stuck] = damping[stuck] > 1e6
        active = active[~converged[active] & ~np.isin(active, stuck[damping[stuck] > 1e6])]
    return Solution(phi=phi, value=value, converged=converged, iterations=iteration)


def _steps(gradient: Array, hessian: Array, scale: Array, held: NDArray[np.bool_]) -> Any:
    """A function (rows, damping) -> (step, predicted decrease) from one eigendecomposition of the scaled Hessian."""
    root = np.sqrt(np.maximum(scale, 1e-12 * scale.max(axis=1, keepdims=True) + 1e-300))
    g = np.where(held, 0.0, gradient / root)
    H = hessian / (root[:, :, None] * root[:, None, :])
    free = ~held
    H = H * (free[:, :, None] & free[:, None, :])
    size = np.abs(H).max(axis=(1, 2))
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    H = np.where(np.isfinite(H), H, 0.0)
    eigenvalues, vectors = np.linalg.eigh(H / size[:, None, None])
    along = np.matmul(vectors.transpose(0, 2, 1), np.where(np.isfinite(g), g, 0.0)[:, :, None])[:, :, 0] / size[:, None]

    def at(rows: NDArray[np.intp], damping: Array) -> tuple[Array, Array]:
        q = np.maximum(np.abs(eigenvalues[rows]), 1e-13) + damping[:, None]
        coefficient = -along[rows] / q
        step = np.matmul(vectors[rows], coefficient[:, :, None])[:, :, 0] / root[rows]
        predicted = -(coefficient * along[rows] + 0.5 * eigenvalues[rows] * coefficient**2).sum(axis=1) * size[rows]
        return np.where(held[rows], 0.0, step), predicted

    return at
