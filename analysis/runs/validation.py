"""What makes a row valid: required columns, numbers in them, and their ranges. It must not know how files are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.runs.columns import missing_column
from analysis.runs.files import row_names

POSITIVE_COUNTS = ("params", "tokens", "flops", "width", "depth", "unique_tokens", "vocab", "batch")
"""Columns that count something: their values are above zero."""
OTHER_COUNT = {"tokens": "flops", "flops": "tokens"}
"""Which column stands in for a missing one, by C = 6 N D, where params are required too."""
SHORT = r"^([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([kKmMbBgGtT])$"
"""A count as people write it: a number and a letter."""
FACTORS = {"K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
"""What the letter stands for."""
MIN_PARAMS = 1000.0
"""Models of fewer parameters are taken for a slip of units."""
MAX_DECADES_OFF = 1.2
"""How far, in powers of ten, counted FLOPs may differ from 6 N D when units are judged."""
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
    if name in POSITIVE_COUNTS and bool(text.any()):
        values = values.fillna(_written_short(column[text]))
        text = values.isna() & column.notna()
    if strict and bool(text.any()):
        example = column[text].iloc[0]
        raise UserError(
            f"{name} is not a number in {_first_rows(frame, text)} ({example!r}); fix the cells or use --where"
        )
    return values


def _written_short(column: pd.Series) -> pd.Series:
    """Values written as people write them, such as 7B, 1.4T or 300M; what is no such text is missing."""
    parts = column.astype(str).str.strip().str.extract(SHORT)
    return pd.to_numeric(parts[0], errors="coerce") * parts[1].str.upper().map(FACTORS).astype("float64")


def check_magnitudes(frame: pd.DataFrame) -> None:
    """Refuse counts that no training run has, which are mostly given in thousands, millions or billions.

    Parameters
    ----------
    frame : DataFrame
        Rows with any of params, tokens and flops as float64.

    Raises
    ------
    UserError
        When the three disagree by a factor of 1e3, 1e6, 1e9 or 1e12 in every row, or all sizes are below
        MIN_PARAMS; the message says what to write.
    """
    _check_disagreement(frame)
    if "params" in frame.columns and len(frame) and float(frame["params"].max()) < MIN_PARAMS:
        largest = float(frame["params"].max())
        raise UserError(
            f"params is at most {largest:g}, and no model is that small; if they are millions, write "
            "--columns 'params=COLUMN*1e6'"
        )


def _check_disagreement(frame: pd.DataFrame) -> None:
    """Refuse params, tokens and flops that disagree by the same factor of 1e3, 1e6, 1e9 or 1e12 in every row."""
    if not {"params", "tokens", "flops"} <= set(frame.columns):
        return
    ratio = np.log10(frame["flops"] / (6 * frame["params"] * frame["tokens"]))
    ratio = ratio[np.isfinite(ratio)]
    if not len(ratio):
        return
    power = 3 * round(float(ratio.median()) / 3)
    if power and bool((np.abs(ratio - power) < MAX_DECADES_OFF).all()):
        few = ("params or tokens are", "params=COLUMN*1e") if power > 0 else ("flops are", "flops=COLUMN*1e")
        raise UserError(
            f"flops is about 1e{power} times 6 params tokens in every row: {few[0]} likely given in units of "
            f"1e{abs(power)}; write --columns '{few[1]}{abs(power)}'"
        )


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
        raise UserError(f"{name} is infinite in {where}; fix it or leave the rows out, e.g. --where '{name} < 1e99'")
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
            f"{name} is not positive in {_first_rows(frame, low)}; fix it or leave the rows out with --where"
        )


def _first_rows(frame: pd.DataFrame, mask: pd.Series) -> str:
    """The names of the first bad rows, and how many more there are."""
    names = row_names(frame[mask].head(SHOWN_ROWS))
    more = int(mask.sum()) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
