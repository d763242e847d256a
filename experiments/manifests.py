"""Manifest: the JSON of one sweep, `sweeps/<name>.json`: its runs, their roles, what is left to train.

And the readers of a sweep's records.

`run` writes a manifest; workers, `status` and analysis read it. This file owns its schema and checks what it reads; it
must not know how a manifest is made. Standard library and `models.errors` only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from experiments.digests import has_changed, with_digest
from experiments.records import RecordError, RunRecord, check_schema, read_record, read_text

MANIFEST_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One piece of work: a part of a shared prefix, or a run's way from its start to its record."""

    segment_id: str
    """The run's id, or that of a part of a prefix (`prefixes.prefix_segment_id`)."""
    run_id: str
    """The run that is trained; for a part of a prefix one of those that share it, whose config says what to train."""
    prefix: str | None = None
    """The shared prefix that it belongs to; files call it `trunk`."""
    start_step: int = 0
    """Steps of the prefix's checkpoint that it starts from; 0: it starts from nothing."""
    end_step: int
    """Steps at its end."""
    after: str | None = None
    """What has to be trained before: a segment of the prefix, or the pre-trained run that a fine-tuning run tunes."""
    keep_step: int | None = None
    """For a run: the step at which it leaves the prefix's checkpoint behind for later budgets."""
    seconds: float = 0.0
    """Estimated time on one worker."""
    flops: float = 0.0
    """Counted training FLOPs of these steps."""
    memory_bytes: int = 0
    """Estimated bytes held on its device."""
    path_seconds: float = 0.0
    """Estimated time from its beginning to the end of all that waits for it: its urgency."""
    stack: str | None = None
    """For a run: what it has in common with those that it may be trained together with; None: it is trained alone."""
    stack_members: int = 0
    """How many of them are trained together at most."""

    @property
    def is_prefix(self) -> bool:
        """Whether this trains a part of a shared prefix and not a run to its end."""
        return self.segment_id != self.run_id

    def to_dict(self) -> dict[str, Any]:
        """Give plain data; what is absent or zero is left out, but for the end."""
        values = {"trunk" if name == "prefix" else name: value for name, value in vars(self).items()}
        return {name: value for name, value in values.items() if name == "end_step" or value not in (None, 0, 0.0)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Segment:
        """Back from plain data; TypeError for a name that is missing or unknown."""
        return cls(**{"prefix" if name == "trunk" else name: value for name, value in raw.items()})


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is shown of a run and does not change; kept in the manifest, so that `status` reads no config."""

    params: int
    """N of fits."""
    width: int
    """d_model."""
    depth: int
    """Layers."""
    tokens: int
    """D of the design."""
    batch_tokens: int
    """Tokens of a step."""
    flops: float
    """Counted training FLOPs of the whole run."""
    shape: tuple[int | str, ...]
    """`costs.shape_of`: runs of equal shape are equally fast."""
    seconds: float
    """Estimated time on one worker before anything was measured."""
    seed: int | None = None
    """Seed of the weights and of the order of the data; None in manifests that were written before it was kept."""

    @property
    def shown(self) -> dict[str, Any]:
        """The part that a row of the status holds."""
        return {name: getattr(self, name) for name in ("params", "width", "depth", "tokens", "flops", "seed")}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunFacts:
        """Back from plain data; TypeError for a name that is missing or unknown."""
        return cls(**{**raw, "shape": tuple(raw["shape"])})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One sweep: its runs, the role of each, and how its report is to be made."""

    name: str
    """Name of the sweep, for people."""
    runs: Mapping[str, Mapping[str, Any]]
    """run_id -> {"budget": float or None, "role": "fit" | "heldout" | "replicate", ...}: labels, not identity."""
    order: tuple[str, ...] = ()
    """Run ids by falling estimated time."""
    facts: Mapping[str, RunFacts] = field(default_factory=dict)
    """run_id -> what `status` shows of a run without its config."""
    segments: tuple[Segment, ...] = ()
    """What was missing when the manifest was written, the most urgent first."""
    trunks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Shared prefix -> {run_id: step at which the run leaves it}."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """Choices of the report that were fixed before training: law, holdout, title."""
    source: str | None = None
    """The YAML file that claims the name, relative to the store."""
    sweep: Mapping[str, Any] = field(default_factory=dict)
    """What the next plan compares itself with: kind of design, corpus and its content hash."""
    dropped: Mapping[str, float] = field(default_factory=dict)
    """run_id -> when a changed sweep file no longer listed the run, Unix seconds; `prune` spares it for a while."""
    execution: Mapping[str, Any] = field(default_factory=dict)
    """What the sweep forces of how its runs are executed; left out where it forces nothing."""
    profile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Shape -> what measured times decided of how its runs are executed; left out where nothing was decided."""
    schema: int = MANIFEST_SCHEMA
    """Version of this layout."""

    def to_json(self) -> str:
        """The manifest with its digest as one JSON document with sorted keys."""
        plain = vars(self) | {
            "facts": {run_id: vars(facts) for run_id, facts in self.facts.items()},
            "segments": [segment.to_dict() for segment in self.segments],
        }
        for name in ("execution", "profile"):
            if not plain[name]:
                del plain[name]
        return json.dumps(with_digest(plain), indent=1, sort_keys=True) + "\n"


def parse_manifest(text: str, *, where: str) -> Manifest:
    """Read a manifest from JSON text, and check what others rely on.

    Parameters
    ----------
    text : str
        The JSON document.
    where : str
        The file, for messages.

    Returns
    -------
    Manifest
        Its facts and segments are typed.

    Raises
    ------
    RecordError
        When the text is truncated, is not a manifest, has changed since it was written, or comes from a newer schema.
        The message starts with `where`.
    """
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise TypeError("it holds no JSON object")
        if has_changed(raw):
            raise TypeError("it has changed since it was written: its digest is another")
        check_schema(raw, MANIFEST_SCHEMA, where=where)
        missing = [item.name for item in fields(Manifest) if _is_required(item) and item.name not in raw]
        if missing:
            raise TypeError(f"it lacks {missing[0]}")
        values = {item.name: raw[item.name] for item in fields(Manifest) if item.name in raw}
        for name in ("runs", "facts", "trunks", "report", "sweep", "dropped", "execution", "profile"):
            if not isinstance(values.get(name, {}), dict):
                raise TypeError(f"{name} is no JSON object")
        for name in (values["name"], *values["runs"], *values.get("trunks", {}), *values.get("order", ())):
            if not isinstance(name, str) or not name or name.startswith(".") or "/" in name or "\0" in name:
                raise TypeError(f"{name!r} is no name of a sweep, run or prefix")
        for name in ("runs", "trunks", "profile"):
            if not all(isinstance(item, dict) for item in values.get(name, {}).values()):
                raise TypeError(f"{name} holds something else than JSON objects")
        values["order"] = tuple(values.get("order", ()))
        values["facts"] = {run_id: RunFacts.from_dict(item) for run_id, item in values.get("facts", {}).items()}
        values["segments"] = tuple(map(Segment.from_dict, values.get("segments", ())))
        return Manifest(**values)
    except (json.JSONDecodeError, TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(
            f"{where} is not a sweep manifest ({error}); remove it and `isoflop run` its sweep file again: finished "
            "runs are kept and found"
        ) from error


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def read_manifest(path: Path) -> Manifest:
    """Read `sweeps/<name>.json`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Manifest
        See `parse_manifest`.

    Raises
    ------
    RecordError
        When it is not UTF-8, or is no manifest.
    OSError
        When there is no such file, or it cannot be read.
    """
    return parse_manifest(read_text(path), where=str(path))


def store_of(path: Path) -> Path:
    """The store's root folder for a manifest path `ROOT/sweeps/NAME.json` or for the root itself."""
    return path.parent.parent if path.suffix == ".json" else path


def read_records(
    path: Path, on_damage: Callable[[RecordError], None] | None = None
) -> Iterator[tuple[RunRecord, Mapping[str, Any]]]:
    """Read the published runs of a sweep, or of a whole store.

    Parameters
    ----------
    path : Path
        A sweep's manifest, or the root folder of a store.
    on_damage : callable, optional
        Takes the error of a record that cannot be believed, whose run is then left out; by default it is raised.

    Yields
    ------
    RunRecord
        One for each run that is published; others are left out.
    mapping of str to object
        The labels that the manifest gives the run, with `sweep`; empty for a store's root.

    Raises
    ------
    RecordError
        When the manifest or a record cannot be read.
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
        if not file.exists():
            continue
        try:
            yield read_record(file, run_id), labels
        except RecordError as error:
            if on_damage is None:
                raise
            on_damage(error)
