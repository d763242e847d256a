"""Runs -> compute budgets: which runs belong together, and what each budget holds. Must not know curves or minima."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Array

BUDGET_TOLERANCE = 0.10
"""Runs whose compute lies within this fraction of a neighbour's belong to one budget where no budget is named."""
MAX_BUDGET_SPAN = 1.35
"""A budget found by clustering spans at most this factor of compute."""
MAX_NAMED_SPAN = 3.0
"""Runs of one named budget may differ in compute by this factor (other ways of counting); beyond it the name is
another's."""

SAME_TOKENS = 0.02
"""A budget this near the tokens of its runs, a fraction, is a budget of tokens."""


@dataclass(frozen=True, kw_only=True)
class BudgetRuns:
    """The runs of one compute budget, by distinct size."""

    flops: float
    """C of the budget: the named one, else the geometric mean of its runs."""
    rows: NDArray[np.int64]
    """Positions of the runs in the table."""
    x: Array
    """Distinct ascending ln N."""
    loss: Array
    """Mean loss at each size."""
    count: Array
    """Runs at each size."""
    member: NDArray[np.int64]
    """For each run of `rows`, the index of its size in `x`."""
    run_loss: Array
    """Loss of each run of `rows`."""
    log_nd: Array | None
    """Mean ln (N D) at each size; None without tokens."""


def group_budgets(frame: pd.DataFrame, *, tolerance: float = BUDGET_TOLERANCE) -> tuple[pd.Series, tuple[str, ...]]:
    """Group runs by compute budget.

    The column `budget` is used when it is a positive number in every row and groups runs of like compute; otherwise
    rows are sorted by `flops` and split where neighbours differ by more than `tolerance` or a group is wider than
    MAX_BUDGET_SPAN.

    Parameters
    ----------
    frame : DataFrame
        Runs with flops, and perhaps `budget`.
    tolerance : float
        Largest difference between neighbours of one budget, a fraction.

    Returns
    -------
    budgets : Series of float
        The budget of every row: the named one unless it is the tokens of its runs, else the geometric mean of its rows.
    warnings : tuple of str
        What the reader must know about the grouping.
    """
    ignored: tuple[str, ...] = ()
    if "budget" in frame.columns:
        named = pd.to_numeric(frame["budget"], errors="coerce").astype(float)
        if bool((named > 0).all()) and bool(np.isfinite(named).all()):
            span = float(frame["flops"].groupby(named).agg(lambda values: values.max() / values.min()).max())
            if span <= MAX_NAMED_SPAN:
                return _as_compute(named, frame)
            ignored = (
                f"the column budget groups runs up to a factor of {span:.2g} apart in compute: it is no "
                "compute budget (of tokens, perhaps), and runs were grouped by their compute instead",
            )
    log_flops = np.log(frame["flops"].to_numpy(dtype=float))
    order = np.argsort(log_flops, kind="stable")
    ascending = log_flops[order]
    chains = np.split(np.arange(len(frame)), np.flatnonzero(np.diff(ascending) > math.log1p(tolerance)) + 1)
    label = np.empty(len(frame), dtype=int)
    groups = [part for chain in chains for part in _tight(ascending, chain)]
    for number, part in enumerate(groups):
        label[order[part]] = number
    means = pd.Series(log_flops, index=frame.index).groupby(label).transform("mean")
    warnings: tuple[str, ...] = ()
    if len(groups) > len(chains):
        widest = max(float(ascending[chain[-1]] - ascending[chain[0]]) for chain in chains)
        warnings = (
            f"runs up to a factor of {math.exp(widest):.2g} apart in compute follow each other without a gap and were "
            f"split into budgets no wider than {MAX_BUDGET_SPAN:g}; name them with --columns budget=COLUMN",
        )
    return np.exp(means), (*ignored, *warnings)


def _as_compute(named: pd.Series, frame: pd.DataFrame) -> tuple[pd.Series, tuple[str, ...]]:
    """Budgets by their names; those that name the tokens of their runs by the mean compute of these runs."""
    if "tokens" not in frame.columns:
        return named, ()
    tokens = pd.to_numeric(frame["tokens"], errors="coerce").astype(float)
    of_tokens = np.abs(named / tokens - 1) < SAME_TOKENS
    of_tokens &= np.abs(named / frame["flops"].astype(float) - 1) > SAME_TOKENS
    if not bool(of_tokens.any()):
        return named, ()
    logs = pd.Series(np.log(frame["flops"].to_numpy(dtype=float)), index=frame.index)
    means = np.exp(logs.groupby(named).transform("mean"))
    return named.where(~of_tokens, means), (
        f"budgets of {int(of_tokens.sum())} runs are tokens: they are called by the mean compute of their runs",
    )


def _tight(ascending: Array, part: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split a chain of neighbours at its largest gap, again and again, until no part is wider than MAX_BUDGET_SPAN."""
    values = ascending[part]
    if values[-1] - values[0] <= math.log(MAX_BUDGET_SPAN):
        return [part]
    cut = int(np.diff(values).argmax()) + 1
    return [*_tight(ascending, part[:cut]), *_tight(ascending, part[cut:])]


def budget_runs(frame: pd.DataFrame) -> tuple[list[BudgetRuns], tuple[str, ...]]:
    """The runs of a table by compute budget, ascending, and the warnings of the grouping."""
    budgets, warnings = group_budgets(frame)
    log_n = np.log(frame["params"].to_numpy(dtype=float))
    loss = frame["loss"].to_numpy(dtype=float)
    log_nd = log_n + np.log(frame["tokens"].to_numpy(dtype=float)) if "tokens" in frame.columns else None
    out = []
    keys = np.round(np.log(budgets.to_numpy(dtype=float)), 6)
    for key in np.unique(keys):
        rows = np.flatnonzero(keys == key)
        _, member = np.unique(np.round(log_n[rows], 9), return_inverse=True)
        count = np.bincount(member).astype(float)
        out.append(
            BudgetRuns(
                flops=float(np.median(budgets.to_numpy(dtype=float)[rows])),
                rows=rows,
                x=_mean_by(log_n[rows], member, count),
                loss=_mean_by(loss[rows], member, count),
                count=count,
                member=member,
                run_loss=loss[rows],
                log_nd=None if log_nd is None else _mean_by(log_nd[rows], member, count),
            )
        )
    return out, warnings


def _mean_by(values: Array, member: NDArray[np.int64], count: Array) -> Array:
    """Mean of `values` at each distinct size."""
    return np.asarray(np.bincount(member, weights=values) / count)
