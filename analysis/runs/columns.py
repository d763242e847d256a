"""Columns as checked float64 arrays, whatever the table came as, and N, D and C from any two of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.registry import LAWS
from analysis.runs.expressions import evaluate, nearest

if TYPE_CHECKING:
    import pandas as pd

COUNTS = ("params", "tokens", "flops")
"""N, D and C: C = 6 N D gives one of them from the other two."""
SYNONYMS = {
    "params": ("n", "num_params", "n_params", "param_count", "model size", "model_size", "parameters", "params_total"),
    "tokens": ("d", "t", "num_tokens", "n_tokens", "training tokens", "data"),
    "flops": ("c", "compute", "training flop", "training flops", "training_flops", "flop", "budget"),
    "loss": ("l", "val_loss", "validation loss", "final_loss", "test_loss", "eval_loss"),
}
"""Other people's names for our columns, lower case: used for hints in messages only, never silently."""


def as_columns(data: Mapping[str, Any] | pd.DataFrame, names: Iterable[str] | None = None) -> dict[str, Any]:
    """The columns of a mapping or frame by their names as text.

    Parameters
    ----------
    data : mapping or DataFrame
        Columns by name.
    names : iterable of str, optional
        The columns that are wanted; all by default.

    Returns
    -------
    dict
        Columns by name: arrays where `data` is a frame, else the values of the mapping as they are.
    """
    wanted: list[Any] = list(data) if names is None else list(names)
    return {str(name): _plain(data[name]) for name in wanted}


def _plain(column: Any) -> Any:
    return column.to_numpy() if hasattr(column, "to_numpy") else column


def completed(columns: Mapping[str, Any], wanted: Collection[str] = COUNTS) -> dict[str, Any]:
    """Params, tokens and flops from any two of them, by C = 6 N D.

    Parameters
    ----------
    columns : mapping
        Columns by name.
    wanted : collection of str
        Which of the three may be added. A count that is there already stays as it is.

    Returns
    -------
    dict
        The columns, and the missing count where the other two are there.

    Raises
    ------
    UserError
        When one of the two is missing, infinite or not positive in some row.
    """
    out = dict(columns)
    for name in COUNTS:
        others = [other for other in COUNTS if other != name]
        if name in wanted and name not in out and all(other in out for other in others):
            out[name] = count_from(name, {other: checked(out, other, positive=True) for other in others})
    return out


def count_from(name: str, columns: Mapping[str, Any]) -> Any:
    """One of params, tokens and flops from the other two: C = 6 N D (Kaplan et al. 2020, section 2.1).

    Parameters
    ----------
    name : str
        The count that is wanted.
    columns : mapping
        The other two, as arrays or Series.

    Returns
    -------
    array or Series
        The count, row by row.
    """
    if name == "flops":
        return 6 * columns["params"] * columns["tokens"]
    other = "params" if name == "tokens" else "tokens"
    return columns["flops"] / (6 * columns[other])


def checked(data: Mapping[str, Any], name: str, *, positive: bool) -> Array:
    """One column as float64.

    Parameters
    ----------
    data : mapping
        Columns by name.
    name : str
        The column.
    positive : bool
        Whether every value must be above zero.

    Returns
    -------
    Array, shape (n,)
        The column; a single number becomes one row.

    Raises
    ------
    UserError
        When the column is absent, or when values are missing, infinite, text or not positive; the message names the
        first such rows, counted from 1.
    """
    if name not in data:
        raise UserError(f"there is no column {name!r}; name it, e.g. --columns {name}=COLUMN")
    raw = np.atleast_1d(np.asarray(data[name]))
    if raw.ndim != 1:
        raise UserError(f"column {name!r} has {raw.ndim} dimensions; give one number per run")
    try:
        column = raw.astype(np.float64)
    except (TypeError, ValueError):
        bad = [i + 1 for i, value in enumerate(raw) if not _is_number(value)]
        raise UserError(f"{name} is not a number in row {_listed(bad)}; fix those cells") from None
    for broken, what in ((np.isnan(column), "missing"), (np.isinf(column), "infinite")):
        if broken.any():
            rows = (np.flatnonzero(broken) + 1).tolist()
            raise UserError(f"{name} is {what} in row {_listed(rows)}; fix or leave out those rows")
    if positive and (column <= 0).any():
        hint = "; use --residuals raw, or leave those rows out"
        hint = hint if name in ("loss", "error") else "; fix or leave out those rows"
        rows = (np.flatnonzero(column <= 0) + 1).tolist()
        raise UserError(f"{name} is not positive in row {_listed(rows)}{hint}")
    return np.asarray(column)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _listed(rows: Sequence[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:5])
    return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def usable(frame: pd.DataFrame, kept: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The columns that laws may read.

    A column that is an input of some law but is missing, text or not positive in some rows is left out, and with it the
    laws that read it.

    Parameters
    ----------
    frame : DataFrame
        Rows to be fitted.
    kept : collection of str
        Columns that were checked before and are taken as they are.

    Returns
    -------
    columns : dict
        Columns by name.
    notes : list of str
        One sentence for each column that was left out because some rows lack it.
    """
    import pandas as pd

    inputs = {name for law in LAWS.values() for name in law.inputs}
    positive = {name for law in LAWS.values() for name in law.inputs if name not in law.zero_inputs}
    data: dict[str, Any] = {}
    notes = []
    for name in map(str, frame.columns):
        column = frame[name]
        if name not in inputs or name in kept:
            data[name] = column.to_numpy()
            continue
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        good = np.isfinite(numbers) & ((numbers > 0) | ((numbers == 0) & (name not in positive)))
        if good.all():
            data[name] = numbers
        elif good.any() and name != "curve":
            notes.append(f"{name} is not used: it is no positive number in {int((~good).sum())} of {good.size} rows")
        elif name == "curve":
            data[name] = column.to_numpy()
    return data, notes


def rename_columns(frame: pd.DataFrame, mapping: Mapping[str, str], *, path: Path) -> pd.DataFrame:
    """Add our names beside the table's.

    Parameters
    ----------
    frame : DataFrame
        Rows as they were read.
    mapping : mapping
        Our names to the table's, or to an expression over them such as `size_M*1e6`.
    path : Path
        The file, for the message.

    Returns
    -------
    DataFrame
        The rows with our names added; a column of ours that the mapping overrides is kept as `NAME (original)`.

    Raises
    ------
    UserError
        When the table lacks a column that the mapping names.
    """
    theirs = {str(name): column for name, column in frame.items()}
    renamed = frame.copy(deep=False)
    for ours, column in mapping.items():
        values = theirs[column] if column in theirs else _computed(ours, column, frame, path)
        if ours in theirs and column != ours and ours not in {"row", "source"}:
            renamed[f"{ours} (original)"] = theirs[ours]
        renamed[ours] = values
    return renamed


def _computed(ours: str, expression: str, frame: pd.DataFrame, path: Path) -> pd.Series:
    """A column computed from the table's, such as `size_M*1e6`."""
    if not any(sign in expression for sign in "*/+-`("):
        raise UserError(
            f"{path} has no column {expression!r} for {ours}{nearest(expression, map(str, frame.columns))}; "
            "fix --columns"
        )
    try:
        return evaluate(expression, frame)
    except UserError as error:
        raise UserError(f"--columns {ours}={expression} cannot be computed from {path}: {error}") from error


def missing_column(name: str, frame: pd.DataFrame, *, path: Path, what: str | None = None) -> UserError:
    """The error for a table that lacks a column.

    Parameters
    ----------
    name : str
        Our name of the column.
    frame : DataFrame
        Rows of the table, among whose columns the likeliest is looked for.
    path : Path
        The file.
    what : str, optional
        What to say instead of the name.

    Returns
    -------
    UserError
        To be raised.
    """
    present = {str(column).lower(): str(column) for column in frame.columns if column not in {"row", "source"}}
    guesses = [present[word] for word in SYNONYMS.get(name, ()) if word in present]
    near = f" (is it {guesses[0]!r}?)" if guesses else nearest(name, present.values())
    example = guesses[0] if guesses else "COLUMN"
    return UserError(f"{path} has no column {what or repr(name)}{near}; name yours with --columns {name}={example}")
