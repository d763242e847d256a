"""Profile likelihood: how the objective rises when one parameter is held and the others follow.

The rise is put on the scale of chi-squared with one degree of freedom by the residuals' own spread, and by the ratio
of the clustered to the naive variance where runs are clustered. It must not know tables or figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.newton import polish
from analysis.solver.problem import Problem
from analysis.solver.search import PointFit, solve
from analysis.uncertainty.covariance import sandwich
from analysis.uncertainty.quantiles import student_quantile


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The profile of one parameter."""

    name: str
    """Public name of the parameter."""
    working: Array
    """Working values, ascending, shape (m,)."""
    public: Array
    """Public values along the profile, shape (m,)."""
    rise: Array
    """Rise of the scaled objective above its minimum, about chi-squared with one degree of freedom."""
    cutoff: float
    """Rise at the end of the interval."""
    lo: float | None
    """Public lower end; None where the profile does not rise above the cutoff before the bound."""
    hi: float | None
    """Public upper end, likewise."""


def scale_of(problem: Problem, phi: Array, codes: NDArray[np.intp]) -> Array:
    """What turns a rise of the objective into chi-squared with one degree of freedom.

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
    Array, shape (p,)
        A factor for each working parameter.
    """
    r = problem.residuals(phi[None, :])[0]
    w = problem.weights / problem.weights.sum()
    objective = problem.objective
    psi = objective.smoothed(0.0).psi
    slope = float(w @ objective.mean_slope(r))
    variance = float(w @ psi(r) ** 2) * r.size / max(r.size - phi.size, 1)
    plain = 2 * slope / max(variance, 1e-300)
    naive = np.diag(sandwich(problem, phi, np.arange(r.size)))
    clustered = np.diag(sandwich(problem, phi, codes))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((naive > 0) & (clustered > 0), naive / clustered, 1.0)
    return np.asarray(plain * np.minimum(ratio, 1.0))


MAX_STEPS = 300
"""Most steps of the others while parameters are held: along a curved valley Newton's steps are short."""
RESTARTS = 3
"""Times that a search is begun again from a lower point of the profile."""
LOWER = 1e-6
"""A point of a profile below the minimum by more than this fraction shows that the minimum was a local one."""


def held_at(problem: Problem, phi: Array, index: NDArray[np.intp], values: Array) -> tuple[Array, Array]:
    """The other parameters and the objective, each with one parameter held at a value.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    phi : Array, shape (p,) or (m, p)
        Where the others start.
    index : array of int, shape (m,)
        The parameters held.
    values : Array, shape (m,)
        At which working values.

    Returns
    -------
    phi : Array, shape (m, p)
        Working parameters at the conditional minima.
    value : Array, shape (m,)
        The objective there.
    """
    rows = np.arange(index.size)
    start = np.array(np.broadcast_to(phi, (index.size, problem.num_params)))
    start[rows, index] = values
    held = np.zeros(start.shape, dtype=bool)
    held[rows, index] = True
    solution = polish(problem, start, max_iterations=MAX_STEPS, tolerance=1e-9, fixed=held)
    return solution.phi, solution.value


def profile(
    problem: Problem, point: PointFit, name: str, codes: NDArray[np.intp], *, level: float = 0.95, points: int = 12
) -> Profile:
    """The profile of one parameter on both sides of the minimum, out to where it ends the interval.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    point : PointFit
        The minimum.
    name : str
        Public name of the parameter.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.
    level : float
        Coverage of the interval.
    points : int
        Most refits on each side.

    Returns
    -------
    Profile
        Values along the parameter, the rise there, and the ends of the interval. A point below the minimum makes the
        search begin again from there.
    """
    for _ in range(RESTARTS):
        result, lower = _walk(problem, point, name, codes, level, points)
        if lower is None:
            return result
        point = solve(problem, also=lower[None, :])
    return result


def _walk(
    problem: Problem, point: PointFit, name: str, codes: NDArray[np.intp], level: float, points: int
) -> tuple[Profile, Array | None]:
    """The profile about a minimum, and a point of it that lies lower; None when there is none."""
    phi, value = point.phi, point.value
    j = problem.law.param_names.index(name)
    at_once, reached = _held(problem, phi, j, float(phi[j]))
    lower = at_once if reached < value * (1 - LOWER) else None
    factor = scale_of(problem, phi, codes)[j]
    dof = max(int(codes.max()) + 1 - phi.size, 1)
    cutoff = float(student_quantile(0.5 + level / 2, dof)) ** 2
    step = np.sqrt(max(sandwich(problem, phi, codes)[j, j], 1e-10))
    track: list[tuple[float, Array, float]] = [(float(phi[j]), phi, 0.0)]
    ends: dict[int, float | None] = {-1: None, 1: None}
    for side in (-1, 1):
        here, at, previous = float(phi[j]), phi, 0.0
        bound = problem.lower[j] if side < 0 else problem.upper[j]
        stride = step
        for _ in range(points):
            there = here + side * stride
            there = max(there, bound) if side < 0 else min(there, bound)
            moved, reached = _held(problem, at, j, there)
            if reached < value * (1 - LOWER):
                lower = moved
            rise = factor * max(reached - value, 0.0)
            track.append((there, moved, rise))
            if rise >= cutoff:
                share = (np.sqrt(cutoff) - np.sqrt(previous)) / max(np.sqrt(rise) - np.sqrt(previous), 1e-12)
                crossing = here + share * (there - here)
                ends[side] = _public(problem, _held(problem, moved, j, crossing)[0], j)
                break
            if there == bound:
                break
            stride *= 2.0 if rise < 0.25 * cutoff else 1.0
            here, at, previous = there, moved, rise
    track.sort(key=lambda entry: entry[0])
    found = Profile(
        name=name,
        working=np.array([entry[0] for entry in track]),
        public=np.array([_public(problem, entry[1], j) for entry in track]),
        rise=np.array([entry[2] for entry in track]),
        cutoff=cutoff,
        lo=ends[-1],
        hi=ends[1],
    )
    return found, lower


def _held(problem: Problem, phi: Array, j: int, value: float) -> tuple[Array, float]:
    at, reached = held_at(problem, phi, np.array([j]), np.array([value]))
    return at[0], float(reached[0])


def _public(problem: Problem, phi: Array, j: int) -> float:
    return float(problem.law.to_public(phi[None, :], problem.log_refs)[0, j])
