"""How far a set of laws was off at cut-offs in compute: weights of laws, and a factor for their intervals.

Laws are weighed by a corrected information criterion (Akaike; Hurvich and Tsai 1989). The weighted set is then asked
what it would have said at every cut-off, from the runs below alone, about the runs above, up to ten times the compute.
Where it was off by more than it expected, its intervals are widened by that factor, and the criterion is divided by its
square (the quasi-likelihood of Burnham and Anderson 2002, section 2.5): laws that fitted the runs best have not shown
that they predict best. It knows problems and minima, and nothing of tables or verbs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.selection.windows import Window
from analysis.solver.newton import polish
from analysis.solver.problem import Problem
from analysis.uncertainty.covariance import sandwich

PRIOR_ERRORS = 1.0
"""Errors as large as expected that are added to those of the cut-offs, so that one of them alone proves little."""
HORIZON = 10.0
"""Errors farther beyond a cut-off than so many times its compute are left out: errors grow with distance, and
predictions are mostly asked for within it."""
STEPS = 60
"""Most Newton steps from the minimum of all runs to that of the runs below a cut-off."""
FREE_UNITS = 2
"""Runs beyond its parameters that a law needs below a cut-off."""
SMALLEST = 1e-300
"""Stands for an objective of zero: a law through every run."""
SURE_BREAK = 3.0
"""A break is believed where its strength is as many standard errors from none."""
SURE_PLACE = 1.5
"""And where the logarithm of its place has no larger standard error."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One law at its minimum."""

    problem: Problem
    """All runs."""
    phi: Array
    """Working parameters there, shape (p,)."""
    codes: NDArray[np.intp]
    """Cluster of each run, whole numbers from 0."""

    @property
    def value(self) -> float:
        """The objective, a sum."""
        return float(self.problem.value(self.phi[None, :], self.problem.weights)[0])


@dataclass(frozen=True, kw_only=True)
class CutOff:
    """What the weighted laws said of larger runs, from the runs below a cut-off alone."""

    name: str
    """What was held out."""
    num_fitted: int
    """Runs below."""
    errors: tuple[float, ...]
    """Mean residual of the runs between this and the next cut-off, and so on up to HORIZON times this one: predicted
    less measured, of log losses unless residuals are raw."""
    expected: tuple[float, ...]
    """Standard deviations that the weighted laws gave to these."""

    def to_dict(self) -> dict[str, Any]:
        """JSON object."""
        return {**vars(self), "errors": list(self.errors), "expected": list(self.expected)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> CutOff:
        """The inverse of `to_dict`."""
        return cls(**{**raw, "errors": tuple(raw["errors"]), "expected": tuple(raw["expected"])})


def law_weights(values: Sequence[float], num_params: Sequence[int], units: int, *, dispersion: float = 1.0) -> Array:
    """Weights of laws by their objectives, each law's number of parameters counted against it.

    Parameters
    ----------
    values : sequence of float
        Objectives of the laws on the same runs.
    num_params : sequence of int
        Their free parameters.
    units : int
        Independent runs, or clusters of runs.
    dispersion : float
        By which the log likelihood, -units log(objective), is divided.

    Returns
    -------
    Array, shape (laws,)
        They sum to one; zero for laws with too many parameters for the runs.
    """
    scores = np.empty(len(values))
    for place, (value, count) in enumerate(zip(values, num_params, strict=True)):
        free = units - count - 2
        penalty = (count + 1) * (1 + (count + 2) / free) if free > 0 else math.inf
        scores[place] = -units * math.log(max(value, SMALLEST)) / dispersion - penalty
    if not np.isfinite(scores).any():
        return np.full(len(values), 1 / max(len(values), 1))
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


def undetermined_break(law: Law, phi: Array, covariance: Array) -> str | None:
    """Why runs do not determine the break of a law, so that it has no part in a set.

    Without a break to be found, its strength and place are free, and the law says anything of larger runs.

    Parameters
    ----------
    law : Law
        With a strength `s` and a place `c`.
    phi : Array, shape (p,)
        Working parameters at its minimum.
    covariance : Array, shape (p, p)
        Of these.

    Returns
    -------
    str or None
        The reason; None where the break is determined.
    """
    strength, place = (law.param_names.index(name) for name in ("s", "c"))
    errors = np.sqrt(np.maximum(np.diag(covariance)[[strength, place]], 0.0))
    sure = np.isfinite(errors).all() and abs(phi[strength]) > SURE_BREAK * errors[0] and errors[1] < SURE_PLACE
    return None if sure else "these runs do not determine a break"


def track_record(
    members: Sequence[Member], windows: Sequence[Window], axis: Array, *, horizon: float = HORIZON
) -> tuple[CutOff, ...]:
    """What the weighted laws predicted at each cut-off.

    Parameters
    ----------
    members : sequence of Member
        The laws, all on the same runs.
    windows : sequence of Window
        Nested cut-offs, the smallest first.
    axis : Array, shape (n,)
        What the cut-offs are made in, of each run.
    horizon : float
        Runs of more than so many times a cut-off are not asked for.

    Returns
    -------
    tuple of CutOff
        Those below which one of the laws at least could be fitted.
    """
    out = []
    for place, window in enumerate(windows):
        groups = _ahead(windows, place, axis, horizon)
        asked = [one for member in members if (one := _forecast(member, window, groups)) is not None]
        if not asked or not groups:
            continue
        units = asked[0].units
        weights = law_weights([one.value for one in asked], [one.num_params for one in asked], units)
        errors = np.stack([one.errors for one in asked])
        mean = weights @ errors
        spread = weights @ (np.stack([one.spread for one in asked]) ** 2 + (errors - mean) ** 2)
        expected = np.sqrt(spread + asked[int(np.argmax(weights))].noise ** 2)
        out.append(
            CutOff(
                name=window.name,
                num_fitted=int(window.fitted.sum()),
                errors=tuple(mean.tolist()),
                expected=tuple(expected.tolist()),
            )
        )
    return tuple(out)


def widening(record: Sequence[CutOff]) -> float:
    """The factor by which errors at cut-offs exceeded what was expected; at least one.

    Parameters
    ----------
    record : sequence of CutOff
        What the laws said.

    Returns
    -------
    float
        Root of the mean squared ratio of errors to expected deviations, with PRIOR_ERRORS of ratio one among them.
    """
    ratios = np.array([e / s for one in record for e, s in zip(one.errors, one.expected, strict=True) if s > 0])
    return float(np.sqrt(max((PRIOR_ERRORS + (ratios**2).sum()) / (PRIOR_ERRORS + ratios.size), 1.0)))


@dataclass(frozen=True, kw_only=True)
class _Forecast:
    """One law at one cut-off."""

    value: float
    units: int
    num_params: int
    errors: Array
    spread: Array
    noise: Array


def _ahead(windows: Sequence[Window], place: int, axis: Array, horizon: float) -> list[NDArray[np.intp]]:
    """The runs between a cut-off and the next, and so on up to `horizon` times the first; the nearest in any case."""
    bounds = [*(window.fitted for window in windows[place:]), np.ones_like(windows[place].held)]
    groups = [np.flatnonzero(above & ~below) for below, above in itertools.pairwise(bounds)]
    groups = [group for group in groups if group.size]
    reach = np.log(axis[windows[place].fitted].max()) + np.log(horizon) + 1e-9
    return [group for k, group in enumerate(groups) if k == 0 or np.log(axis[group]).mean() <= reach]


def _forecast(member: Member, window: Window, groups: Sequence[NDArray[np.intp]]) -> _Forecast | None:
    """Mean errors of groups of held-out runs with their standard deviations; None where the law cannot be fitted."""
    problem, rows = member.problem, np.flatnonzero(window.fitted)
    codes = np.unique(member.codes[rows], return_inverse=True)[1]
    units, count = int(codes.max()) + 1, problem.num_params
    if units < count + FREE_UNITS:
        return None
    part = problem.rows(rows)
    solution = polish(part, member.phi[None, :], max_iterations=STEPS)
    r, J, _ = problem.scaled_jacobian(solution.phi)
    covariance = sandwich(part, solution.phi[0], codes) * units / (units - count)
    slopes = np.stack([J[0][:, group].mean(axis=1) for group in groups])
    errors = np.array([r[0][group].mean() for group in groups])
    scale = float(np.sqrt(r[0][rows] @ r[0][rows] / max(rows.size - count, 1)))
    sizes = np.array([np.unique(member.codes[group]).size for group in groups])
    spread = np.sqrt(np.maximum(np.einsum("gp,pq,gq->g", slopes, covariance, slopes), 0.0))
    if not (np.isfinite(errors).all() and np.isfinite(spread).all()):
        return None
    return _Forecast(
        value=float(solution.value[0]),
        units=units,
        num_params=count,
        errors=errors,
        spread=spread,
        noise=scale / np.sqrt(sizes),
    )
