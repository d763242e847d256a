"""What is unusual about a row: undecayed points, copies, repeated data, doubtful units, outliers.

Rows are flagged and never dropped. It knows residuals, no law.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.runs.columns import count_from

MAX_ROBUST_DEVIATIONS = 4.0
"""A run further from the law than this many robust standard deviations is an outlier ..."""
MAX_PLAIN_DEVIATIONS = 2.5
"""... when it is also this many plain standard deviations away: a law that runs through most points has tiny robust
ones."""
PLACE = ("source", "row", "sweep", "role", "budget")
"""Columns that say where a row stands, not what the run is."""
CURVE_COLUMN = "step"
"""Where it is there, rows are points of training curves, a file each: curves that begin alike are no copies."""
FALSE_WORDS = ("false", "no")
"""What a column of text says instead of 0, in lower case."""


def is_decayed(column: pd.Series) -> pd.Series:
    """Whether a run's learning rate had decayed when its loss was measured.

    Parameters
    ----------
    column : Series
        The column `decayed`: booleans, numbers (0 is false) or text ("false", "no", "0"). A missing value counts as
        decayed.

    Returns
    -------
    Series of bool
        On the index of `column`; False only where the column says so.
    """
    zero = pd.to_numeric(column, errors="coerce") == 0
    word = column.astype(str).str.strip().str.lower().isin(FALSE_WORDS)
    return ~(zero | word).astype(bool)


def outliers(residuals: Array, fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which fitted runs lie far from the law, by their residuals.

    Parameters
    ----------
    residuals : Array, shape (n,)
        Of log loss, or of loss.
    fitted : array of bool, shape (n,)
        Rows that the law was fitted to.

    Returns
    -------
    array of bool, shape (n,)
        Fitted rows that are more than MAX_ROBUST_DEVIATIONS and MAX_PLAIN_DEVIATIONS away.
    """
    inside = residuals[fitted]
    robust = 1.4826 * float(np.median(np.abs(inside - np.median(inside))))
    threshold = max(MAX_ROBUST_DEVIATIONS * robust, MAX_PLAIN_DEVIATIONS * float(inside.std()), 1e-12)
    return np.asarray(fitted & (np.abs(residuals) > threshold))


def quality_flags(frame: pd.DataFrame) -> pd.Series:
    """What is unusual about each row of a table.

    Parameters
    ----------
    frame : DataFrame
        Rows with any of params, tokens, flops, loss, seed, epochs and decayed.

    Returns
    -------
    Series of str
        Per row the findings joined by `; `: copies of earlier rows, units that do not fit, repeated data, undecayed
        points. Empty where nothing is unusual.
    """
    flags = pd.Series([""] * len(frame), index=frame.index, dtype=object)

    def add(mask: pd.Series, texts: str | Sequence[str]) -> None:
        rows = np.flatnonzero(mask.to_numpy(dtype=bool))
        for position in rows.tolist():
            text = texts if isinstance(texts, str) else texts[position]
            before = str(flags.iloc[position])
            flags.iloc[position] = f"{before}; {text}" if before else text

    kinds = frame["kind"] if "kind" in frame.columns else pd.Series("", index=frame.index)
    tuned = kinds == "finetune"  # passes over few examples, at the FLOPs of its method
    identity = [name for name in ("params", "tokens", "flops", "loss") if name in frame.columns]
    if len(identity) == 4:
        seed = ["seed"] if "seed" in frame.columns else []
        add(frame.duplicated(subset=[*identity, *seed]), "copy of an earlier row")
        ratio = frame["flops"] / count_from("flops", {name: frame[name] for name in ("params", "tokens")})
        add(((ratio > 30) | (ratio < 1 / 3)) & ~tuned, [f"flops / 6ND is {value:.2g}: check units" for value in ratio])
    if "epochs" in frame.columns:
        epochs = pd.to_numeric(frame["epochs"], errors="coerce").fillna(0.0)
        add((epochs > 1.0 + 1e-9) & ~tuned, [f"repeats its data {value:.2f} times" for value in epochs])
    if "decayed" in frame.columns:
        add(~is_decayed(frame["decayed"]), "learning rate not decayed")
    return flags


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
