"""Rows are runs: a run that two sweeps list counts once, and so does an exact copy of a row.

A run counted twice narrows every interval without adding anything. It must not know how tables are read.
"""

from __future__ import annotations

import pandas as pd

PLACE = ("source", "row", "sweep", "role", "budget")
"""Columns that say where a row stands, not what the run is."""
CURVE_COLUMN = "step"
"""Where it is there, rows are points of training curves, a file each: curves that begin alike are no copies."""


def repeated_runs(frame: pd.DataFrame) -> pd.Series:
    """Mark the rows whose run_id stood in an earlier row.

    Parameters
    ----------
    frame : DataFrame
        Rows of one or several tables.

    Returns
    -------
    Series of bool
        True for every further row of a run; all False where there is no run_id.
    """
    if "run_id" not in frame.columns:
        return pd.Series(False, index=frame.index)
    return frame["run_id"].notna() & frame.duplicated(subset=["run_id"])


def exact_copies(frame: pd.DataFrame) -> pd.Series:
    """Mark the rows that equal an earlier row in every column but those of their place.

    Parameters
    ----------
    frame : DataFrame
        Rows of one or several tables.

    Returns
    -------
    Series of bool
        True for every further copy; rows with a run_id are judged by it instead.
    """
    place = [name for name in PLACE if not (name == "source" and CURVE_COLUMN in frame.columns)]
    columns = [name for name in frame.columns if name not in place]
    if not columns:
        return pd.Series(False, index=frame.index)
    copies = frame.astype(dict.fromkeys(columns, str)).duplicated(subset=columns)
    return copies & frame["run_id"].isna() if "run_id" in frame.columns else copies
