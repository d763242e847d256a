"""Archives: a sweep's manifest, records and training curves in one Parquet file, small enough to be committed.

An archive stands for the sweep wherever a report is made: tables come out the same, byte for byte. It cannot be trained
on. One row a published run; the manifest is in the file's metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.config.yaml_text import read_yaml
from experiments.digests import line_has_changed
from experiments.errors import UserError
from experiments.files import write_atomic
from experiments.manifests import Manifest, parse_manifest, read_manifest, read_records, store_of
from experiments.records import RunRecord, parse_record

KEY = b"isoflop_manifest"
"""Where the file's metadata hold the manifest."""
CURVE = ("tokens", "train_loss")
"""What is kept of a run's metrics."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What an archive holds besides training curves, which `archive_curves` reads."""

    manifest: Manifest
    """The sweep, without the segments that were left to train when it was written."""
    records: tuple[RunRecord, ...]
    """Published runs in the manifest's order."""

    def labelled(self) -> list[tuple[RunRecord, Mapping[str, Any]]]:
        """Records with the labels that the manifest gives them, as `manifests.read_records` gives them."""
        name = self.manifest.name
        return [(record, {"sweep": name, **self.manifest.runs[record.run_id]}) for record in self.records]


def write_archive(manifest_path: Path, out: Path) -> int:
    """Write the published runs of a sweep into one file.

    Parameters
    ----------
    manifest_path : Path
        `sweeps/NAME.json` in its store.
    out : Path
        The file, NAME.parquet.

    Returns
    -------
    int
        How many runs it holds.

    Raises
    ------
    UserError
        When nothing is published yet, or `out` cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [record for record, _ in read_records(manifest_path)]
    if not records:
        raise UserError(f"{manifest_path} has no published run yet; train it with `isoflop run`")
    runs = store_of(manifest_path) / "runs"
    curves = [read_curve(runs / record.run_id / "metrics.jsonl") for record in records]
    table = pa.table(
        {
            "run_id": [record.run_id for record in records],
            "record": [record.to_json() for record in records],
            **{name: pa.array([curve[name] for curve in curves], pa.list_(pa.float64())) for name in CURVE},
        }
    )
    manifest = read_manifest(manifest_path)
    recipe = None if manifest.source is None else recipe_of(store_of(manifest_path) / manifest.source)
    kept = replace(
        manifest,
        segments=(),
        facts={},
        order=(),
        sweep={**manifest.sweep, **({} if recipe is None else {"recipe": recipe})},
        source=None if manifest.source is None else _nearest_path(Path(manifest.source)),
    )
    table = table.replace_schema_metadata({KEY: kept.to_json().encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(out, buffer.getvalue(), remedy="choose another --out")
    return len(records)


def _nearest_path(source: Path) -> str:
    """The sweep's file as seen from the working folder, without folders of one machine; its name if it is not there."""
    parts = [part for part in source.parts if part not in ("..", source.anchor)]
    ends = (Path(*parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end.exists()), Path(source.name)).as_posix()


def recipe_of(file: Path) -> str | None:
    """The name of the recipe in a sweep's file; None where the file is gone or names none."""
    if not file.exists():
        return None
    recipe = read_yaml(file).get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else recipe
    return str(name) if name else None


def read_curve(file: Path) -> dict[str, list[float]]:
    """Tokens and train_loss of one metrics file.

    Parameters
    ----------
    file : Path
        metrics.jsonl; without it the curve is empty.

    Returns
    -------
    dict
        tokens and train_loss, of the rows that have both. A last line that was cut off in writing is left out.

    Raises
    ------
    UserError
        For another line that is no JSON.
    """
    curve: dict[str, list[float]] = {name: [] for name in CURVE}
    if not file.exists():
        return curve
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            message = f"{file} line {number} is not JSON ({error.msg}); delete the run and train it again"
            raise UserError(message) from error
        if line_has_changed(line):
            raise UserError(f"{file} line {number} has changed since it was written; delete the run and train it again")
        if row.get("train_loss") is not None and row.get("tokens"):
            for name in CURVE:
                curve[name].append(float(row[name]))
    return curve


def is_archive(path: Path) -> bool:
    """Whether a file is an archive and not a plain table."""
    if path.suffix != ".parquet" or not path.is_file():
        return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowInvalid, OSError):
        return False  # whoever reads it as a table says what is wrong with it


def read_archive(path: Path) -> Archive:
    """Read the manifest and the records of an archive.

    Parameters
    ----------
    path : Path
        A file for which `is_archive` is true.

    Returns
    -------
    Archive
        Manifest and records.

    Raises
    ------
    RecordError
        When the manifest or a record in it cannot be believed.
    """
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["run_id", "record"]).to_pylist()
    records = tuple(parse_record(row["record"], where=f"{path}, run {row['run_id']}") for row in rows)
    return Archive(manifest=archive_manifest(path), records=records)


def archive_manifest(path: Path) -> Manifest:
    """Read the manifest of an archive, and none of its records.

    Parameters
    ----------
    path : Path
        A file for which `is_archive` is true.

    Returns
    -------
    Manifest
        The sweep.

    Raises
    ------
    RecordError
        When it cannot be believed.
    """
    import pyarrow.parquet as pq

    return parse_manifest(pq.read_schema(path).metadata[KEY].decode(), where=str(path))


def archive_curves(path: Path) -> dict[str, dict[str, list[float]]]:
    """Read the training curves of an archive, and none of its records.

    Parameters
    ----------
    path : Path
        A file for which `is_archive` is true.

    Returns
    -------
    dict
        run_id -> tokens and train_loss, one number a row of metrics.
    """
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["run_id", *CURVE]).to_pylist()
    return {row["run_id"]: {name: row[name] for name in CURVE} for row in rows}
