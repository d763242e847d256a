"""`fit_law` and `profile_law`: from a table of runs to a `Fit`, in the manner of scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import UserError
from analysis.fitting.assemble import assemble
from analysis.fitting.fit import Fit
from analysis.laws.base import Law
from analysis.laws.registry import get_law
from analysis.runs.columns import as_columns, checked
from analysis.solver.objectives import Objective
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import solve
from analysis.uncertainty.bootstrap import cluster_codes, resample
from analysis.uncertainty.profile import Profile, profile

if TYPE_CHECKING:
    import pandas as pd


RUN_COLUMNS = ("params", "tokens", "flops", "width", "depth", "context", "vocab", "seed")
"""Columns of the table that a fit keeps beside the law's inputs and the loss, where they are numbers."""


SHARED_ERRORS = "rows of one curve share their errors: without --cluster curve, intervals are too narrow"
"""Warning of fits over schedules whose rows were drawn one by one."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # a loss that overflows counts as infinite
def fit_law(
    law: str | Law,
    data: Mapping[str, Any] | pd.DataFrame,
    *,
    objective: str = "huber",
    delta: float = 1e-3,
    residuals: str = "log",
    weights: str | ArrayLike | None = None,
    bootstrap: int = 0,
    cluster: str | ArrayLike | None = None,
    strata: str | ArrayLike | None = None,
    level: float = 0.95,
    rng: int | np.random.Generator | None = None,
    rows: ArrayLike | None = None,
    columns: Mapping[str, str] | None = None,
    conventions: Mapping[str, Any] | None = None,
) -> Fit:
    """Fit `law` to runs by the global minimum of a sum of robust residuals, with calibrated intervals.

    Parameters
    ----------
    law : name or Law
    data : mapping or frame with the law's inputs and its target, `loss` for most; one of tokens and flops suffices
        (C = 6 N D)
    objective : "huber" (with `delta`), "lad" or "squared"; always a sum over rows
    residuals : "log" (log L - log loss) or "raw"
    weights : row weights or the column that holds them; a weight of two counts a row twice
    bootstrap : draws over runs (over clusters with `cluster`); 0 takes intervals from the sandwich covariance
    cluster, strata : labels, or the column that holds them: rows drawn together, and groups within which to draw
    level : nominal coverage of the intervals
    rng : seed or generator of the draws (0 by default)
    rows : mask of the rows to fit; the others only complete the curves of laws over a schedule, and need no loss

    Raises
    ------
    UserError
        For data that cannot be fitted; the message names columns and rows.
    """
    law = get_law(law) if isinstance(law, str) else law
    if not 0 < level < 1:
        raise UserError(f"level is {level}; give a coverage between 0 and 1, such as .95")
    if bootstrap < 0 or bootstrap == 1:
        raise UserError(f"bootstrap is {bootstrap}; give two draws or more (1000, say), or 0 for none")
    given, aliases = _inputs(law, data)
    column = checked(as_columns(data), weights, positive=False) if isinstance(weights, str) else weights
    spec = Objective.named(objective, delta)
    problem = make_problem(law, given, objective=spec, residuals=residuals, weights=column, rows=rows)
    kept = np.ones(problem.num_rows, dtype=bool) if rows is None else np.asarray(rows, dtype=bool)
    codes = cluster_codes(_labels(data, cluster, "cluster", kept), problem.num_rows)
    point = solve(problem)
    draws = None
    if bootstrap:
        generator = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(0 if rng is None else rng)
        layers = _labels(data, strata, "strata", kept)
        draws = resample(problem, point.minima, codes, num_draws=bootstrap, rng=generator, strata=layers)
    fit = assemble(
        problem, point, codes, draws, level=level, aliases=aliases, columns=columns or {},
        conventions=conventions or {},
        options={
            "objective": objective,
            "delta": delta if objective == "huber" else None,
            "residuals": residuals,
            "bootstrap": bootstrap,
            "level": level,
            "clustered": cluster is not None,
        },
    )  # fmt: skip
    given = {name: column if rows is None else np.asarray(column)[kept] for name, column in given.items()}
    warnings = fit.warnings if law.row_by_row or cluster is not None else (*fit.warnings, SHARED_ERRORS)
    return replace(fit, runs=_runs(given, problem, codes if cluster is not None else None), warnings=warnings)


def _runs(given: Mapping[str, Any], problem: Problem, codes: NDArray[np.intp] | None) -> dict[str, NDArray[np.float64]]:
    """The fitted rows as numbers: what designs of further runs start from."""
    out = {name: checked(given, name, positive=False) for name in problem.law.inputs}
    out |= {problem.law.target: problem.y, "weights": problem.weights}
    if codes is not None:
        out["cluster"] = codes.astype(np.float64)
    for name in RUN_COLUMNS:
        column = np.asarray(given[name]) if name in given else np.zeros(0)
        if name not in out and column.shape == problem.y.shape and np.issubdtype(column.dtype, np.number):
            out[name] = column.astype(np.float64)
    return out


def _inputs(law: Law, data: Mapping[str, Any] | pd.DataFrame) -> tuple[dict[str, Any], dict[str, str]]:
    given = as_columns(data)
    aliases: dict[str, str] = {}
    if "x" in law.inputs and "x" not in given:
        candidates = [n for n in ("flops", "tokens", "params", "step") if n in given]
        if not candidates:
            raise UserError(f"{law.name} needs a column x; name it, e.g. --columns x=COLUMN")
        given["x"], aliases["x"] = given[candidates[0]], candidates[0]
    if "tokens" in law.inputs and "tokens" not in given and {"params", "flops"} <= set(given):
        flops, params = checked(given, "flops", positive=True), checked(given, "params", positive=True)
        given["tokens"] = flops / (6 * params)
    return law.prepare(given), aliases


def _labels(
    data: Mapping[str, Any] | pd.DataFrame, labels: str | ArrayLike | None, what: str, rows: NDArray[np.bool_]
) -> Any:
    """Labels of the fitted rows: as given, or the column of that name."""
    if labels is None:
        return None
    if isinstance(labels, str) and labels not in data:
        raise UserError(f"there is no column {labels!r} for {what}; name one of {', '.join(map(str, data))}")
    column = np.asarray(data[labels] if isinstance(labels, str) else labels)
    return column[rows] if column.size == rows.size else column


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def profile_law(
    law: str | Law,
    data: Mapping[str, Any] | pd.DataFrame,
    *,
    name: str,
    level: float = 0.95,
    cluster: str | ArrayLike | None = None,
    objective: str = "huber",
    delta: float = 1e-3,
    residuals: str = "log",
    weights: str | ArrayLike | None = None,
) -> Profile:
    """The profile likelihood of the parameter `name` and its interval; the other arguments are those of `fit_law`."""
    law = get_law(law) if isinstance(law, str) else law
    if name not in law.param_names:
        raise UserError(f"{law.name} has no parameter {name!r}; it has {', '.join(law.param_names)}")
    given, _ = _inputs(law, data)
    column = checked(as_columns(data), weights, positive=False) if isinstance(weights, str) else weights
    spec = Objective.named(objective, delta)
    problem = make_problem(law, given, objective=spec, residuals=residuals, weights=column)
    codes = cluster_codes(_labels(data, cluster, "cluster", np.ones(problem.num_rows, bool)), problem.num_rows)
    point = solve(problem)
    return profile(problem, point.phi, point.value, name, codes, level=level)
