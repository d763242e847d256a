"""RunRecord: the JSON of one finished run, `runs/<run_id>/record.json`. Training writes it and analysis reads it.

Owns the schema, the statuses of runs, and the checks of what is read; `manifests` reads all records of a sweep. It must
not know how runs are trained, claimed or retried. Standard library and `models.errors` only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from experiments.digests import has_changed, with_digest
from models.errors import UserError

RECORD_SCHEMA = 1

DESIGN_FIELDS = {"params", "params_total", "params_non_embedding", "tokens", "flops", "flops_6nd", "width", "depth"}
"""The numbers that `design` must hold before a record is believed."""
OUTCOME_NUMBERS = ("loss", "loss_se", "bpb", "train_loss", "num_val_tokens", "tokens_per_second", "mfu")
"""What `outcome` holds as a number or not at all."""
OUTCOME_LISTS = ("val_sums", "val_counts")
"""What `outcome` holds as a list of numbers or not at all."""


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


class RecordError(UserError):
    """A record or manifest that cannot be read; the message names the file and what to do."""


class NewerLayout(RecordError):
    """A record or manifest that a newer program wrote; it is not damaged."""


REMEDY = "delete it and run the sweep again"
"""What helps against a record that cannot be believed."""


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
        """The record with its digest as one JSON document with sorted keys; NaN and infinity are refused."""
        return json.dumps(with_digest(vars(self)), indent=1, sort_keys=True, allow_nan=False) + "\n"


def parse_record(text: str, *, where: str) -> RunRecord:
    """Read a record from JSON text, and check what others rely on.

    Parameters
    ----------
    text : str
        The JSON document.
    where : str
        The file, for messages.

    Returns
    -------
    RunRecord
        Its design holds the numbers of DESIGN_FIELDS, and a loss that is there is a finite number.

    Raises
    ------
    RecordError
        When the text is truncated, is not a record, has changed since it was written, holds something else than a
        number where a number belongs, or comes from a newer schema. The message starts with `where`.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{where} is not complete JSON ({_first_line(error)}); delete that file and run the sweep again"
        ) from error
    if not isinstance(raw, dict) or "run_id" not in raw or "status" not in raw:
        raise RecordError(f"{where} is not a run record: run_id or status is missing; {REMEDY}")
    if has_changed(raw):
        raise RecordError(f"{where} has changed since it was written: its digest is another; {REMEDY}")
    check_schema(raw, RECORD_SCHEMA, where=where)
    for name in ("config", "design", "outcome", "execution"):
        if not isinstance(raw.get(name, {}), dict):
            raise RecordError(f"{where} holds {_shown(raw[name])} as its {name}, not a JSON object; {REMEDY}")
    try:
        record = RunRecord(**{item.name: raw[item.name] for item in fields(RunRecord) if item.name in raw})
    except RecordError as error:
        raise RecordError(f"{where}: {error}; {REMEDY}") from None
    missing = sorted(DESIGN_FIELDS - set(record.design))
    if missing:
        raise RecordError(f"{where} lacks {', '.join(missing)} in its design; {REMEDY}")
    if record.status is RunStatus.DONE and record.outcome.get("loss") is None:
        raise RecordError(f"{where} says done but holds no loss; {REMEDY}")
    wrong = _wrong_number(record)
    if wrong is not None:
        raise RecordError(f"{where} holds {wrong}; {REMEDY}")
    return record


def _wrong_number(record: RunRecord) -> str | None:
    """The first value of a record that should be a number and is none, in words."""
    for name in sorted(DESIGN_FIELDS):
        if not _is_number(record.design[name]):
            return f"{_shown(record.design[name])} as design.{name}, not a number"
    for name in OUTCOME_NUMBERS:
        value = record.outcome.get(name)
        if value is not None and not _is_number(value):
            return f"{_shown(value)} as outcome.{name}, not a finite number"
    for name in OUTCOME_LISTS:
        values = record.outcome.get(name, [])
        if not isinstance(values, list) or not _are_numbers(values):
            return f"{_shown(values)} as outcome.{name}, not a list of numbers"
    steps = record.execution.get("shared_steps", 0)
    return None if _is_number(steps) else f"{_shown(steps)} as execution.shared_steps, not a number"


def _first_line(error: Exception) -> str:
    """What is wrong with a text, in one line."""
    return str(error).partition("\n")[0] or type(error).__name__


def _are_numbers(values: list[Any]) -> bool:
    """As `_is_number` of each, without a call for each: a record holds a number for every example of a test split."""
    return set(map(type, values)) <= {int, float} and all(map(math.isfinite, values))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    """A value of a file as a message shows it, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def check_schema(raw: Mapping[str, Any], newest: int, *, where: str) -> None:
    """Refuse a layout that is newer than this program.

    Parameters
    ----------
    raw : mapping of str to object
        A JSON object that may say its `schema`.
    newest : int
        The newest layout that this program reads.
    where : str
        The file, for messages.

    Raises
    ------
    NewerLayout
        When it is newer.
    RecordError
        When it is no whole number.
    """
    schema = raw.get("schema", 0)
    if not isinstance(schema, int):
        raise RecordError(f"{where} has schema {_shown(schema)}, not a whole number; {REMEDY}")
    if schema > newest:
        raise NewerLayout(f"{where} has schema {schema}, newer than {newest}; upgrade isoflop to read it")


def read_record(path: Path, run_id: str | None = None) -> RunRecord:
    """Read one record.json.

    Parameters
    ----------
    path : Path
        The file.
    run_id : str, optional
        The run whose record it has to be; by default any.

    Returns
    -------
    RunRecord
        See `parse_record`.

    Raises
    ------
    RecordError
        When it is not UTF-8, belongs to another run, or cannot be believed.
    OSError
        When there is no such file, or it cannot be read.
    """
    record = parse_record(read_text(path), where=str(path))
    if run_id is not None and record.run_id != run_id:
        raise RecordError(f"{path} is the record of another run, {_shown(record.run_id)}; {REMEDY}")
    return record


def read_text(path: Path) -> str:
    """The text of a file; RecordError when it is not UTF-8, or no file but a folder or a pipe."""
    if path.exists() and not path.is_file():
        raise RecordError(f"{path} is no regular file; {REMEDY}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not UTF-8 text ({error.reason}); {REMEDY}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        raise RecordError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from error


def flat_row(record: RunRecord, labels: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Flatten a record to one tidy row.

    Parameters
    ----------
    record : RunRecord
        The run.
    labels : mapping of str to object, optional
        What the sweep calls it; each label is a column.

    Returns
    -------
    dict of str to object
        Scalars of design, outcome and execution by name. Lists and mappings (losses per document) are left out, but
        versions are kept as `version_torch` and the like.
    """
    row: dict[str, Any] = {"run_id": record.run_id, "status": record.status.value, "reason": record.reason}
    row |= dict(labels or {})
    for part in (record.design, record.outcome, record.execution):
        row |= {name: value for name, value in part.items() if not isinstance(value, (list, dict))}
    for package, version in record.execution.get("versions", {}).items():
        row[f"version_{package}"] = version
    return row
