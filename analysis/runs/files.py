"""Files of runs -> raw rows: CSV, Parquet, sweep manifests and run stores.

Knows formats; must not know what makes a row valid.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import UserError
from analysis.runs.expressions import nearest
from experiments.archives import is_archive, read_archive
from experiments.manifests import read_records
from experiments.records import RunRecord, RunStatus, flat_row


def read_rows(path: Path) -> pd.DataFrame:
    """Read one table as it stands.

    Parameters
    ----------
    path : Path
        A CSV or Parquet file, a sweep manifest or a store's folder.

    Returns
    -------
    DataFrame
        The rows, with the columns `source` (the file's stem) and `row` (1 is the first row of data) added.

    Raises
    ------
    UserError
        When the file is absent, is of no known kind, is empty, is truncated, or names a column twice.
    """
    if not path.exists():
        near = nearest(path.name, [entry.name for entry in path.parent.glob("*")]) if path.parent.is_dir() else ""
        raise UserError(f"there is no file {path}{near}")
    source = path.stem
    if path.is_dir() or path.suffix == ".json":
        frame = _read_store(path)
    elif is_archive(path):
        archive = read_archive(path)
        frame, source = pd.DataFrame([flat_row(*run) for run in archive.labelled()]), archive.manifest.name
    elif path.suffix in {".parquet", ".pq"}:
        try:
            frame = pd.read_parquet(path)
        except (ValueError, OSError) as error:
            raise UserError(
                f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); write it again or give a CSV"
            ) from error
    elif path.suffix in {".csv", ".tsv", ".txt"}:
        frame = _read_csv(path)
    else:
        raise UserError(
            f"{path} is of no known kind; give a .csv or .parquet file, a sweep manifest .json or a store's folder"
        )
    if frame.empty:
        raise UserError(f"{path} holds no rows; give a table with a header line and one row per run")
    names = Counter(map(str, frame.columns))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UserError(f"{path} has the column {twice[0]!r} {names[twice[0]]} times; rename or delete the copies")
    frame.columns = pd.Index([str(name) for name in frame.columns])
    frame["row"] = range(1, len(frame) + 1)
    if "source" not in frame.columns:
        frame["source"] = source
    return frame


def read_labelled(path: Path) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Read the records behind a table, with the labels that the sweep gives them.

    Parameters
    ----------
    path : Path
        An archive, a sweep manifest or a store's folder; other tables have no records.

    Yields
    ------
    record : RunRecord
        A published run.
    labels : mapping
        What the sweep calls it.
    """
    if is_archive(path):
        yield from read_archive(path).labelled()
    elif path.is_dir() or path.suffix == ".json":
        yield from read_records(path)


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV or TSV file with one header line; pandas would rename copies of a column, so the header is read first."""
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream, delimiter=separator), [])
        twice = [name for name, count in Counter(header).items() if count > 1 and name]
        if twice:
            raise UserError(
                f"{path} has the column {twice[0]!r} {header.count(twice[0])} times; rename or delete the copies"
            )
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", dtype={"run_id": str})  # ids are hex digits
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty; give a table with a header line and one row per run") from error
    except (pd.errors.ParserError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as CSV ({str(error).strip()}); fix that line or write the file again"
        ) from error


def _read_store(path: Path) -> pd.DataFrame:
    """The published runs of a manifest or of a store's folder, one tidy row each, in the manifest's order."""
    if path.is_dir() and not (path / "runs").is_dir():
        raise UserError(
            f"{path} is a folder without runs/; give a store's folder, a manifest sweeps/NAME.json or a table"
        )
    records = list(read_records(path))
    statuses = [record.status for record, _ in records]
    if records and RunStatus.DONE not in statuses:
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
        first = next((record.reason for record, _ in records if record.reason), None)
        raise UserError(
            f"{path} has no finished run ({counts}{f'; the first: {first}' if first else ''}); lower "
            "recipe.rate_scale where runs diverged, and train again"
        )
    rows = [flat_row(record, labels) for record, labels in records]
    if not rows:
        raise UserError(f"{path} has no published run yet; train it with `isoflop run`")
    return pd.DataFrame(rows)


def row_names(frame: pd.DataFrame) -> list[str]:
    """How rows are named in messages: `run 0fb3ca03a9b3` where there is a run_id, else `row 7 of runs`."""
    if "run_id" in frame.columns and frame["run_id"].notna().all():
        return [f"run {value}" for value in frame["run_id"]]
    return [f"row {row} of {source}" for row, source in zip(frame["row"], frame["source"], strict=True)]
