"""Whether the report will understand what a sweep file holds out, asked before anything is trained. Torch-free.

`analysis.runs.expressions` owns the language and evaluates it; here only its names are looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from experiments.config.codec import suggestion
from experiments.config.counts import design_of
from experiments.config.designs import ExpandedSweep
from experiments.config.run import RunConfig
from experiments.errors import UserError
from experiments.records import OUTCOME_NUMBERS

ROW_NAMES = ("run_id", "status", "reason", "sweep", "source", "row", "trunk", "device", "precision", *OUTCOME_NUMBERS)
"""Columns that every row of a report has beside design and labels."""
_QUOTED = re.compile(r"`([^`]*)`")


def check_holdout(expanded: ExpandedSweep) -> None:
    """Refuse a `report.holdout` that the report could not read.

    Parameters
    ----------
    expanded : ExpandedSweep
        The runs, whose design and labels are the columns.

    Raises
    ------
    UserError
        When it is no expression, or names a column that the runs will not have.
    """
    report = getattr(expanded.sweep, "report", None)
    expression = None if report is None else report.holdout
    first = expanded.runs[0]
    if expression is None or not isinstance(first.config, RunConfig):
        return
    known = {*design_of(first.config, num_train_tokens=None), *ROW_NAMES}
    for run in expanded.runs:
        known |= set(run.labels)
    for name in _names(expression):
        if name not in known:
            raise UserError(f"report.holdout names {name!r}, which is no column of the runs; {suggestion(name, known)}")


def _names(expression: str) -> Iterable[str]:
    """Names of columns in an expression."""
    quoted = _QUOTED.findall(expression)
    try:
        tree = ast.parse(_QUOTED.sub("0", expression).strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"report.holdout is {expression!r}, which cannot be read ({getattr(error, 'msg', error)}); write such as "
            "flops > 1e17"
        ) from error
    return [*quoted, *(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))]
