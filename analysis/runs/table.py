"""Tables of runs -> one validated RunTable with quality flags and reasons.

Owns which rows are kept and which are left out, and why. What makes a row valid is in validation.py, what is unusual in
flags.py, and how N and C are counted in conventions.py. It must not know laws or figures. Losses are nats per token;
N, D and C are plain counts; every number is float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.formatting import counted
from analysis.runs.columns import COUNTS, count_from, rename_columns
from analysis.runs.conventions import conventions_of
from analysis.runs.expressions import select_rows
from analysis.runs.files import read_rows, row_names
from analysis.runs.flags import exact_copies, quality_flags, repeated_runs
from analysis.runs.validation import check_columns, check_magnitudes, check_range, numbers

DEFAULT_REQUIRED = (*COUNTS, "loss")
"""What most laws need; one of tokens and flops suffices."""
HELD_OUT = "held out by its sweep (--include-heldout fits it)"
"""Why a held-out run is left out of a fit."""
COPY = "exact copy of an earlier row (--keep-copies keeps it)"
"""Why a copy is left out."""
REPEATED = "the same run stands in an earlier row"
"""Why a further row of a run is left out."""
SHOWN_FLAGS = 5
"""Flagged rows that a note names."""
SHOWN_COLUMNS = ("params", "tokens", "flops", "loss")
"""Columns that a notebook shows of a table."""
SHOWN_ROWS = 10
"""Rows that a notebook shows of a table."""


@dataclass(frozen=True, kw_only=True)
class RowRules:
    """Which rows of a table are valid, and which of the valid ones are kept."""

    allow_nonpositive_loss: bool = False
    """Whether a loss may be zero or negative, as raw residuals allow."""
    min_rows: int = 2
    """Fewest rows that must remain."""
    keep_copies: bool = False
    """Whether exact copies of a row count once more."""
    include_heldout: bool = True
    """Whether runs that their sweep holds out are kept. Fits leave them out; reports predict them."""


@dataclass(frozen=True, kw_only=True)
class RunTable:
    """Runs that may be fitted, runs that were left out, and what is known about both."""

    frame: pd.DataFrame
    """Kept rows on a fresh index: params, tokens, flops, loss (float64) and every other column; `source` and `row`
    say where from."""
    excluded: pd.DataFrame
    """Rows left out, with the reason in the column `excluded_because`."""
    flags: pd.Series
    """Per kept row a text that says what is unusual about it; empty when nothing is."""
    conventions: Mapping[str, str]
    """`params`: which N; `flops`: "counted", "6ND" or "as given"; `tokens`: how D was had."""
    notes: tuple[str, ...] = ()
    """Messages for the reader: what was derived, left out and flagged, with counts."""

    def subset(self, mask: pd.Series | NDArray[np.bool_]) -> RunTable:
        """The table with only some of its kept rows.

        Parameters
        ----------
        mask : Series or array of bool, shape (n,)
            Rows that stay.

        Returns
        -------
        RunTable
            Those rows on a fresh index; what was left out, conventions and notes are the same.
        """
        chosen = np.asarray(mask, dtype=bool)
        frame = self.frame[chosen].reset_index(drop=True)
        return replace(self, frame=frame, flags=self.flags[chosen].reset_index(drop=True))

    def __repr__(self) -> str:
        flagged = int((self.flags != "").sum())
        return f"RunTable({len(self.frame)} runs, {len(self.excluded)} left out, {flagged} flagged)"

    def _repr_html_(self) -> str:
        """The first rows and the notes, for notebooks."""
        names = [name for name in SHOWN_COLUMNS if name in self.frame.columns]
        shown = self.frame.head(SHOWN_ROWS)[names].assign(flags=self.flags.head(SHOWN_ROWS))
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        rows = shown.to_html(border=0, float_format=lambda value: f"{value:.5g}")
        return f"<p>{escape(repr(self))}</p>{rows}" + (f"<ul>{notes}</ul>" if notes else "")


class _Sieve:
    """Rows on their way through validation: those that are kept so far, and those that were left out, with reasons."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.kept = frame
        self.parts: list[pd.DataFrame] = []

    def leave_out(self, mask: pd.Series, reason: str | pd.Series) -> None:
        """Move the rows of `mask` to those left out, with one reason or one for each row."""
        if bool(mask.any()):
            because = reason if isinstance(reason, str) else reason[mask]
            self.parts.append(self.kept[mask].assign(excluded_because=because))
        self.kept = self.kept[~mask]

    @property
    def excluded(self) -> pd.DataFrame:
        """All rows that were left out."""
        if not self.parts:
            return self.kept.iloc[:0].assign(excluded_because="")
        return pd.concat(self.parts, ignore_index=True)


def load_tables(
    paths: Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    drop_largest_losses: int = 0,
    *,
    required: Sequence[str] = DEFAULT_REQUIRED,
    rules: RowRules | None = None,
) -> RunTable:
    """Read, concatenate and validate tables of runs.

    Parameters
    ----------
    paths : sequence of str or Path
        CSV or Parquet files, sweep manifests (`sweeps/NAME.json`) or run stores.
    columns : mapping, optional
        Our names to theirs.
    where : str, optional
        Keeps the rows for which the expression holds; it sees our names and theirs.
    drop_largest_losses : int
        How many of the largest losses to leave out, after `where`.
    required : sequence of str
        Columns of numbers that must be there, finite, and positive where they count something. Of tokens and flops one
        is enough when params is required too: C = 6 N D gives the other.
    rules : RowRules, optional
        Which rows are valid and which are kept.

    Returns
    -------
    RunTable
        Kept rows, rows left out, flags, conventions and notes.

    Raises
    ------
    UserError
        One sentence that names the file, the rows or columns, and what to do.
    """
    columns, rules = columns or {}, rules or RowRules()
    frame, derived = _read(paths, columns, required)
    sieve = _Sieve(frame)
    sieve.leave_out(repeated_runs(sieve.kept), REPEATED)
    if not rules.keep_copies:
        sieve.leave_out(exact_copies(sieve.kept), COPY)
    _leave_out_undone(sieve)
    if not rules.include_heldout and "role" in sieve.kept.columns:
        sieve.leave_out(sieve.kept["role"].astype(str) == "heldout", HELD_OUT)
    if where:
        sieve.leave_out(~select_rows(where, sieve.kept), f"--where {where}")
        if sieve.kept.empty:
            raise UserError(f"--where {where!r} leaves no row of {len(frame)}; loosen it")
    sieve.kept = _validated(sieve.kept, required, allow_nonpositive_loss=rules.allow_nonpositive_loss)
    notes = _fill_in(sieve.kept, derived)
    _leave_out_largest(sieve, drop_largest_losses)
    excluded = sieve.excluded
    _check_rows_left(len(sieve.kept), len(excluded), rules.min_rows)
    check_magnitudes(sieve.kept)
    if len(excluded):
        counts = excluded["excluded_because"].value_counts(sort=False)
        notes += [f"{counted(count, 'row')} left out: {reason}" for reason, count in counts.items()]
    kept = sieve.kept.reset_index(drop=True)
    flags = quality_flags(kept)
    notes += _flag_notes(kept, flags)
    return RunTable(
        frame=kept,
        excluded=excluded,
        flags=flags,
        conventions=conventions_of(kept, columns, derived),
        notes=tuple(notes),
    )


def _flag_notes(frame: pd.DataFrame, flags: pd.Series) -> list[str]:
    """One line for all flagged rows, with the names and reasons of the first."""
    flagged = flags != ""
    count = int(flagged.sum())
    if not count:
        return []
    first = zip(row_names(frame[flagged].head(SHOWN_FLAGS)), flags[flagged], strict=False)
    named = "; ".join(f"{name}: {reason}" for name, reason in first)
    more = f"; and {count - SHOWN_FLAGS} more" if count > SHOWN_FLAGS else ""
    return [f"{count} of {len(frame)} rows flagged: {named}{more}"]


def _read(
    paths: Sequence[str | Path], columns: Mapping[str, str], required: Sequence[str]
) -> tuple[pd.DataFrame, set[str]]:
    """All rows under our names, and the required counts that some file lacks."""
    if not paths:
        raise UserError("no table was given; name one or more CSV or Parquet files or a sweep manifest")
    parts: list[pd.DataFrame] = []
    derived: set[str] = set()
    for path in map(Path, paths):
        part = rename_columns(read_rows(path), columns, path=path)
        derived |= check_columns(part, required, path=path)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0].reset_index(drop=True)
    return frame, derived


def _leave_out_undone(sieve: _Sieve) -> None:
    """Leave out runs that did not end well, unless no run did."""
    frame = sieve.kept
    if "status" not in frame.columns:
        return
    undone = frame["status"].notna() & ~frame["status"].isin(["done"])
    if not bool(undone.any()) or bool(undone.all()):
        return
    given = frame.get("reason", pd.Series([None] * len(frame), index=frame.index))
    reasons = [
        f"status {status}" + (f": {reason}" if isinstance(reason, str) and reason else "")
        for status, reason in zip(frame["status"], given, strict=True)
    ]
    sieve.leave_out(undone, pd.Series(reasons, index=frame.index))


def _validated(frame: pd.DataFrame, required: Sequence[str], *, allow_nonpositive_loss: bool) -> pd.DataFrame:
    """A copy with required columns and counts as checked float64."""
    frame = frame.copy()
    present = [name for name in dict.fromkeys([*required, *COUNTS]) if name in frame.columns]
    for name in present:
        frame[name] = numbers(frame, name, strict=name in required)
    for name in present:
        if name in required:
            check_range(frame, name, allow_nonpositive_loss=allow_nonpositive_loss)
    return frame


def _fill_in(frame: pd.DataFrame, derived: set[str]) -> list[str]:
    """Add the derived counts where they are missing; returns a note for each."""
    notes = []
    for name in sorted(derived):
        filled = count_from(name, {other: frame[other] for other in COUNTS if other in frame.columns})
        frame[name] = filled if name not in frame.columns else frame[name].fillna(filled)
        notes.append("tokens = flops / (6 params)" if name == "tokens" else "flops = 6 params tokens")
    return notes


def _leave_out_largest(sieve: _Sieve, count: int) -> None:
    """Leave out the largest losses."""
    if count < 0:
        raise UserError(f"--drop-largest-losses {count} is negative; give a count such as 5")
    if not count:
        return
    if "loss" not in sieve.kept.columns:
        raise UserError(
            "--drop-largest-losses needs a column loss; leave it out, or name one with --columns loss=COLUMN"
        )
    largest = sieve.kept["loss"].rank(method="first", ascending=False) <= count
    sieve.leave_out(largest, f"one of the {count} largest losses")


def _check_rows_left(num_kept: int, num_excluded: int, min_rows: int) -> None:
    if num_kept >= min_rows:
        return
    left_out = f" of {num_kept + num_excluded} ({num_excluded} left out)" if num_excluded else ""
    rows = "1 row is" if num_kept == 1 else f"{num_kept} rows are"
    raise UserError(f"{rows} left{left_out}, and at least {min_rows} are needed; give more runs or loosen --where")
