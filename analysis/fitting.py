"""Point fits: arrays -> a checked `Problem` -> the global minimum with its status, the agreement of starts and
conditioning.

Owns validation of arrays, the search (grid, polish, certificate) and nothing about intervals or tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import UserError
from analysis.laws.base import Law
from analysis.objectives import Objective
from analysis.problem import Problem
from analysis.solver import polish
from analysis.starts import grid_starts

Array = NDArray[np.float64]

SEARCH_ROWS = 500
"""The grid is searched on at most this many rows, spread evenly over the sorted table; polishing uses all."""
SAME_OPTIMUM = 1e-6
"""Starts whose objectives agree to this fraction count as one optimum."""
FIRST_ITERATIONS = 60
"""Steps that every start is given; the best three may go on."""
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
    status: str
    """converged, bound_hit, flat or max_iterations."""
    bounds_hit: tuple[int, ...]
    """Indices of parameters at a bound."""
    agreement: float
    """Fraction of polished starts that reached this minimum."""
    condition: float
    """Condition number of the Gauss-Newton Hessian in working parameters scaled to a unit diagonal; inf when
    singular."""
    minima: Array
    """Distinct local minima reached, best first, shape (M, p)."""


def make_problem(
    law: Law,
    data: Mapping[str, Any],
    *,
    objective: Objective,
    residuals: str = "log",
    weights: ArrayLike | None = None,
    rows: ArrayLike | None = None,
) -> Problem:
    """Check the columns that `law` needs and centre their logarithms.

    `rows` says which rows are fitted, by a mask; the others only complete the curves of laws over a schedule.

    Raises
    ------
    UserError
        For missing columns, and for missing, infinite, non-positive or textual values (rows are numbered from 1).
    """
    if residuals not in ("log", "raw"):
        raise UserError(f"residuals are 'log' or 'raw', not {residuals!r}")
    data = law.prepare(data)
    columns = [checked(data, name, positive=True) for name in law.inputs]
    fitted = np.ones(columns[0].size, dtype=bool) if rows is None else np.asarray(rows, dtype=bool)
    y = checked(_at(data, law.target, fitted), law.target, positive=residuals == "log")
    w = np.ones(y.size) if weights is None else checked({"weights": weights}, "weights", positive=False)
    if len({w.size, y.size, fitted.size, *(c.size for c in columns)}) > 1:
        sizes = {name: c.size for name, c in zip((*law.inputs, law.target, "weights"), (*columns, y, w), strict=True)}
        raise UserError(f"columns differ in length: {sizes}; give one value per run in each")
    if fitted.sum() < 2:
        few = int(fitted.sum())
        raise UserError(f"{few} row cannot be fitted; give at least {len(law.parameters) + 1} runs for {law.name}")
    if (w < 0).any() or not w.any():
        bad = int(np.argmax(w < 0)) + 1
        raise UserError(f"weights must be zero or more and not all zero; row {bad} has {w[bad - 1]}")
    usual = law.row_weights({name: c[fitted] for name, c in zip(law.inputs, columns, strict=True)})
    if weights is None and usual is not None:
        w[fitted] = usual
    logs = np.log(np.stack(columns))
    centred = [name in law.centred_inputs() for name in law.inputs]
    refs = np.where(centred, (logs * w).sum(axis=1) / w.sum(), 0.0)
    for name, other in law.shared_units().items():
        refs[law.inputs.index(name)] = refs[law.inputs.index(other)]
    lower, upper = law.bounds()
    if residuals == "raw" and (y <= 0).any():
        lower = np.where([p.kind == "offset" for p in law.parameters], -np.inf, lower)
    return Problem(
        law=law,
        z=np.ascontiguousarray(law.features(logs - refs[:, None])[:, fitted]),
        log_refs=refs,
        y=y[fitted],
        weights=w[fitted],
        objective=objective,
        log_residuals=residuals == "log",
        lower=lower,
        upper=upper,
    )


def _at(data: Mapping[str, Any], name: str, rows: NDArray[np.bool_]) -> Mapping[str, Any]:
    """The column where it is fitted, one elsewhere: rows that only complete a curve need no loss."""
    if name not in data or rows.all() or np.size(data[name]) != rows.size:
        return data
    return {name: np.where(rows, np.asarray(data[name]), 1.0)}


def as_columns(data: Any) -> dict[str, Any]:
    """The columns of a mapping or frame by their names as text."""
    return {str(name): data[name] for name in data}


def checked(data: Mapping[str, Any], name: str, *, positive: bool) -> Array:
    """The column as float64; an error names the first rows that are missing, infinite, text or not positive."""
    if name not in data:
        raise UserError(f"there is no column {name!r}; name it, e.g. --columns {name}=COLUMN")
    raw = np.atleast_1d(np.asarray(data[name]))
    if raw.ndim != 1:
        raise UserError(f"column {name!r} has {raw.ndim} dimensions; give one number per run")
    try:
        column = raw.astype(np.float64)
    except (TypeError, ValueError):
        bad = [i + 1 for i, value in enumerate(raw) if not _is_number(value)]
        raise UserError(f"{name} is not a number in row {_listed(bad)}; mend those cells") from None
    for broken, what in ((np.isnan(column), "missing"), (np.isinf(column), "infinite")):
        if broken.any():
            raise UserError(
                f"{name} is {what} in row {_listed(np.flatnonzero(broken) + 1)}; mend or leave out those rows"
            )
    if positive and (column <= 0).any():
        hint = "; use --residuals raw, or leave those rows out"
        hint = hint if name in ("loss", "error") else "; mend or leave out those rows"
        raise UserError(f"{name} is not positive in row {_listed(np.flatnonzero(column <= 0) + 1)}{hint}")
    return column


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _listed(rows: Any) -> str:
    shown = ", ".join(str(int(r)) for r in list(rows)[:5])
    return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def solve(problem: Problem, *, keep: int = 8, max_iterations: int = 600) -> PointFit:
    """The global minimum: all local minima of the projected grid, polished; then the best of them on all rows."""
    search = problem.rows(_spread(problem)) if problem.num_rows > 2 * SEARCH_ROWS else problem
    starts, _ = grid_starts(search, keep=keep)
    if not len(starts):
        raise UserError(
            f"{problem.law.name} gives no finite prediction anywhere on its grid; check the units of the columns"
        )
    solution = polish(search, starts, max_iterations=FIRST_ITERATIONS)
    if search is not problem:
        best = _distinct(solution.phi, solution.value)[:3]
        solution = polish(problem, solution.phi[best], max_iterations=FIRST_ITERATIONS)
    unfinished = [i for i in _distinct(solution.phi, solution.value)[:3] if not solution.converged[i]]
    if unfinished:
        longer = polish(problem, solution.phi[unfinished], max_iterations=max_iterations)
        solution.phi[unfinished], solution.value[unfinished] = longer.phi, longer.value
        solution.converged[unfinished] = longer.converged
    solution.phi[:] = problem.law.canonical(solution.phi)
    order = _distinct(solution.phi, solution.value)
    top = int(order[0])
    value = float(solution.value[top])
    close = solution.value <= value * (1 + SAME_OPTIMUM) + 1e-18 * float(problem.weights.sum())
    phi = solution.phi[top]
    hit = bounds_hit(problem, phi)
    condition = condition_number(problem, phi)
    if not solution.converged[top]:
        status = "max_iterations"
    elif hit:
        status = "bound_hit"
    else:
        status = "flat" if condition > FLAT_CONDITION or problem.num_rows <= problem.num_params else "converged"
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
    """Indices of the parameters that sit at a working bound."""
    span = np.where(np.isfinite(problem.upper - problem.lower), problem.upper - problem.lower, 1.0)
    at = (phi - problem.lower <= 1e-9 * span) | (problem.upper - phi <= 1e-9 * span)
    return tuple(int(j) for j in np.flatnonzero(at))


def condition_number(problem: Problem, phi: Array) -> float:
    """Condition number of J^T W J with unit diagonal at `phi`."""
    _, J, _ = problem.scaled_jacobian(phi[None, :])
    gram = (J[0] * problem.weights) @ J[0].T
    scale = np.sqrt(np.maximum(np.diag(gram), 0.0))
    if not (scale > 0).all() or not np.isfinite(gram).all():
        return float("inf")
    eigenvalues = np.linalg.eigvalsh(gram / np.outer(scale, scale))
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else float("inf")


def _spread(problem: Problem) -> NDArray[np.intp]:
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
