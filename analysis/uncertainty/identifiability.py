"""What the data cannot say: parameters and frontiers that a table does not determine, and why.

Structure first (too few rows or values, inputs that move together), then bounds, then profiles that stay flat to a
bound, then draws that end there. It must not know how a table was read or how results are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.laws.parameter import Parameter
from analysis.solver.problem import Problem
from analysis.solver.search import FLAT_CONDITION, PointFit
from analysis.uncertainty.covariance import sandwich
from analysis.uncertainty.profile import held_at, scale_of
from analysis.uncertainty.quantiles import student_quantile

NO_SPREAD = 1e-9
"""Losses that differ by less than this fraction are constant."""
SAME_VALUE = 0.02
"""Inputs within this fraction of each other count as one value."""
MIN_SCATTER = 0.1
"""Standard deviation of log D about a smooth function of log N below which the two cannot be told apart."""
BOUND_DRAWS = 0.1
"""Fraction of draws at a bound above which a parameter counts as undetermined."""
MIN_SIDE = 0.05
"""Fewest runs, as a fraction, that must lie on either side of the optimum."""
MAX_REACH = 8.0
"""Standard errors beyond which a bound cannot be reached by a flat profile."""
PROFILE_ROWS = 5000
"""Profiles are not walked on tables longer than this: the condition number speaks for them."""


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The end of one parameter's profile: the parameter held at a bound, the others where they are best."""

    index: int
    """Which parameter."""
    side: str
    """lower or upper."""
    phi: Array
    """Working parameters there, shape (p,)."""
    value: float
    """Objective there."""


def walk_to_bounds(problem: Problem, point: PointFit, draws: Array | None, codes: NDArray[np.intp]) -> tuple[Walk, ...]:
    """Hold every parameter with bounds of its own at each of them, and minimise over the others until that converges.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    point : PointFit
        The minimum.
    draws : Array, shape (B, p), or None
        Working parameters of the draws, for the spread beyond which a bound is too far to be reached.
    codes : array of int, shape (n,)
        Cluster of each row.

    Returns
    -------
    tuple of Walk
        One for each bound within MAX_REACH standard errors. None on tables longer than PROFILE_ROWS, where the
        structure of the data already decides, or where a bound was hit that is none of an offset.
    """
    if cannot_be_profiled(problem, point, codes) or any(
        problem.law.parameters[j].kind != "offset" for j in point.bounds_hit
    ):
        return ()
    spread = np.sqrt(np.diag(sandwich(problem, point.phi, codes)))
    if draws is not None:
        spread = np.maximum(spread, draws.std(axis=0))
    wanted: list[tuple[int, str, float]] = []
    for j, parameter in enumerate(problem.law.parameters):
        if not bounded_by_law(parameter):
            continue
        for side, bound in (("lower", problem.lower[j]), ("upper", problem.upper[j])):
            if abs(bound - point.phi[j]) < MAX_REACH * spread[j]:
                wanted.append((j, side, float(bound)))
    if not wanted:
        return ()
    index = np.array([j for j, _, _ in wanted])
    phi, value = held_at(problem, point.phi, index, np.array([bound for _, _, bound in wanted]))
    return tuple(Walk(index=j, side=side, phi=phi[i], value=float(value[i])) for i, (j, side, _) in enumerate(wanted))


def cannot_be_profiled(problem: Problem, point: PointFit, codes: NDArray[np.intp]) -> bool:
    """Whether profiles are not walked: on tables longer than PROFILE_ROWS, and where the runs determine nothing.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    point : PointFit
        The minimum.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.

    Returns
    -------
    bool
        True where there is nothing to walk.
    """
    if problem.num_rows > PROFILE_ROWS or too_few(problem, codes):
        return True
    return bool(_structure(problem)) or point.condition > FLAT_CONDITION


def bounded_by_law(parameter: Parameter) -> bool:
    """Whether a bound of the parameter means that its part of the law has vanished or cannot be told from another."""
    if parameter.kind == "offset":
        return False
    return parameter.kind == "exponent" or bool(np.isfinite(parameter.lower) or np.isfinite(parameter.upper))


def unidentified(
    problem: Problem, point: PointFit, draws: Array | None, codes: NDArray[np.intp], walks: Sequence[Walk]
) -> dict[str, str]:
    """Reasons by parameter name; parameters that the data determine are absent.

    Parameters
    ----------
    problem : Problem
        What was minimised.
    point : PointFit
        The minimum.
    draws : Array, shape (B, p), or None
        Working parameters of the draws.
    codes : array of int, shape (n,)
        Cluster of each row.
    walks : sequence of Walk
        What `walk_to_bounds` found.

    Returns
    -------
    dict of str to str
        In the order of the law's parameters.
    """
    law = problem.law
    names = law.param_names
    few = too_few(problem, codes)
    if few:
        return dict.fromkeys(names, few)
    reasons = _structure(problem)
    for j in point.bounds_hit:
        side = "lower" if point.phi[j] - problem.lower[j] < problem.upper[j] - point.phi[j] else "upper"
        reasons.setdefault(names[j], f"the optimum is at its {side} bound")
        if law.parameters[j].kind == "exponent":
            for name in _companions(problem, names[j]):
                reasons.setdefault(name, f"{names[j]} is at its {side} bound")
    if point.condition > FLAT_CONDITION:
        for name in names:
            reasons.setdefault(name, f"the problem is flat (condition number {point.condition:.1e})")
    if all(law.parameters[names.index(name)].kind == "offset" for name in reasons):
        reasons = _flat_profiles(problem, point, codes, walks) | reasons
    if draws is not None:
        span = np.where(np.isfinite(problem.upper - problem.lower), problem.upper - problem.lower, np.inf)
        near = (draws - problem.lower <= 1e-6 * span) | (problem.upper - draws <= 1e-6 * span)
        for j, share in enumerate(near.mean(axis=0)):
            if share > BOUND_DRAWS and law.parameters[j].kind != "offset":
                reasons.setdefault(names[j], f"{100 * share:.0f} % of the draws ended at a bound")
    return {name: reasons[name] for name in names if name in reasons}


def too_few(problem: Problem, codes: NDArray[np.intp]) -> str | None:
    """Why there are too few runs or clusters for any interval.

    Parameters
    ----------
    problem : Problem
        Rows with weights, and the law.
    codes : array of int, shape (n,)
        Cluster of each row, whole numbers from 0.

    Returns
    -------
    str or None
        The reason; None when there are enough.
    """
    rows, p = int((problem.weights > 0).sum()), problem.num_params
    if rows <= p:
        return f"{rows} rows cannot determine {p} parameters"
    clusters = int(np.unique(codes[problem.weights > 0]).size)
    if clusters < min(p, rows):
        return f"{clusters} clusters cannot determine {p} parameters"
    return None


def _companions(problem: Problem, exponent: str) -> list[str]:
    """Amplitudes that scale with the exponent, and the offset."""
    return [
        p.name for p in problem.law.parameters if p.kind == "offset" or any(power == exponent for _, power in p.scales)
    ]


def _structure(problem: Problem) -> dict[str, str]:
    law, used = problem.law, problem.weights > 0
    losses = problem.y[used]
    if np.ptp(losses) <= NO_SPREAD * float(np.abs(losses).max()):
        return dict.fromkeys(law.param_names, f"all values of {law.target} are equal, so nothing depends on anything")
    reasons = law.undetermined(problem.z[:, used])
    if not law.row_by_row:
        return reasons
    for i, name in enumerate(law.inputs):
        values = np.sort(problem.z[i, used])
        count = 1 + int((np.diff(values) > SAME_VALUE).sum())
        carried = any(column == name for p in law.parameters for column, _ in p.scales)
        if count < 3 and carried:
            text = f"{name} takes {'one value' if count == 1 else 'two values'}; a power above a floor needs three"
            for p in law.parameters:
                if p.kind == "offset" or any(column == name for column, _ in p.scales) or name in p.meaning:
                    reasons.setdefault(p.name, text)
    if {"params", "tokens"} <= set(law.inputs):
        tied = tied_inputs(problem.z[law.inputs.index("params"), used], problem.z[law.inputs.index("tokens"), used])
        if tied:
            for p in law.parameters:
                if p.kind != "offset":
                    reasons.setdefault(p.name, tied)
    return reasons


def tied_inputs(log_n: Array, log_d: Array) -> str | None:
    """Why params and tokens cannot be told apart.

    Parameters
    ----------
    log_n : Array, shape (n,)
        Logarithms of params.
    log_d : Array, shape (n,)
        Logarithms of tokens.

    Returns
    -------
    str or None
        One budget, or one D for each N; None when they can be told apart.
    """
    if log_n.size < 4 or np.ptp(log_n) < 1e-9 or np.ptp(log_d) < 1e-9:
        return None
    if float(np.std(log_n + log_d)) < MIN_SCATTER:
        return "all runs share one compute budget, so size and data cannot be told apart"
    centred = (log_n - log_n.mean()) / np.ptp(log_n)
    columns = np.stack([centred**k for k in range(min(3, np.unique(np.round(log_n, 3)).size))], axis=1)
    rest = log_d - columns @ np.linalg.lstsq(columns, log_d, rcond=None)[0]
    ranks = np.corrcoef(np.argsort(np.argsort(log_n)), np.argsort(np.argsort(log_d)))[0, 1]
    if float(np.std(rest)) < MIN_SCATTER or (abs(ranks) > 0.999 and np.unique(np.round(log_n, 3)).size == log_n.size):
        return "there is one D for each N (tokens follow params), so size and data cannot be told apart"
    return None


def _flat_profiles(problem: Problem, point: PointFit, codes: NDArray[np.intp], walks: Sequence[Walk]) -> dict[str, str]:
    """Parameters that may as well be at a bound: the profile there has not risen above the cutoff."""
    reasons: dict[str, str] = {}
    if not walks:
        return reasons
    dof = max(int(codes.max()) + 1 - problem.num_params, 1)
    cutoff = float(student_quantile(0.975, dof)) ** 2
    factors = scale_of(problem, point.phi, codes)
    for walk in walks:
        parameter = problem.law.parameters[walk.index]
        if parameter.name in reasons or factors[walk.index] * (walk.value - point.value) >= cutoff:
            continue
        bound = walk.phi[walk.index]
        shown = np.exp(bound) if parameter.kind == "amplitude" else bound
        reasons[parameter.name] = f"the profile is flat up to its {walk.side} bound {shown:.3g}"
        if parameter.kind != "exponent":
            continue  # what stands beside a flat scale or offset has a profile of its own
        for name in _companions(problem, parameter.name):
            reasons.setdefault(name, f"{parameter.name} is not determined")
    return reasons


def one_sided(log_n: Array, log_optimal: Array, weights: Array) -> str | None:
    """Why a frontier is not determined by runs on one side of it.

    Parameters
    ----------
    log_n : Array, shape (n,)
        Logarithm of each run's size.
    log_optimal : Array, shape (n,)
        Logarithm of the optimal size at its compute.
    weights : Array, shape (n,)
        Row weights.

    Returns
    -------
    str or None
        The reason where nearly all runs lie on one side; None where they do not.
    """
    share = float(weights @ (log_n > log_optimal) / weights.sum())
    if share < MIN_SIDE:
        return "nearly all runs are smaller than the optimum at their compute: the optimum is at the grid's edge"
    if share > 1 - MIN_SIDE:
        return "nearly all runs are larger than the optimum at their compute: the optimum is at the grid's edge"
    return None
