"""The public face of the analysis: what a notebook needs, by name. Nothing inside the package imports it.

Tables come from `load_runs`; every other function takes such a table, or a fit of one, and returns a frozen result
that shows itself in a notebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from analysis.advice.compute_optimal import Optimum, check_law, compute_optimal
from analysis.advice.shapes import ShapeRules, ladder_of
from analysis.errors import UserError as UserError
from analysis.figures.fit import plot_fit as plot
from analysis.fitting.fit import Fit as Fit
from analysis.fitting.fit_law import fit_law as fit_columns
from analysis.fitting.fit_law import profile_law as profile_law
from analysis.frontiers.compare import compare_approaches as compare
from analysis.frontiers.envelope import fit_envelope as fit_envelope
from analysis.frontiers.isoflop_fit import fit_isoflop as fit_isoflop
from analysis.frontiers.parametric import parametric_frontier as frontier
from analysis.frontiers.recounted import CountedTable, compare_conventions
from analysis.laws.base import Law
from analysis.laws.registry import AUTO
from analysis.paired.best_rates import Tuned, tune
from analysis.paired.cells import make_cells, varying
from analysis.paired.gain import Multipliers
from analysis.paired.multiplier import compute_multiplier
from analysis.runs.columns import as_columns
from analysis.runs.table import DEFAULT_REQUIRED, RunTable, load_tables
from analysis.selection.auto import AutoFit as AutoFit
from analysis.selection.auto import fit_auto
from analysis.selection.select import SelectionResult
from analysis.selection.select import select_law as select_columns
from analysis.selection.tasks import TaskComparison
from analysis.selection.tasks import compare_tasks as compare_task_columns
from models.config.published_counts import Count, count_by_convention
from models.config.transformer import TransformerConfig

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AutoFit",
    "Fit",
    "RunTable",
    "UserError",
    "advise",
    "compare",
    "compare_tasks",
    "conventions",
    "fit_envelope",
    "fit_isoflop",
    "fit_law",
    "frontier",
    "load_runs",
    "multiplier",
    "plot",
    "profile_law",
    "select_law",
    "tuned",
]


def load_runs(
    *sources: str | Path,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    drop_largest_losses: int = 0,
    required: Sequence[str] = DEFAULT_REQUIRED,
) -> RunTable:
    """Read runs from tables, sweeps or stores.

    Parameters
    ----------
    *sources : path
        CSV or Parquet files, manifests (`sweeps/NAME.json`) or stores; several are concatenated.
    columns : mapping of str to str, optional
        Our names to those of the table, such as `{"params": "N", "tokens": "D"}`.
    where : str, optional
        Expression over the columns; rows for which it does not hold are left out, and counted.
    drop_largest_losses : int
        How many of the largest losses to leave out.
    required : sequence of str
        Columns that must be there. One of tokens and flops suffices (C = 6 N D).

    Returns
    -------
    RunTable
        Validated rows with quality flags, what was left out and why.

    Raises
    ------
    UserError
        For a file, a column or a row that cannot be used.
    """
    return load_tables(sources, columns, where, drop_largest_losses, required=required)


@overload
def fit_law(law: Literal["auto"], runs: RunTable | Mapping[str, Any] | pd.DataFrame, **options: Any) -> AutoFit: ...


@overload
def fit_law(law: str | Law, runs: RunTable | Mapping[str, Any] | pd.DataFrame, **options: Any) -> Fit: ...


def fit_law(law: str | Law, runs: RunTable | Mapping[str, Any] | pd.DataFrame, **options: Any) -> Fit | AutoFit:
    """Fit a scaling law to runs.

    Parameters
    ----------
    law : str or Law
        Such as "hoffmann"; `isoflop laws` lists them. "auto" fits every law that the columns allow and weighs them.
    runs : RunTable, DataFrame or mapping
        With the law's inputs and the loss in nats per token.
    **options
        Those of `analysis.fitting.fit_law.fit_law`: objective, residuals, weights, bootstrap, cluster, level, rng ...

    Returns
    -------
    Fit or AutoFit
        Parameters with intervals, what is not identified, predictions; of "auto" weights and predictions.

    Raises
    ------
    UserError
        For data that cannot be fitted.
    """
    if isinstance(runs, RunTable):
        options = {"conventions": runs.conventions} | options
    data = runs.frame if isinstance(runs, RunTable) else runs
    if law == AUTO:
        return fit_auto(data, **options)
    return fit_columns(law, data, **options)


def select_law(runs: RunTable | Mapping[str, Any], **options: Any) -> SelectionResult:
    """Rank laws by their error on larger runs than they were fitted to, and choose one.

    Parameters
    ----------
    runs : RunTable or mapping
        With the loss and the laws' inputs.
    **options
        Those of `analysis.selection.select.select_law`: laws, holdout, cluster, level, rng.

    Returns
    -------
    SelectionResult
        The ranking, the choice and its reason.

    Raises
    ------
    UserError
        For runs that cannot be split, or laws that the table cannot be fitted with.
    """
    if isinstance(runs, RunTable):
        numbers = runs.frame.select_dtypes("number")
        return select_columns({str(name): numbers[name] for name in numbers}, **options)
    return select_columns(runs, **options)


def compare_tasks(
    runs: RunTable | Mapping[str, Any] | pd.DataFrame, tasks: Sequence[str], held: Any, **options: Any
) -> TaskComparison:
    """Predict errors of larger runs straight from scale and by way of the loss; say which tasks are predictable.

    Parameters
    ----------
    runs : RunTable, DataFrame or mapping
        With params, tokens, loss and the tasks' errors.
    tasks : sequence of str
        Columns of errors, fractions of answers.
    held : array of bool
        The larger runs, which no fit sees.
    **options
        Those of `analysis.selection.tasks.compare_tasks`: loss_law, seed.

    Returns
    -------
    TaskComparison
        Side by side for each task, with a verdict.

    Raises
    ------
    UserError
        When a column is missing or too few runs are left.
    """
    return compare_task_columns(runs.frame if isinstance(runs, RunTable) else runs, tasks, held, **options)


def multiplier(
    runs: RunTable | Mapping[str, Any] | pd.DataFrame, arm: str, reference: str | None = None, **options: Any
) -> Multipliers:
    """Say how many times the compute the reference needs for each arm's loss.

    Parameters
    ----------
    runs : RunTable, DataFrame or mapping
        With the arm, loss and flops; with params and tokens, laws of both are fitted.
    arm : str
        The column that tells arms apart.
    reference : str, optional
        The arm that others are compared with; the first by default.
    **options
        Those of `analysis.paired.multiplier.compute_multiplier`: at, bootstrap, cluster, level, seed.

    Returns
    -------
    Multipliers
        Multipliers with intervals by budget, what becomes of them with scale, and which arm is best.

    Raises
    ------
    UserError
        When a column is missing, or fewer than two arms are there.
    """
    data = runs.frame if isinstance(runs, RunTable) else runs
    return compute_multiplier(as_columns(data), arm=arm, reference=reference, **options)


@overload
def conventions(counted: TransformerConfig) -> dict[str, Count]: ...
@overload
def conventions(counted: RunTable | Mapping[str, Any] | pd.DataFrame, **options: Any) -> CountedTable: ...
def conventions(
    counted: TransformerConfig | RunTable | Mapping[str, Any] | pd.DataFrame, **options: Any
) -> dict[str, Count] | CountedTable:
    """Count a shape, or the runs of a table, as papers and tools count them.

    Parameters
    ----------
    counted : TransformerConfig, RunTable, DataFrame or mapping
        One decoder; or runs with tokens, loss and their shapes (width, depth, heads, vocab, context).
    **options
        For runs, those of `analysis.frontiers.recounted.compare_conventions`: law, model, bootstrap, level, seed.

    Returns
    -------
    dict of Count, or CountedTable
        N and training FLOPs per token by convention; for runs, exponent, N_opt and tokens per parameter by convention.

    Raises
    ------
    UserError
        When the model is no decoder, or the runs do not say their shapes.
    """
    if isinstance(counted, TransformerConfig):
        return count_by_convention(counted)
    data = counted.frame if isinstance(counted, RunTable) else counted
    return compare_conventions(as_columns(data), **options)


def tuned(
    runs: RunTable | Mapping[str, Any] | pd.DataFrame, *, covariates: Sequence[str] | None = None, level: float = 0.95
) -> Tuned:
    """Say what the best peak rate of every cell is, and the law that these follow.

    Parameters
    ----------
    runs : RunTable, DataFrame or mapping
        With lr, loss and the covariates; runs that agree in these are one cell.
    covariates : sequence of str, optional
        By default those of params, tokens and batch that vary apart.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Tuned
        Best rates and the losses there with intervals, in ascending order of the covariates, and the law.

    Raises
    ------
    UserError
        When a column is missing, or no cell has rates that bracket its best.
    """
    data = as_columns(runs.frame if isinstance(runs, RunTable) else runs)
    return tune(make_cells(data, list(covariates or varying(data)))[0], level=level)


def advise(fit: Fit, budget: float, *, rules: ShapeRules | None = None) -> Optimum:
    """Say what a compute budget buys: the optimal size, tokens and loss, and shapes that exist about it.

    Parameters
    ----------
    fit : Fit
        Of a law of params and tokens.
    budget : float
        Training FLOPs of one run.
    rules : ShapeRules, optional
        How shapes are made; by default those of the fit's own runs.

    Returns
    -------
    Optimum
        N, D and loss with intervals, the nearest shapes, and a warning where the best one would take too few steps with
        the batch of the fit's runs.

    Raises
    ------
    UserError
        When the law has no frontier.
    """
    check_law(fit)
    return compute_optimal(fit, budget, ladder_of(fit, rules))
