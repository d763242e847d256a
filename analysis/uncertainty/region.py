"""Where intervals come from profiles: fits near a bound, or whose exponents the noise hides.

Draws that pile up at a floor of zero say nothing of the other parameters beyond it: percentiles of such draws are
those of a law whose floor is known, and the bootstrap is not consistent there (Andrews 2000, Econometrica 68, 399-405).
Profiles hold all other parameters free. Their points up to the level's rise are the region kept here, and an interval
is the range that a quantity has over it: a parameter's own profile interval, and for what follows from several
parameters the range over all profiles. It must not know tables or figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.solver.problem import Problem
from analysis.solver.search import PointFit
from analysis.uncertainty.calibration import ENOUGH_CLUSTERS, weak_signal
from analysis.uncertainty.covariance import sandwich
from analysis.uncertainty.identifiability import bounded_by_law, cannot_be_profiled
from analysis.uncertainty.profile import Side, cutoff_of, walk_sides

POINTS = 16
"""Most refits on each side of a profile."""
AT_FLOOR = 0.025
"""Fraction of draws with the offset at its bound above which their percentiles are no longer believed."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Profiles of all parameters, out to the rise of a level."""

    phi: Array
    """Working parameters with no larger rise, shape (m, p); the minimum is the first."""
    open_sides: tuple[Side, ...]
    """Sides on which the rise was not reached."""
    lower: Array | None
    """A point below the minimum, shape (p,); None where there is none."""

    def reasons(self, problem: Problem) -> dict[str, str]:
        """Why parameters are not identified: their profiles have no end before a bound of the law, or none at all.

        Parameters
        ----------
        problem : Problem
            With the law and its bounds.

        Returns
        -------
        dict of str to str
            By parameter. An offset may reach its bound: a floor of zero is a floor.
        """
        out: dict[str, str] = {}
        for side in self.open_sides:
            parameter = problem.law.parameters[side.index]
            bound = (problem.lower if side.sign < 0 else problem.upper)[side.index]
            last = side.phi[-1, side.index]
            if last == bound and not bounded_by_law(parameter):
                continue
            where = (
                f"{'lower' if side.sign < 0 else 'upper'} bound {bound:.3g}" if last == bound else "ends of the walk"
            )
            out.setdefault(parameter.name, f"the profile is flat up to its {where}")
        return out


def likelihood_region(
    problem: Problem, point: PointFit, draws: Array | None, codes: NDArray[np.intp], *, level: float
) -> Region | None:
    """The region where draws or a covariance would mislead; None where they do not.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    point : PointFit
        The minimum.
    draws : Array, shape (B, p), or None
        Working parameters of the draws.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Region or None
        None for long tables, where the runs determine nothing at all, and with fewer than ENOUGH_CLUSTERS clusters:
        Student's quantile on so few degrees of freedom would end profiles at any value.
    """
    if cannot_be_profiled(problem, point, codes) or not _needed(problem, point, draws, codes):
        return None
    index = range(problem.num_params)
    sides, lower = walk_sides(problem, point, index, codes, level=level, points=POINTS)
    cutoff = cutoff_of(problem, codes, level)
    inside = [side.phi[side.rise < cutoff] for side in sides]
    ends = [side.end[None, :] for side in sides if side.end is not None]
    return Region(
        phi=np.concatenate([point.phi[None, :], *inside, *ends]),
        open_sides=tuple(side for side in sides if side.end is None),
        lower=lower,
    )


def _needed(problem: Problem, point: PointFit, draws: Array | None, codes: NDArray[np.intp]) -> bool:
    if int(codes.max()) + 1 < ENOUGH_CLUSTERS:
        return False
    parameters = problem.law.parameters
    floors = [j for j, one in enumerate(parameters) if one.kind == "offset" and np.isfinite(problem.lower[j])]
    if any(point.phi[j] <= problem.lower[j] for j in floors):
        return True
    if draws is not None and any(float((draws[:, j] <= problem.lower[j]).mean()) > AT_FLOOR for j in floors):
        return True
    spread = np.sqrt(np.maximum(np.diag(sandwich(problem, point.phi, codes)), 0.0))
    if draws is not None:
        spread = np.maximum(spread, draws.std(axis=0))
    powers = [j for j, one in enumerate(parameters) if one.kind == "exponent" and one.lower > 0]
    return bool(weak_signal([parameters[j].name for j in powers], point.phi[powers], spread[powers]))
