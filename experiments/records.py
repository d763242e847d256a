"""RunRecord and its schema: what training writes and analysis reads. Standard library and `models.errors` only.

One run is one JSON file, `runs/<run_id>/record.json`; one sweep is one manifest, `sweeps/<name>.json`, that lists run
ids with the role that each plays in the sweep. This file knows the schema and the two readers; it must not know how
runs are trained, leased or retried.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.errors import UserError

RECORD_SCHEMA = 1
MANIFEST_SCHEMA = 1


class RunStatus(StrEnum):
    """What has become of a run: what its record says, how an attempt to train it ended, or what it waits for."""

    QUEUED = "queued"
    """No attempt has begun."""
    RUNNING = "running"
    """An attempt is under way."""
    DONE = "done"
    """Trained to its budget, and published."""
    FAILED = "failed"
    """Ended by an error; the reason says which."""
    DIVERGED = "diverged"
    """Stopped by the divergence guard."""
    INTERRUPTED = "interrupted"
    """Stopped from outside, by a signal."""
    LOST = "lost"
    """The worker vanished: killed, or its machine went down."""
    OOM = "oom"
    """The device's memory did not suffice; the next attempt holds half as many sequences at a time."""


PUBLISHED_STATUSES = (RunStatus.DONE, RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.INTERRUPTED)
"""What a record may say."""
SETTLED_STATUSES = (RunStatus.DONE, RunStatus.FAILED, RunStatus.DIVERGED)
"""Runs for which nothing more is done."""

DESIGN_FIELDS = {"params", "params_total", "params_non_embedding", "tokens", "flops", "flops_6nd", "width", "depth"}
"""The keys that `design` must hold before a record is believed."""


class RecordError(UserError):
    """A record or manifest that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Identity, design and outcome of one run."""

    run_id: str
    """sha256 of the canonical JSON of the RunConfig, 12 hex digits."""
    status: RunStatus
    """One of PUBLISHED_STATUSES."""
    reason: str | None = None
    """Why the run is not done; None when it is."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The RunConfig, resolved: everything that defines the run."""
    design: Mapping[str, Any] = field(default_factory=dict)
    """Counted before training: params, tokens, flops and the like; see `flat_row` for the names."""
    outcome: Mapping[str, Any] = field(default_factory=dict)
    """Measured: loss, loss_se, bpb, train_loss, val_sums and val_counts (nats and tokens per validation document),
    seconds, rates."""
    execution: Mapping[str, Any] = field(default_factory=dict)
    """What does not define the run: device, threads, attention backend, micro-batch, world size, versions, trunk,
    attempts."""
    schema: int = RECORD_SCHEMA
    """Version of this layout."""

    def __post_init__(self) -> None:
        if self.status not in PUBLISHED_STATUSES:
            raise RecordError(f"status {str(self.status)!r} is not one of {', '.join(PUBLISHED_STATUSES)}")
        object.__setattr__(self, "status", RunStatus(self.status))

    def to_json(self) -> str:
        """The record as one JSON document with sorted keys; NaN and infinity are refused."""
        return json.dumps(vars(self), indent=1, sort_keys=True, allow_nan=False) + "\n"


def parse_record(text: str, *, where: str) -> RunRecord:
    """Read a record from JSON text.

    Raises
    ------
    RecordError
        When the text is truncated, is not a record, or comes from a newer schema; the message starts with `where`.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{where} is not complete JSON ({error.msg} at character {error.pos}); delete that file and run the sweep "
            f"again"
        ) from error
    if not isinstance(raw, dict) or "run_id" not in raw or "status" not in raw:
        raise RecordError(
            f"{where} is not a run record: run_id or status is missing; delete it and run the sweep again"
        )
    if raw.get("schema", 0) > RECORD_SCHEMA:
        raise RecordError(f"{where} has schema {raw['schema']}, newer than {RECORD_SCHEMA}; upgrade isoflop to read it")
    known = {name: raw[name] for name in RunRecord.__dataclass_fields__ if name in raw}
    record = RunRecord(**known)
    missing = sorted(DESIGN_FIELDS - set(record.design))
    if missing:
        raise RecordError(f"{where} lacks {', '.join(missing)} in its design; delete it and run the sweep again")
    if record.status is RunStatus.DONE and "loss" not in record.outcome:
        raise RecordError(f"{where} says done but holds no loss; delete it and run the sweep again")
    return record


def read_record(path: Path) -> RunRecord:
    """Read one record.json; RecordError names the file."""
    return parse_record(path.read_text(encoding="utf-8"), where=str(path))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One sweep: its runs, the role of each, and how its report is to be made."""

    name: str
    """Name of the sweep, for people."""
    runs: Mapping[str, Mapping[str, Any]]
    """run_id -> {"budget": float or None, "role": "fit" | "heldout" | "replicate", ...}: labels, not identity."""
    order: list[str] = field(default_factory=list)
    """Run ids by falling estimated time."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """run_id -> what `status` shows of a run without its config: `progress.RunFacts`."""
    segments: list[dict[str, Any]] = field(default_factory=list)
    """What was missing when the manifest was written, as `compiler.Segment.to_dict` gives it, the most urgent first."""
    trunks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """trunk -> {run_id: step at which the run leaves it}."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """Choices of the report that were fixed before training: law, holdout, title."""
    source: str | None = None
    """The YAML file that claims the name, relative to the store."""
    sweep: Mapping[str, Any] = field(default_factory=dict)
    """The SweepConfig as it was read."""
    schema: int = MANIFEST_SCHEMA
    """Version of this layout."""


def read_manifest(path: Path) -> Manifest:
    """Read `sweeps/<name>.json`; RecordError names the file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{name: raw[name] for name in Manifest.__dataclass_fields__ if name in raw})
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise RecordError(
            f"{path} is not a sweep manifest ({error}); write it again with `python -m experiments run`"
        ) from error


def store_of(path: Path) -> Path:
    """The store's root folder for a manifest path `ROOT/sweeps/NAME.json` or for the root itself."""
    return path.parent.parent if path.suffix == ".json" else path


def read_records(path: Path) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Yield (record, labels) of a sweep manifest's published runs, or of every published run when `path` is a store's
    root.

    Runs without a record are left out: they are not published yet. Labels are the manifest's, with `sweep`; empty for
    a root.
    """
    root = store_of(path)
    if path.suffix == ".json":
        manifest = read_manifest(path)
        wanted: Mapping[str, Mapping[str, Any]] = {
            run_id: {"sweep": manifest.name, **labels} for run_id, labels in manifest.runs.items()
        }
    else:
        wanted = {entry.name: {} for entry in sorted((root / "runs").glob("*")) if entry.is_dir()}
    for run_id, labels in wanted.items():
        file = root / "runs" / run_id / "record.json"
        if file.exists():
            yield read_record(file), labels


def flat_row(record: RunRecord, labels: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One tidy row: scalars of design, outcome and execution by name, with the labels of the sweep.

    Lists and mappings (losses per document, versions) are left out, but `version_torch` and the like are kept as text.
    """
    row: dict[str, Any] = {"run_id": record.run_id, "status": record.status.value, "reason": record.reason}
    row |= dict(labels or {})
    for part in (record.design, record.outcome, record.execution):
        row |= {name: value for name, value in part.items() if not isinstance(value, (list, dict))}
    for package, version in record.execution.get("versions", {}).items():
        row[f"version_{package}"] = version
    return row
