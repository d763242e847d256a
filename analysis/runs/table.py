"""Tables of runs -> one validated RunTable with quality flags and reasons.

Owns which rows are kept, which are left out and why, which are flagged, and which counting conventions the columns
follow. It must not know laws or figures. Losses are nats per token, N, D and C plain counts, everything float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.runs.expressions import select_rows
from analysis.runs.files import missing_column, read_rows, rename_columns
from analysis.runs.flags import quality_flags

DEFAULT_REQUIRED = ("params", "tokens", "flops", "loss")
"""What most laws need; one of tokens and flops suffices."""


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

    def subset(self, mask: pd.Series | np.ndarray) -> RunTable:
        """The table with only the kept rows where `mask` holds; exclusions, conventions and notes stay."""
        chosen = np.asarray(mask, dtype=bool)
        frame = self.frame[chosen].reset_index(drop=True)
        flags = self.flags[chosen].reset_index(drop=True)
        return RunTable(
            frame=frame, excluded=self.excluded, flags=flags, conventions=self.conventions, notes=self.notes
        )

    def row_name(self, index: int) -> str:
        """How a kept row is named in messages and tables: its run_id, or `row 7 of runs`."""
        return row_names(self.frame.iloc[[index]])[0]


def row_names(frame: pd.DataFrame) -> list[str]:
    """`run_id` where there is one, else `row 7 of runs`."""
    if "run_id" in frame.columns and frame["run_id"].notna().all():
        return [f"run {value}" for value in frame["run_id"]]
    return [f"row {row} of {source}" for row, source in zip(frame["row"], frame["source"], strict=True)]


def load_tables(
    paths: Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    drop_largest_losses: int = 0,
    *,
    required: Sequence[str] = DEFAULT_REQUIRED,
    allow_nonpositive_loss: bool = False,
    min_rows: int = 2,
) -> RunTable:
    """Read, concatenate and validate tables of runs.

    Parameters
    ----------
    paths : CSV or Parquet files, sweep manifests (`sweeps/NAME.json`) or run stores.
    columns : our name -> theirs.
    where : keeps the rows for which the expression holds; it sees our names and theirs.
    drop_largest_losses : how many of the largest losses to leave out, after `where`.
    required : columns of numbers that must be there, finite, and positive where they count something. Of tokens and
        flops one is enough when params is required too: C = 6 N D gives the other.
    allow_nonpositive_loss : set with raw residuals, where a loss may be zero or negative.
    min_rows : fewest rows that must remain.

    Raises
    ------
    UserError
        One sentence that names the file, the rows or columns, and what to do.
    """
    if not paths:
        raise UserError("no table was given; name one or more CSV or Parquet files or a sweep manifest")
    parts: list[pd.DataFrame] = []
    derived: set[str] = set()
    for path in map(Path, paths):
        part = rename_columns(read_rows(path), columns or {}, path=path)
        for name in required:
            if name in part.columns:
                continue
            other = {"tokens": "flops", "flops": "tokens"}.get(name)
            if other is None:
                raise missing_column(name, part, path=path)
            if other not in part.columns or "params" not in required:
                raise missing_column(
                    name, part, path=path, what=f"{name!r}, nor {other!r}" if other not in part.columns else None
                )
            derived.add(name)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0].reset_index(drop=True)

    excluded: list[pd.DataFrame] = []
    notes: list[str] = []
    if "status" in frame.columns:
        undone = frame["status"].notna() & ~frame["status"].isin(["done"])
        if bool(undone.any()) and bool((~undone).any()):
            reasons = [
                f"status {status}" + (f": {reason}" if isinstance(reason, str) and reason else "")
                for status, reason in zip(
                    frame["status"], frame.get("reason", pd.Series([None] * len(frame))), strict=True
                )
            ]
            frame = _exclude(frame, undone, pd.Series(reasons, index=frame.index), excluded)
    if where:
        frame = _exclude(frame, ~select_rows(where, frame), f"--where {where}", excluded)
        if frame.empty:
            raise UserError(f"--where {where!r} leaves no row of {sum(map(len, parts))}; loosen it")
    frame = frame.copy()
    present = [name for name in dict.fromkeys([*required, "params", "tokens", "flops"]) if name in frame.columns]
    for name in present:
        frame[name] = _numbers(frame, name, strict=name in required)
    for name in [name for name in present if name in required]:
        _check_range(frame, name, allow_nonpositive_loss=allow_nonpositive_loss)
    for name in sorted(derived):
        filled = frame["flops"] / (6 * frame["params"]) if name == "tokens" else 6 * frame["params"] * frame["tokens"]
        frame[name] = filled if name not in frame.columns else frame[name].fillna(filled)
        notes.append("tokens = flops / (6 params)" if name == "tokens" else "flops = 6 params tokens")
    if drop_largest_losses < 0:
        raise UserError(f"--drop-largest-losses {drop_largest_losses} is negative; give a count such as 5")
    if drop_largest_losses and "loss" not in frame.columns:
        raise UserError(
            "--drop-largest-losses needs a column loss; leave it out, or name one with --columns loss=COLUMN"
        )
    if drop_largest_losses:
        largest = frame["loss"].rank(method="first", ascending=False) <= drop_largest_losses
        frame = _exclude(frame, largest, f"one of the {drop_largest_losses} largest losses", excluded)
    out = pd.concat(excluded, ignore_index=True) if excluded else frame.iloc[:0].assign(excluded_because="")
    if len(frame) < min_rows:
        left_out = f" of {len(frame) + len(out)} ({len(out)} left out)" if len(out) else ""
        rows = "1 row is" if len(frame) == 1 else f"{len(frame)} rows are"
        raise UserError(f"{rows} left{left_out}, and at least {min_rows} are needed; give more runs or loosen --where")
    if len(out):
        counts = out["excluded_because"].value_counts(sort=False)
        notes += [f"{count} row{'s' if count > 1 else ''} left out: {reason}" for reason, count in counts.items()]
    frame = frame.reset_index(drop=True)
    flags = quality_flags(frame)
    if bool((flags != "").any()):
        notes.append(f"{int((flags != '').sum())} of {len(frame)} rows flagged")
    return RunTable(
        frame=frame,
        excluded=out,
        flags=flags,
        conventions=_conventions(frame, columns or {}, derived),
        notes=tuple(notes),
    )


def _exclude(
    frame: pd.DataFrame, mask: pd.Series, reason: str | pd.Series, excluded: list[pd.DataFrame]
) -> pd.DataFrame:
    """Move the rows of `mask` to `excluded` with their reason and return the others."""
    if bool(mask.any()):
        excluded.append(frame[mask].assign(excluded_because=reason if isinstance(reason, str) else reason[mask]))
    return frame[~mask]


def _first_rows(frame: pd.DataFrame, mask: pd.Series, count: int = 5) -> str:
    """The names of the first bad rows, and how many more there are."""
    names = row_names(frame[mask].head(count))
    more = int(mask.sum()) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _numbers(frame: pd.DataFrame, name: str, *, strict: bool) -> pd.Series:
    """The column as float64; UserError names the rows whose cells are text."""
    column = frame[name]
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    text = numbers.isna() & column.notna()
    if strict and bool(text.any()):
        example = column[text].iloc[0]
        raise UserError(
            f"{name} is not a number in {_first_rows(frame, text)} ({example!r}); mend the cells or use --where"
        )
    return numbers


def _check_range(frame: pd.DataFrame, name: str, *, allow_nonpositive_loss: bool) -> None:
    """UserError for missing, infinite and non-positive values of a required column."""
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
    if name == "loss":
        if not allow_nonpositive_loss and bool((column <= 0).any()):
            where = _first_rows(frame, column <= 0)
            raise UserError(
                f"loss is not positive in {where}, which log residuals need; use --residuals raw or leave the rows out"
            )
    elif name in {"params", "tokens", "flops", "width", "depth", "unique_tokens", "vocab", "batch"} and bool(
        (column <= 0).any()
    ):
        raise UserError(
            f"{name} is not positive in {_first_rows(frame, column <= 0)}; mend it or leave the rows out with --where"
        )


def _conventions(frame: pd.DataFrame, columns: Mapping[str, str], derived: set[str]) -> dict[str, str]:
    """Which N and which C the table holds, in words that every output repeats."""
    ours = {"params", "params_total", "params_non_embedding"} <= set(frame.columns)
    params = (
        "params_non_embedding + untied head"
        if ours and "params" not in columns
        else f"column {columns.get('params', 'params')!r} as given"
    )
    out = {"params": params}
    if "params" in frame.columns and "tokens" in frame.columns and "flops" in frame.columns:
        ratio = frame["flops"] / (6 * frame["params"] * frame["tokens"])
        if derived or bool((abs(ratio - 1) < 0.01).all()):
            out["flops"] = "6ND"
        else:
            out["flops"] = "counted" if "flops_6nd" in frame.columns else "as given"
    elif "flops" in frame.columns:
        out["flops"] = "as given"
    if "tokens" in frame.columns:
        out["tokens"] = "flops / (6 params)" if "tokens" in derived else f"column {columns.get('tokens', 'tokens')!r}"
    return out
