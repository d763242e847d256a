"""Damped Newton over many problems at once.

They share the rows; each draw has its own weights and start, and stops on its own.

Exact second derivatives (robust residuals carry as much curvature as slope), an eigenvalue-modified step that bends
with the valley where a start needs many, box bounds by an active set. It knows a `Problem` and nothing of laws, tables
or starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.problem import Problem

CHUNK_ELEMENTS = 40_000
"""Draws are taken in chunks of about this many (draw, row) pairs: the arrays of one chunk stay in the cache."""


LOOSE = 1e-4
"""Tolerance of the wider objectives of a graduated descent."""
HONEST_DAMPING = 1e2
"""Damping, in units of the scaled Hessian's diagonal, up to which a small predicted decrease shows a minimum. Beyond it
the objective has a kink across which Newton's steps fail; the next step is along a parabola above the objective."""

PATIENCE = 20
"""Iterations after which steps bend with the valley; most starts have arrived by then."""
PROBE = 0.1
"""Part of a step over which residuals are looked at to see it bend."""
LONGEST_BEND = 0.75
"""In lengths of the step."""


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


Descent = Literal["full", "coarse", "graduated"]
"""How a start descends.

* full: by Newton steps on the objective, or through smoother ones where it has kinks;
* coarse: by steps that leave out the law's second derivatives, on the objective as it is: cheap steps that find the
  basin of a start, not its minimum;
* graduated: through least squares and ever narrower Huber functions, another way into the valley, past kinks that hold
  a direct descent.
"""


def polish(
    problem: Problem,
    phi: Array,
    weights: Array | None = None,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-11,
    fixed: NDArray[np.bool_] | None = None,
    descent: Descent = "full",
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
    fixed : array of bool, shape (B, p), optional
        Parameters that stay where a start has them.
    descent : "full", "coarse" or "graduated"
        How a start descends.

    Returns
    -------
    Solution
        Where each start ended.
    """
    weights = problem.weights if weights is None else weights
    objective = problem.objective
    typical = 0.0
    if not objective.is_quadratic and len(phi):
        typical = float(np.median(np.abs(problem.residuals(np.clip(phi[:1], problem.lower, problem.upper)))))
    graduated, coarse = descent == "graduated", descent == "coarse"
    smoother = () if coarse else objective.widening(typical, graduated=graduated)
    settings = _Settings(max_iterations=max_iterations, tolerance=tolerance, coarse=coarse)
    if not smoother:
        return _in_chunks(problem, phi, weights, fixed, settings)
    iterations = 0
    on_the_way = replace(settings, tolerance=max(tolerance, LOOSE)) if graduated else settings
    for smooth in smoother:
        path = settings if smooth is smoother[-1] else on_the_way
        solution = _in_chunks(problem.with_objective(smooth), phi, weights, fixed, path)
        phi, iterations = solution.phi, iterations + solution.iterations
    exact = problem.with_objective(objective.smoothed(0.0))
    return Solution(phi=phi, value=exact.value(phi, weights), converged=solution.converged, iterations=iterations)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """How long and how exactly to descend."""

    max_iterations: int
    tolerance: float
    coarse: bool


def _in_chunks(
    problem: Problem, phi: Array, weights: Array, fixed: NDArray[np.bool_] | None, settings: _Settings
) -> Solution:
    size = max(1, CHUNK_ELEMENTS // max(problem.num_rows, 1))
    parts = [
        _newton(
            problem,
            phi[s : s + size],
            weights if weights.ndim == 1 else weights[s : s + size],
            None if fixed is None else fixed[s : s + size],
            settings,
        )
        for s in range(0, phi.shape[0], size)
    ]
    if not parts:
        return Solution(phi=phi, value=np.zeros(0), converged=np.zeros(0, dtype=bool), iterations=0)
    return Solution(
        phi=np.concatenate([p.phi for p in parts]),
        value=np.concatenate([p.value for p in parts]),
        converged=np.concatenate([p.converged for p in parts]),
        iterations=max(p.iterations for p in parts),
    )


def _newton(
    problem: Problem, start: Array, weights: Array, fixed: NDArray[np.bool_] | None, settings: _Settings
) -> Solution:
    lower, upper, tolerance, units = problem.lower, problem.upper, settings.tolerance, problem.steps
    phi = np.clip(start, lower, upper)
    W = np.broadcast_to(weights, (phi.shape[0], problem.num_rows)) if weights.ndim == 1 else weights
    value = problem.value(phi, W)
    damping = np.full(phi.shape[0], 1e-3)
    converged = np.zeros(phi.shape[0], dtype=bool)
    majorised = np.full(phi.shape[0], settings.coarse)
    active = np.flatnonzero(np.isfinite(value))
    iteration = 0
    while active.size and iteration < settings.max_iterations:
        iteration += 1
        p, w = phi[active], W[active] if weights.ndim > 1 else W[: active.size]
        above = majorised[active]
        gradient, hessian, scale = problem.derivatives(p, w, majorised=above, curved=not settings.coarse)
        held = ((p <= lower) & (gradient > 0)) | ((p >= upper) & (gradient < 0))
        if fixed is not None:
            held |= fixed[active]
        steps = _Steps.of(gradient, hessian, scale, held, units)
        left = np.arange(active.size)
        for _ in range(12):
            step, predicted = steps.at(left, damping[active[left]])
            wl = w[left] if weights.ndim > 1 else w[: left.size]
            bend = None
            if iteration > PATIENCE and not settings.coarse:
                bend = _bend(problem, p[left], wl, step, units, partial(steps.towards, left, damping[active[left]]))
            trial, reached = _tried(problem, p[left], wl, step, bend)
            gained = value[active[left]] - reached
            good = gained > 1e-4 * np.maximum(predicted, 0.0)
            floor = tolerance * np.maximum(value[active[left]], 1e-300)
            index = active[left]
            # a decrease that damping alone makes small says nothing, except of a step along a majorising parabola
            honest = (damping[index] <= HONEST_DAMPING) | above[left]
            done = (predicted <= floor) & (gained >= -floor) & honest
            better = good | (done & (gained >= 0))
            phi[index[better]] = trial[better]
            value[index[better]] = reached[better]
            converged[index[done]] = True
            damping[index[good]] *= np.where(gained[good] > 0.75 * predicted[good], 0.1, 0.5)
            damping[index[~good & ~done]] *= 8.0
            majorised[index[good]] = settings.coarse
            left = left[~good & ~done]
            left = left[above[left] | (damping[active[left]] <= HONEST_DAMPING)]
            if not left.size:
                break
        in_kink = active[~converged[active] & ~majorised[active] & (damping[active] > HONEST_DAMPING)]
        majorised[in_kink], damping[in_kink] = True, 1e-3
        damping[active] = np.clip(damping[active], 1e-10, 1e12)
        stuck = active[left]
        converged[stuck] = damping[stuck] > 1e6
        active = active[~converged[active] & ~np.isin(active, stuck[damping[stuck] > 1e6])]
    return Solution(phi=phi, value=value, converged=converged, iterations=iteration)


def _tried(problem: Problem, phi: Array, weights: Array, step: Array, bend: Array | None) -> tuple[Array, Array]:
    """Where steps lead, straight or bent, whichever is lower, and the objectives there."""
    trial = np.clip(phi + step, problem.lower, problem.upper)
    reached = problem.value(trial, weights)
    if bend is None:
        return trial, reached
    bent = np.clip(phi + step + bend, problem.lower, problem.upper)
    there = problem.value(bent, weights)
    is_lower = there < reached
    return np.where(is_lower[:, None], bent, trial), np.where(is_lower, there, reached)


def _bend(
    problem: Problem, phi: Array, weights: Array, step: Array, units: Array, towards: Callable[[Array], Array]
) -> Array:
    """How a step bends to stay in a curved valley, shape (B, p); nothing where it would bend by more than it is long.

    The geodesic acceleration of Transtrum and Sethna 2012 (arXiv 1201.5885): residuals are followed to second order
    along the step. Valleys of laws with a floor that is hardly determined are long and curved, and straight steps that
    stay in them are short.
    """
    residuals, jacobian, _ = problem.scaled_jacobian(phi)
    straight = np.matmul(step[:, None, :], jacobian)[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):  # a step may lead far out
        ahead = problem.residuals(phi + PROBE * step)
        curve = 2 / PROBE**2 * (ahead - residuals - PROBE * straight)
        pull = np.matmul(jacobian, (weights * problem.objective.slope(residuals) * curve)[:, :, None])[:, :, 0]
        bend = 0.5 * towards(pull)
    length, room = (np.abs(move / units).max(axis=1) for move in (bend, LONGEST_BEND * step))
    return np.where((length <= room)[:, None] & np.isfinite(bend), bend, 0.0)


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """Damped steps from one eigendecomposition of the scaled Hessian of each start."""

    eigenvalues: Array
    """Of the scaled Hessian over `size`, shape (B, p)."""
    vectors: Array
    """Its eigenvectors, shape (B, p, p)."""
    along: Array
    """The scaled gradient along them, over `size`, shape (B, p)."""
    size: Array
    """Largest entry of the scaled Hessian, shape (B,)."""
    root: Array
    """Scale of each parameter, shape (B, p)."""
    held: NDArray[np.bool_]
    """Parameters that stay, shape (B, p)."""

    @classmethod
    def of(cls, gradient: Array, hessian: Array, scale: Array, held: NDArray[np.bool_], units: Array) -> _Steps:
        """From the derivatives of an objective."""
        free_of_units = scale * units**2
        least = 1e-12 * free_of_units.max(axis=1, keepdims=True) + 1e-300
        root = np.sqrt(np.maximum(free_of_units, least)) / units
        g = np.where(held, 0.0, gradient / root)
        H = hessian / (root[:, :, None] * root[:, None, :])
        free = ~held
        H = H * (free[:, :, None] & free[:, None, :])
        size = np.abs(H).max(axis=(1, 2))
        size = np.where((size > 0) & np.isfinite(size), size, 1.0)
        H = np.where(np.isfinite(H), H, 0.0)
        eigenvalues, vectors = np.linalg.eigh(H / size[:, None, None])
        finite = np.where(np.isfinite(g), g, 0.0)
        along = np.matmul(vectors.transpose(0, 2, 1), finite[:, :, None])[:, :, 0] / size[:, None]
        return cls(eigenvalues=eigenvalues, vectors=vectors, along=along, size=size, root=root, held=held)

    def at(self, rows: NDArray[np.intp], damping: Array) -> tuple[Array, Array]:
        """Steps of some starts at a damping of each, and the decreases that they predict."""
        coefficient, step = self._damped(rows, damping, self.along[rows])
        curvature = 0.5 * self.eigenvalues[rows] * coefficient**2
        return step, -(coefficient * self.along[rows] + curvature).sum(axis=1) * self.size[rows]

    def towards(self, rows: NDArray[np.intp], damping: Array, gradient: Array) -> Array:
        """Steps of the same starts against another gradient."""
        g = np.where(self.held[rows], 0.0, gradient / self.root[rows])
        along = np.matmul(self.vectors[rows].transpose(0, 2, 1), g[:, :, None])[:, :, 0] / self.size[rows][:, None]
        return self._damped(rows, damping, along)[1]

    def _damped(self, rows: NDArray[np.intp], damping: Array, along: Array) -> tuple[Array, Array]:
        """Coefficients of the eigenvectors against a scaled gradient, and the step that they make."""
        coefficient = -along / (np.maximum(np.abs(self.eigenvalues[rows]), 1e-13) + damping[:, None])
        step = np.matmul(self.vectors[rows], coefficient[:, :, None])[:, :, 0] / self.root[rows]
        return coefficient, np.where(self.held[rows], 0.0, step)
