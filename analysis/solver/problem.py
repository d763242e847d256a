"""One fitting problem in working units.

It joins a law, centred log inputs, losses, weights and an objective, and gives values and derivatives.

Everything is vectorised over many parameter vectors, each with its own row weights (bootstrap draws). The solver sees
this and no table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Array, Columns
from analysis.errors import UserError
from analysis.laws.base import LOG_ZERO, Law
from analysis.runs.columns import checked
from analysis.solver.objectives import Objective

Residuals = Literal["log", "raw"]
"""Of log losses, or of losses."""
RESIDUALS: tuple[Residuals, ...] = get_args(Residuals)
Bounds = Mapping[str, tuple[float | None, float | None]]
"""(lower, upper) by parameter; None for no bound."""
ROW_BLOCK = 4096
"""Rows evaluated at once."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """min over phi of sum_i w_i rho(r_i(phi)), r = log L(phi) - log y, or L(phi) - y."""

    law: Law
    """The law."""
    z: Array
    """Log inputs less `log_refs`, shape (k, n)."""
    log_refs: Array
    """Mean log input, shape (k,): what makes a fit independent of units."""
    y: Array
    """Losses, shape (n,)."""
    weights: Array
    """Row weights, shape (n,)."""
    objective: Objective
    """The objective."""
    log_residuals: bool
    """Residuals of log losses (True) or of losses."""
    lower: Array
    """Working lower bounds, shape (p,)."""
    upper: Array
    """Working upper bounds, shape (p,)."""

    @property
    def num_rows(self) -> int:
        """Rows."""
        return self.y.size

    @property
    def num_params(self) -> int:
        """Free parameters."""
        return len(self.law.parameters)

    @cached_property
    def _log_y(self) -> Array:
        """Logarithms of the losses, shape (n,)."""
        return np.log(self.y)

    def rows(self, keep: NDArray[np.intp]) -> Problem:
        """The same problem on some rows, in the same working units."""
        return replace(self, z=np.ascontiguousarray(self.z[:, keep]), y=self.y[keep], weights=self.weights[keep])

    def with_objective(self, objective: Objective) -> Problem:
        """The same rows under another objective."""
        return replace(self, objective=objective)

    def residuals(self, phi: Array) -> Array:
        """Residuals, shape (B, n); +inf where a log residual meets a loss that is not positive."""
        value = self.law.working_value(phi, self.z)
        return self.residuals_of(value)

    def residuals_of(self, value: Array) -> Array:
        """Residuals of predictions `value` (B, n), shape (B, n)."""
        if not self.log_residuals:
            return value - self.y
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(value > 0, np.log(np.maximum(value, 1e-300)), np.inf) - self._log_y

    def _blocks(self, weights: Array) -> Iterator[tuple[Problem, Array]]:
        """The rows in blocks that fit the cache, with their weights; the problem itself when it is short."""
        if self.num_rows <= ROW_BLOCK:
            yield self, weights
            return
        for begin in range(0, self.num_rows, ROW_BLOCK):
            rows = slice(begin, begin + ROW_BLOCK)
            part = replace(self, z=self.z[:, rows], y=self.y[rows], weights=self.weights[rows])
            yield part, weights[..., rows]

    def value(self, phi: Array, weights: Array) -> Array:
        """The sum of the objective's terms.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.
        weights : Array, shape (B, n) or (n,)
            Row weights.

        Returns
        -------
        Array, shape (B,)
            Sums; infinite where a prediction is not finite.
        """
        total = np.zeros(phi.shape[0])
        with np.errstate(over="ignore", invalid="ignore"):
            for part, w in self._blocks(weights):
                rho = part.objective.rho(part.residuals(phi))
                total += rho @ w if w.ndim == 1 else np.einsum("bn,bn->b", rho, w)
        return np.where(np.isfinite(total), total, np.inf)

    def scaled_jacobian(self, phi: Array) -> tuple[Array, Array, Array]:
        """Residuals with their derivatives.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.

        Returns
        -------
        r : Array, shape (B, n)
            Residuals.
        jacobian : Array, shape (B, p, n)
            Their derivatives by the working parameters.
        factor : Array, shape (B, n)
            dr / dL.
        """
        value, jacobian = self.law.working_jacobian(phi, self.z)
        r = self.residuals_of(value)
        if not self.log_residuals:
            return r, jacobian, np.ones_like(value)
        inverse = 1.0 / np.maximum(value, 1e-300)
        return r, jacobian * inverse[:, None, :], inverse

    def derivatives(
        self, phi: Array, weights: Array, *, majorised: NDArray[np.bool_] | None = None, curved: bool = True
    ) -> tuple[Array, Array, Array]:
        """First and second derivatives of the objective by the working parameters.

        Parameters
        ----------
        phi : Array, shape (B, p)
            Working parameters.
        weights : Array, shape (B, n) or (n,)
            Row weights.
        majorised : array of bool, shape (B,), optional
            Where the objective's second derivative is replaced by that of a parabola above it.
        curved : bool
            Whether the law's own second derivatives count; without them the Hessian is cheap and never negative.

        Returns
        -------
        gradient : Array, shape (B, p)
            First derivatives.
        hessian : Array, shape (B, p, p)
            Second derivatives.
        scale : Array, shape (B, p)
            The positive Gauss-Newton scale of each parameter.
        """
        p = phi.shape[1]
        gradient, scale, hessian = np.zeros_like(phi), np.zeros_like(phi), np.zeros((phi.shape[0], p, p))
        for part, w in self._blocks(weights):
            value, J = part.law.working_jacobian(phi, part.z)
            r = part.residuals_of(value)
            slope, wpsi = part.objective.slope(r), w * part.objective.psi(r)
            if majorised is not None and majorised.any():
                slope = np.where(majorised[:, None], part.objective.majorising_slope(r), slope)
            if part.log_residuals:  # d log L = dL / L, d2 log L = d2L / L - dL dL^T / L^2
                inverse = 1.0 / np.maximum(value, 1e-300)
                square = inverse * inverse
                bent = wpsi if curved else 0.0
                inner, outer, size = (w * slope - bent) * square, wpsi * inverse, w * square
            else:
                inner, outer, size = w * slope, wpsi, np.broadcast_to(w, r.shape)
            gradient += np.matmul(J, outer[:, :, None])[:, :, 0]
            hessian += np.matmul(J * inner[:, None, :], J.transpose(0, 2, 1))
            if curved:
                hessian += part.law.working_curvature(phi, part.z, outer, J)
            scale += np.matmul(J * J, size[:, :, None])[:, :, 0]
        return gradient, hessian, scale

    @property
    def steps(self) -> Array:
        """A natural step of each working parameter, shape (p,): the typical loss for offsets, one for the others."""
        unit = float(np.median(np.abs(self.y))) or 1.0
        return np.array([unit if p.kind == "offset" else 1.0 for p in self.law.parameters])


def make_problem(
    law: Law,
    data: Columns,
    *,
    objective: Objective,
    residuals: Residuals = "log",
    weights: ArrayLike | None = None,
    rows: ArrayLike | None = None,
    bounds: Bounds | None = None,
) -> Problem:
    """Check the columns that a law needs and centre their logarithms.

    Parameters
    ----------
    law : Law
        The law.
    data : mapping or DataFrame
        Columns by name.
    objective : Objective
        What is summed.
    residuals : {"log", "raw"}
        Residuals of log losses or of losses.
    weights : array, shape (n,), optional
        Row weights; those that the law itself asks for by default.
    rows : array of bool, shape (n,), optional
        The rows to fit; the others only complete the curves of laws over a schedule.
    bounds : mapping, optional
        (lower, upper) of exponents and offsets by name, beside those of the law.

    Returns
    -------
    Problem
        In working units.

    Raises
    ------
    UserError
        For missing columns, for missing, infinite, non-positive or textual values (rows are numbered from 1), and for
        bounds that cannot be.
    """
    if residuals not in RESIDUALS:
        raise UserError(f"residuals are 'log' or 'raw', not {residuals!r}")
    given = law.prepare(dict(data))
    columns = [_input(law, given, name) for name in law.inputs]
    fitted = np.ones(columns[0].size, dtype=bool) if rows is None else np.asarray(rows, dtype=bool)
    y = checked(_where_fitted(given, law.target, fitted), law.target, positive=residuals == "log")
    w = np.ones(y.size) if weights is None else checked({"weights": weights}, "weights", positive=False)
    _check_lengths(law, [*columns, y, w], fitted)
    _check_weights(w)
    usual = law.row_weights({name: c[fitted] for name, c in zip(law.inputs, columns, strict=True)})
    if weights is None and usual is not None:
        w[fitted] = usual
    logs = law.logs(np.stack(columns))
    refs = _references(law, logs, w)
    lower, upper = _bounds(law, bounds, free_offset=residuals == "raw" and bool((y <= 0).any()))
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


def _where_fitted(data: Mapping[str, Any], name: str, rows: NDArray[np.bool_]) -> Mapping[str, Any]:
    """The column where it is fitted, one elsewhere: rows that only complete a curve need no loss."""
    if name not in data or rows.all() or np.size(data[name]) != rows.size:
        return data
    return {name: np.where(rows, np.asarray(data[name]), 1.0)}


def _check_lengths(law: Law, columns: Sequence[Array], fitted: NDArray[np.bool_]) -> None:
    if len({fitted.size, *(column.size for column in columns)}) > 1:
        names = (*law.inputs, law.target, "weights")
        sizes = ", ".join(f"{name} has {column.size} values" for name, column in zip(names, columns, strict=True))
        raise UserError(f"columns differ in length: {sizes}; give each one value a run")
    if fitted.sum() < 2:
        few = "one row is" if fitted.any() else "no row is"
        raise UserError(f"{few} left to fit; give at least {len(law.parameters) + 1} runs for {law.name}")


def _check_weights(w: Array) -> None:
    if (w < 0).any():
        bad = int(np.argmax(w < 0))
        raise UserError(f"weights are zero or more, and row {bad + 1} has {w[bad]:g}; fix that row")
    if not w.any():
        raise UserError("every weight is zero; give a weight above zero to the rows that shall be fitted")


def _input(law: Law, data: Mapping[str, Any], name: str) -> Array:
    """One input, above zero, or at zero where the law allows it."""
    if name not in law.zero_inputs:
        return checked(data, name, positive=True)
    column = checked(data, name, positive=False)
    if (column < 0).any():
        row = int(np.argmax(column < 0))
        raise UserError(f"{name} is negative in row {row + 1} ({column[row]:g}); fix or leave out that row")
    if not (column > 0).any():
        raise UserError(f"{name} is zero in every row; give runs with more than that")
    return column


def _references(law: Law, logs: Array, w: Array) -> Array:
    """What is subtracted from each log input, shape (k,).

    It is the weighted mean where the law's form allows it; zeros have no part in it.
    """
    centred = [name in law.centred_inputs() for name in law.inputs]
    inner = w * (logs > LOG_ZERO)
    total = inner.sum(axis=1)
    refs = np.where(centred, (logs * inner).sum(axis=1) / np.where(total > 0, total, 1.0), 0.0)
    for name, other in law.shared_units().items():
        refs[law.inputs.index(name)] = refs[law.inputs.index(other)]
    return refs


def _bounds(law: Law, bounds: Bounds | None, *, free_offset: bool) -> tuple[Array, Array]:
    """Working bounds: the law's, those that were asked for, and none for an offset that may be negative."""
    lower, upper = law.bounds()
    if free_offset:
        lower = np.where([p.kind == "offset" for p in law.parameters], -np.inf, lower)
    for name, (low, high) in (bounds or {}).items():
        if name not in law.param_names:
            raise UserError(f"{law.name} has no parameter {name!r} to bound; it has {', '.join(law.param_names)}")
        j = law.param_names.index(name)
        if law.parameters[j].kind == "amplitude":
            raise UserError(f"{name} is an amplitude, whose size depends on an exponent: bound the exponent instead")
        lower[j] = max(lower[j], -np.inf if low is None else low)
        upper[j] = min(upper[j], np.inf if high is None else high)
        if not lower[j] <= upper[j]:
            raise UserError(f"bounds {low} and {high} leave no value of {name}; give (lower, upper) within the law's")
    return lower, upper
