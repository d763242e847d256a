"""`fit_law` and `profile_law`: from a table of runs to a `Fit`, in the manner of scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.assemble import Solved, assemble
from analysis.fitting.fit import Fit
from analysis.fitting.spec import FitOptions, FitSpec, spec_from
from analysis.laws.base import Law
from analysis.laws.registry import get_law
from analysis.runs.columns import as_columns, checked, completed
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import SAME_OPTIMUM, solve
from analysis.uncertainty.bootstrap import cluster_codes, resample
from analysis.uncertainty.identifiability import walk_to_bounds
from analysis.uncertainty.profile import Profile, profile
from analysis.uncertainty.region import likelihood_region

if TYPE_CHECKING:
    import pandas as pd

RUN_COLUMNS = ("params", "tokens", "flops", "width", "depth", "context", "vocab", "batch", "seed")
"""Columns of the table that a fit keeps beside the law's inputs and the loss, where they are numbers."""
STAND_INS = ("flops", "tokens", "params", "step")
"""Columns that a law of one input x reads where there is no column x, in order of preference."""
RESTARTS = 3
"""Times that a search is begun again where a profile ended lower than its minimum."""
SHARED_ERRORS = "rows of one curve share their errors: without --cluster curve, intervals are too narrow"
"""Warning of fits over schedules whose rows were drawn one by one."""


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A table made ready for the solver."""

    problem: Problem
    """The rows that are fitted."""
    codes: NDArray[np.intp]
    """Cluster of each of them."""
    kept: NDArray[np.bool_]
    """Which rows of the table they are."""
    columns: dict[str, Any]
    """All columns, with inputs filled in."""
    aliases: dict[str, str]
    """Inputs of the law to the columns that stand in for them."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a loss that overflows counts as infinite
def fit_law(
    law: str | Law,
    data: Mapping[str, Any] | pd.DataFrame,
    spec: FitSpec | None = None,
    *,
    rows: ArrayLike | None = None,
    columns: Mapping[str, str] | None = None,
    conventions: Mapping[str, Any] | None = None,
    **options: Unpack[FitOptions],
) -> Fit:
    """Fit a law to runs: the global minimum of a sum of robust residuals, with calibrated intervals.

    Parameters
    ----------
    law : str or Law
        The law, or its name.
    data : mapping or DataFrame
        The law's inputs and its target, `loss` for most; of params, tokens and flops any two suffice (C = 6 N D).
    spec : FitSpec, optional
        How to fit: objective, residuals, weights, clusters, draws, level and seed.
    rows : array of bool, shape (n,), optional
        The rows to fit; the others only complete the curves of laws over a schedule, and need no loss.
    columns : mapping, optional
        Our names to the table's, carried into the result.
    conventions : mapping, optional
        Which N and which C the table counts, carried into the result.
    **options
        Fields of the FitSpec by keyword, such as `bootstrap=1000`; they go before those of `spec`. `rng` is another
        name of `seed`.

    Returns
    -------
    Fit
        Parameters with intervals, predictions, frontier, status and warnings.

    Raises
    ------
    UserError
        For data that cannot be fitted; the message names columns and rows.

    Examples
    --------
    >>> fit = fit_law("hoffmann", runs, bootstrap=1000, cluster="trunk")
    >>> fit.predict({"params": 7e9, "tokens": 1.4e12})
    """
    law = get_law(law) if isinstance(law, str) else law
    spec = spec_from(spec, options)
    prepared = _prepare(law, data, spec, rows)
    problem = prepared.problem
    strata = _labels(data, spec.strata, "strata", prepared.kept)
    fit = assemble(
        _solved(problem, prepared.codes, spec, strata),
        spec,
        aliases=prepared.aliases,
        columns=columns or {},
        conventions=conventions or {},
    )
    clustered = spec.cluster is not None
    warnings = fit.warnings if law.row_by_row or clustered else (*fit.warnings, SHARED_ERRORS)
    return replace(fit, runs=_runs(prepared, rows is not None, clustered), warnings=warnings)


def _solved(problem: Problem, codes: NDArray[np.intp], spec: FitSpec, strata: NDArray[Any] | None) -> Solved:
    """The minimum, its draws and the ends of its profiles; a profile that ends lower restarts the search there."""
    point = solve(problem)
    for _ in range(RESTARTS):
        draws = None
        if spec.bootstrap:
            rng = spec.generator
            draws = resample(problem, point.minima, codes, num_draws=spec.bootstrap, rng=rng, strata=strata)
        walks = walk_to_bounds(problem, point, draws, codes)
        lower = [walk.phi for walk in walks if walk.value < point.value * (1 - SAME_OPTIMUM)]
        region = likelihood_region(problem, point, draws, codes, level=spec.level)
        lower += [] if region is None or region.lower is None else [region.lower]
        if not lower:
            break
        point = solve(problem, also=np.stack(lower))
    return Solved(problem=problem, point=point, codes=codes, draws=draws, walks=walks, region=region)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def profile_law(
    law: str | Law,
    data: Mapping[str, Any] | pd.DataFrame,
    spec: FitSpec | None = None,
    *,
    name: str,
    **options: Unpack[FitOptions],
) -> Profile:
    """The profile likelihood of one parameter and its interval.

    Parameters
    ----------
    law : str or Law
        The law, or its name.
    data : mapping or DataFrame
        As for `fit_law`.
    spec : FitSpec, optional
        How to fit; draws and strata have no part in a profile.
    name : str
        The parameter.
    **options
        Fields of the FitSpec by keyword; they go before those of `spec`.

    Returns
    -------
    Profile
        The rise of the objective along the parameter, and the interval.

    Raises
    ------
    UserError
        When the law has no such parameter, or the data cannot be fitted.
    """
    law = get_law(law) if isinstance(law, str) else law
    if name not in law.param_names:
        raise UserError(f"{law.name} has no parameter {name!r}; it has {', '.join(law.param_names)}")
    spec = spec_from(spec, options)
    prepared = _prepare(law, data, spec, None)
    return profile(prepared.problem, solve(prepared.problem), name, prepared.codes, level=spec.level)


def _prepare(law: Law, data: Mapping[str, Any] | pd.DataFrame, spec: FitSpec, rows: ArrayLike | None) -> _Prepared:
    """Check the columns that the law needs and find the clusters."""
    given, aliases = _inputs(law, data)
    weights = spec.weights
    column = checked(as_columns(data), weights, positive=False) if isinstance(weights, str) else weights
    problem = make_problem(
        law,
        given,
        objective=spec.loss_term,
        residuals=spec.residuals,
        weights=column,
        rows=rows,
        bounds=spec.bounds,
    )
    kept = np.ones(problem.num_rows, dtype=bool) if rows is None else np.asarray(rows, dtype=bool)
    codes = cluster_codes(_labels(data, spec.cluster, "cluster", kept), problem.num_rows)
    return _Prepared(problem=problem, codes=codes, kept=kept, columns=given, aliases=aliases)


def _runs(prepared: _Prepared, selected: bool, clustered: bool) -> dict[str, Array]:
    """The fitted rows as numbers: what designs of further runs start from."""
    problem, given = prepared.problem, prepared.columns
    if selected:
        given = {name: np.asarray(column)[prepared.kept] for name, column in given.items()}
    out = {name: checked(given, name, positive=False) for name in problem.law.inputs}
    out |= {problem.law.target: problem.y, "weights": problem.weights}
    if clustered:
        out["cluster"] = prepared.codes.astype(np.float64)
    for name in RUN_COLUMNS:
        column = np.asarray(given[name]) if name in given else np.zeros(0)
        if name not in out and column.shape == problem.y.shape and np.issubdtype(column.dtype, np.number):
            out[name] = column.astype(np.float64)
    return out


def _inputs(law: Law, data: Mapping[str, Any] | pd.DataFrame) -> tuple[dict[str, Any], dict[str, str]]:
    """Columns with the law's inputs filled in, and which column stands in for x."""
    given = as_columns(data)
    aliases: dict[str, str] = {}
    if "x" in law.inputs and "x" not in given:
        candidates = [name for name in STAND_INS if name in given]
        if not candidates:
            raise UserError(f"{law.name} needs a column x; name it, e.g. --columns x=COLUMN")
        given["x"], aliases["x"] = given[candidates[0]], candidates[0]
    return law.prepare(completed(given, law.inputs)), aliases


def _labels(
    data: Mapping[str, Any] | pd.DataFrame, labels: str | ArrayLike | None, what: str, rows: NDArray[np.bool_]
) -> NDArray[Any] | None:
    """Labels of the fitted rows: as given, or the column of that name."""
    if labels is None:
        return None
    if isinstance(labels, str) and labels not in data:
        raise UserError(f"there is no column {labels!r} for {what}; name one of {', '.join(map(str, data))}")
    column = np.asarray(data[labels] if isinstance(labels, str) else labels)
    return column[rows] if column.size == rows.size else column
