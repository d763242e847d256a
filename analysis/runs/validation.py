"""What makes a row valid: required columns, numbers in them, and their ranges. It must not know how files are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.runs.files import missing_column, row_names

POSITIVE_COUNTS = ("params", "tokens", "flops", "width", "depth", "unique_tokens", "vocab", "batch")
"""Columns that count something: their values are above zero."""
OTHER_COUNT = {"tokens": "flops", "flops": "tokens"}
"""Which column stands in for a missing one, by C = 6 N D, where params are required too."""
SHOWN_ROWS = 5
"""Bad rows that a message names."""


def check_columns(frame: pd.DataFrame, required: Sequence[str], *, path: Path) -> set[str]:
    """Look for the required columns of one file.

    Parameters
    ----------
    frame : DataFrame
        Rows of the file under our names.
    required : sequence of str
        Columns that must be there. Of tokens and flops one is enough where params is required too.
    path : Path
        The file, for the message.

    Returns
    -------
    set of str
        Required counts that are absent and follow from the others.

    Raises
    ------
    UserError
        When a required column is absent and does not follow from the others.
    """
    derived = set()
    for name in required:
        if name in frame.columns:
            continue
        other = OTHER_COUNT.get(name)
        if other is None:
            raise missing_column(name, frame, path=path)
        if other not in frame.columns:
            raise missing_column(name, frame, path=path, what=f"{name!r}, nor {other!r}")
        if "params" not in required:
            raise missing_column(name, frame, path=path)
        derived.add(name)
    return derived


def numbers(frame: pd.DataFrame, name: str, *, strict: bool) -> pd.Series:
    """One column as float64.

    Parameters
    ----------
    frame : DataFrame
        Rows, with the columns `row` and `source`.
    name : str
        The column.
    strict : bool
        Whether text is an error; otherwise it becomes a missing value.

    Returns
    -------
    Series of float64
        The column on the index of `frame`.

    Raises
    ------
    UserError
        When cells are text and `strict` is set; the message names the rows.
    """
    column = frame[name]
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    text = values.isna() & column.notna()
    if strict and bool(text.any()):
        example = column[text].iloc[0]
        raise UserError(
            f"{name} is not a number in {_first_rows(frame, text)} ({example!r}); mend the cells or use --where"
        )
    return values


def check_range(frame: pd.DataFrame, name: str, *, allow_nonpositive_loss: bool) -> None:
    """Refuse missing, infinite and non-positive values of a required column.

    Parameters
    ----------
    frame : DataFrame
        Rows, with the columns `row` and `source`.
    name : str
        The column, as float64.
    allow_nonpositive_loss : bool
        Whether a loss may be zero or negative, as raw residuals allow.

    Raises
    ------
    UserError
        When a value is out of range; the message names the rows.
    """
    column = frame[name]
    if bool(column.isna().any()):
        where = _first_rows(frame, column.isna())
        raise UserError(
            f"{name} is missing in {where}; fill it in or leave the rows out, e.g. --where '{name} == {name}'"
        )
    infinite = ~np.isfinite(column)
    if bool(infinite.any()):
        where = _first_rows(frame, infinite)
        raise UserError(f"{name} is infinite in {where}; mend it or leave the rows out, e.g. --where '{name} < 1e99'")
    low = column <= 0
    if not bool(low.any()):
        return
    if name == "loss" and not allow_nonpositive_loss:
        raise UserError(
            f"loss is not positive in {_first_rows(frame, low)}, which log residuals need; use --residuals raw or "
            "leave the rows out"
        )
    if name in POSITIVE_COUNTS:
        raise UserError(
            f"{name} is not positive in {_first_rows(frame, low)}; mend it or leave the rows out with --where"
        )


def _first_rows(frame: pd.DataFrame, mask: pd.Series) -> str:
    """The names of the first bad rows, and how many more there are."""
    names = row_names(frame[mask].head(SHOWN_ROWS))
    more = int(mask.sum()) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
