"""Columns as checked float64 arrays, whatever the table came as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.laws.registry import LAWS

if TYPE_CHECKING:
    import pandas as pd


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


def usable(frame: pd.DataFrame, kept: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Columns that laws may read, and notes on those that some rows lack.

    A column that is an input of some law but is missing, text or not positive in some rows is left out, and with it the
    laws that read it.
    """
    import pandas as pd

    inputs = {name for law in LAWS.values() for name in law.inputs}
    data: dict[str, Any] = {}
    notes = []
    for name in map(str, frame.columns):
        column = frame[name]
        if name not in inputs or name in kept:
            data[name] = column.to_numpy()
            continue
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        good = np.isfinite(numbers) & (numbers > 0)
        if good.all():
            data[name] = numbers
        elif good.any() and name != "curve":
            notes.append(f"{name} is not used: it is no positive number in {int((~good).sum())} of {good.size} rows")
        elif name == "curve":
            data[name] = column.to_numpy()
    return data, notes
