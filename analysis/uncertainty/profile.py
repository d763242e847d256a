"""Profile likelihood: how the objective rises when one parameter is held and the others follow.

The rise is put on the scale of chi-squared with one degree of freedom by the residuals' own spread, and by the ratio
of the clustered to the naive variance where runs are clustered. It must not know tables or figures.
"""

from __future__ import annotations

from collections.abc import Sequence
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
REFINED = 5
"""Refits that narrow down where a profile reaches the cutoff, from its inside."""
RESTARTS = 3
"""Times that a search is begun again from a lower point of the profile."""
FROM_BOUND = 0.02
"""First step away from a bound: of an offset as a fraction of the range of losses, of another parameter as it is."""
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


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a profile, walked away from the minimum."""

    index: int
    """Which parameter was held."""
    sign: int
    """-1 below the minimum, 1 above it."""
    phi: Array
    """Working parameters along it, shape (m, p), the nearest first."""
    rise: Array
    """Rise of the scaled objective there, shape (m,)."""
    end: Array | None
    """The last point found below the cutoff, where the rise reaches it, shape (p,); None where it does not before the
    bound."""


def cutoff_of(problem: Problem, codes: NDArray[np.intp], level: float) -> float:
    """The rise at which an interval of a level ends: Student's quantile, squared, on the clusters' degrees of freedom.

    Parameters
    ----------
    problem : Problem
        With its number of parameters.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.
    level : float
        Coverage of the interval.

    Returns
    -------
    float
        The rise.
    """
    dof = max(int(codes.max()) + 1 - problem.num_params, 1)
    return float(student_quantile(0.5 + level / 2, dof)) ** 2


def walk_sides(
    problem: Problem, point: PointFit, index: Sequence[int], codes: NDArray[np.intp], *, level: float, points: int
) -> tuple[list[Side], Array | None]:
    """Both sides of the profiles of several parameters, all walked together.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    point : PointFit
        The minimum.
    index : sequence of int
        The parameters.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.
    level : float
        Coverage at whose rise a walk ends.
    points : int
        Most refits on each side.

    Returns
    -------
    sides : list of Side
        The lower and the upper side of each parameter in turn.
    lower : Array, shape (p,), or None
        The lowest point met, where it lies below the minimum; None where none does.
    """
    phi, value = point.phi, point.value
    js, signs = np.repeat(np.asarray(index), 2), np.tile([-1, 1], len(index))
    bounds = np.where(signs < 0, problem.lower[js], problem.upper[js])
    factor, cutoff = scale_of(problem, phi, codes)[js], cutoff_of(problem, codes, level)
    met = [held_at(problem, phi, np.asarray(index), phi[np.asarray(index)])]

    def risen(which: NDArray[np.intp], start: Array, values: Array) -> tuple[Array, Array]:
        met.append(held_at(problem, start, js[which], values))
        return met[-1][0], factor[which] * np.maximum(met[-1][1] - value, 0.0)

    inside, within = np.repeat(phi[None, :], js.size, axis=0), np.zeros(js.size)
    outside, beyond = np.full(js.size, np.nan), np.full(js.size, np.inf)
    stride = _first_steps(problem, phi, codes)[js]
    tracks: list[list[tuple[Array, float]]] = [[] for _ in js]
    active = np.arange(js.size)
    for _ in range(points):
        there = inside[active, js[active]] + signs[active] * stride[active]
        there = np.where(signs[active] < 0, np.maximum(there, bounds[active]), np.minimum(there, bounds[active]))
        moved, rise = risen(active, inside[active], there)
        for k, i in enumerate(active):
            tracks[i].append((moved[k], float(rise[k])))
        below = rise < cutoff
        outside[active[~below]], beyond[active[~below]] = there[~below], rise[~below]
        inside[active[below]], within[active[below]] = moved[below], rise[below]
        stride[active] *= np.where(rise < 0.25 * cutoff, 2.0, 1.0)
        active = active[below & (there != bounds[active])]
        if not active.size:
            break
    crossed = np.flatnonzero(np.isfinite(outside))
    for _ in range(REFINED if crossed.size else 0):
        here, low, high = inside[crossed, js[crossed]], np.sqrt(within[crossed]), np.sqrt(beyond[crossed])
        share = np.where(np.isfinite(high), (np.sqrt(cutoff) - low) / np.maximum(high - low, 1e-12), 0.5)
        there = here + np.clip(share, 0.1, 0.9) * (outside[crossed] - here)
        moved, rise = risen(crossed, inside[crossed], there)
        below = rise < cutoff
        outside[crossed[~below]], beyond[crossed[~below]] = there[~below], rise[~below]
        inside[crossed[below]], within[crossed[below]] = moved[below], rise[below]
    ends = {int(i): inside[i] for i in crossed}
    sides = [
        Side(
            index=int(js[i]),
            sign=int(signs[i]),
            phi=np.stack([one for one, _ in track]),
            rise=np.array([rise for _, rise in track]),
            end=ends.get(i),
        )
        for i, track in enumerate(tracks)
    ]
    least = min(met, key=lambda one: float(one[1].min()))
    lowest = int(np.argmin(least[1]))
    return sides, least[0][lowest] if least[1][lowest] < value * (1 - LOWER) else None


def _first_steps(problem: Problem, phi: Array, codes: NDArray[np.intp]) -> Array:
    """First steps of walks, shape (p,): standard errors; for parameters at a bound, which have none, a fixed one."""
    steps = np.sqrt(np.maximum(np.diag(sandwich(problem, phi, codes)), 1e-10))
    at_bound = (phi <= problem.lower) | (phi >= problem.upper)
    offsets = np.array([one.kind == "offset" for one in problem.law.parameters])
    return np.where(at_bound, np.where(offsets, FROM_BOUND * np.ptp(problem.y), FROM_BOUND), steps)


def _walk(
    problem: Problem, point: PointFit, name: str, codes: NDArray[np.intp], level: float, points: int
) -> tuple[Profile, Array | None]:
    """The profile about a minimum, and a point of it that lies lower; None when there is none."""
    j = problem.law.param_names.index(name)
    (below, above), lower = walk_sides(problem, point, [j], codes, level=level, points=points)
    track = np.concatenate([below.phi[::-1], point.phi[None, :], above.phi])
    found = Profile(
        name=name,
        working=track[:, j],
        public=problem.law.to_public(track, problem.log_refs)[:, j],
        rise=np.concatenate([below.rise[::-1], [0.0], above.rise]),
        cutoff=cutoff_of(problem, codes, level),
        lo=None if below.end is None else _public(problem, below.end, j),
        hi=None if above.end is None else _public(problem, above.end, j),
    )
    return found, lower


def _public(problem: Problem, phi: Array, j: int) -> float:
    return float(problem.law.to_public(phi[None, :], problem.log_refs)[0, j])
