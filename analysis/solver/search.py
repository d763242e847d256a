"""Point fits: arrays -> a checked `Problem` -> the global minimum with its status, the agreement of starts and
conditioning.

Owns validation of arrays, the search (grid, polish, certificate) and nothing about intervals or tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.solver.newton import Solution, polish
from analysis.solver.problem import Problem
from analysis.solver.starts import grid_starts

Status = Literal["converged", "bound_hit", "flat", "max_iterations"]
"""How a search ended: at a minimum; with a parameter at a bound; where some direction is not determined; before it was
done."""
SEARCH_ROWS = 500
"""The grid is searched on at most this many rows, spread evenly over the sorted table; polishing uses all."""
SAME_OPTIMUM = 1e-6
"""Starts whose objectives agree to this fraction count as one optimum."""
FIRST_ITERATIONS = 60
"""Steps that every start is given; the best MAX_FINISHED may go on."""
MAX_FINISHED = 3
"""Starts that are polished to the end."""
FLAT_CONDITION = 1e12
"""A Hessian, scaled to a unit diagonal, with a condition number above this is flat: some direction is not
determined."""


@dataclass(frozen=True, kw_only=True)
class PointFit:
    """A minimum and how it was reached."""

    phi: Array
    """Working parameters, shape (p,)."""
    value: float
    """Objective, a sum."""
    status: Status
    """How the search ended."""
    bounds_hit: tuple[int, ...]
    """Indices of parameters at a bound."""
    agreement: float
    """Fraction of polished starts that reached this minimum."""
    condition: float
    """Condition number of the Gauss-Newton Hessian in working parameters scaled to a unit diagonal; inf when
    singular."""
    minima: Array
    """Distinct local minima reached, best first, shape (M, p)."""


def solve(problem: Problem, *, keep: int = 8, max_iterations: int = 600) -> PointFit:
    """The global minimum of a problem.

    All local minima of the projected objective on the law's grid are polished; long tables are searched on an even
    spread of their rows, and the best minima are then polished on all rows.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    keep : int
        Most starts that are polished.
    max_iterations : int
        Most steps from each of the MAX_FINISHED best starts; the others are given FIRST_ITERATIONS.

    Returns
    -------
    PointFit
        The minimum, how it was reached, and the other minima.

    Raises
    ------
    UserError
        When the law gives no finite prediction anywhere on its grid.
    """
    search = problem.rows(_evenly_spaced(problem)) if problem.num_rows > 2 * SEARCH_ROWS else problem
    starts, _ = grid_starts(search, keep=keep)
    if not len(starts):
        raise UserError(
            f"{problem.law.name} gives no finite prediction anywhere on its grid; check the units of the columns"
        )
    solution = polish(search, starts, max_iterations=FIRST_ITERATIONS)
    if search is not problem:
        best = _distinct(solution.phi, solution.value)[:MAX_FINISHED]
        solution = polish(problem, solution.phi[best], max_iterations=FIRST_ITERATIONS)
    best = _distinct(solution.phi, solution.value)[:MAX_FINISHED]
    unfinished = [i for i in best if not solution.converged[i]]
    if unfinished:
        longer = polish(problem, solution.phi[unfinished], max_iterations=max_iterations)
        solution.phi[unfinished], solution.value[unfinished] = longer.phi, longer.value
        solution.converged[unfinished] = longer.converged
    solution.phi[:] = problem.law.canonical(solution.phi)
    return _point_fit(problem, solution)


def _point_fit(problem: Problem, solution: Solution) -> PointFit:
    """The best of the polished starts, with what is known about it."""
    order = _distinct(solution.phi, solution.value)
    top = int(order[0])
    phi, value = solution.phi[top], float(solution.value[top])
    close = solution.value <= value * (1 + SAME_OPTIMUM) + 1e-18 * float(problem.weights.sum())
    hit = bounds_hit(problem, phi)
    condition = condition_number(problem, phi)
    status: Status = "converged"
    if not solution.converged[top]:
        status = "max_iterations"
    elif hit:
        status = "bound_hit"
    elif condition > FLAT_CONDITION or problem.num_rows <= problem.num_params:
        status = "flat"
    return PointFit(
        phi=phi,
        value=value,
        status=status,
        bounds_hit=hit,
        agreement=float(close.mean()),
        condition=condition,
        minima=solution.phi[order],
    )


def bounds_hit(problem: Problem, phi: Array) -> tuple[int, ...]:
    """Which parameters sit at a working bound.

    Parameters
    ----------
    problem : Problem
        With the bounds.
    phi : Array, shape (p,)
        Working parameters.

    Returns
    -------
    tuple of int
        Indices of the parameters.
    """
    span = np.where(np.isfinite(problem.upper - problem.lower), problem.upper - problem.lower, 1.0)
    at = (phi - problem.lower <= 1e-9 * span) | (problem.upper - phi <= 1e-9 * span)
    return tuple(int(j) for j in np.flatnonzero(at))


def condition_number(problem: Problem, phi: Array) -> float:
    """Condition number of the Gauss-Newton Hessian J^T W J, scaled to a unit diagonal.

    Parameters
    ----------
    problem : Problem
        With rows and weights.
    phi : Array, shape (p,)
        Working parameters.

    Returns
    -------
    float
        Infinite when the Hessian is singular.
    """
    _, J, _ = problem.scaled_jacobian(phi[None, :])
    gram = (J[0] * problem.weights) @ J[0].T
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0))
    if not (scale > 0).all() or not np.isfinite(gram).all():
        return float("inf")
    eigenvalues = np.linalg.eigvalsh(gram / np.outer(scale, scale))
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else float("inf")


def _evenly_spaced(problem: Problem) -> NDArray[np.intp]:
    """About SEARCH_ROWS rows, evenly spaced in the table sorted by inputs and loss: the same rows in whatever order
    they came."""
    order = np.lexsort((problem.weights, problem.y, *problem.z[::-1]))
    return np.asarray(np.sort(order[np.linspace(0, order.size - 1, SEARCH_ROWS).astype(int)]))


def _distinct(phi: Array, value: Array) -> NDArray[np.intp]:
    """Starts in order of their objective, without those that ended where a better one did."""
    order = np.argsort(value, kind="stable")
    kept: list[int] = []
    for i in order:
        if np.isfinite(value[i]) and all(
            np.abs(phi[i] - phi[j]).max() > 1e-4 * (1 + np.abs(phi[j]).max()) for j in kept
        ):
            kept.append(int(i))
    return np.array(kept or [int(order[0])])
