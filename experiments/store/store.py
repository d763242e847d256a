"""RunStore: plain files under one root, many writers, no server. Standard library only.

    runs/<run_id>/config.json            the RunConfig, written once
    runs/<run_id>/record.json            the published record: the first finisher's, by an atomic link
    runs/<run_id>/metrics.jsonl          rows by step, appended; a repeated step repeats its values
    runs/<run_id>/checkpoints/latest.pt  newest mid-run checkpoint, replaced atomically
    trunks/<trunk>/<step>.pt             checkpoint that runs of several budgets branch from
    trunks/<trunk>/needed/<sweep>.json   which runs of a sweep leave the trunk, and where
    claims/                              who executes what: `claims`
    sweeps/<name>.json                   manifest of a sweep

A stretch of a trunk is claimed like a run, by the name `<trunk>-<step>`.

This file must not know torch, or how a run is trained.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from experiments.config.run import RunConfig, canonical, run_config_from_dict
from experiments.errors import UserError
from experiments.files import StoreError, link_once, write_atomic
from experiments.manifests import Manifest, read_manifest
from experiments.records import RunRecord, RunStatus, read_record
from experiments.store.claims import Claims


class RunStore:
    """Reads and writes of one store."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self.claims = Claims(self.root / "claims")
        self.sweeps = self.root / "sweeps"
        self.prefixes = self.root / "trunks"

    def run_folder(self, run_id: str) -> Path:
        """runs/<run_id>."""
        return self.runs / run_id

    def prepare(self) -> None:
        """Make the folders; StoreError when the root cannot be written."""
        try:
            for folder in (self.runs, self.claims.folder, self.sweeps):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.claims.folder):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {self.root.resolve()}: {error.strerror}; "
                "choose a writable folder with --store"
            ) from error

    def refusal(self) -> str | None:
        """What the store's disk says to a write of a few kilobytes; None when it takes it."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.claims.folder) as stream:
                stream.write(bytes(1 << 14))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            return (
                f"cannot write to the store {self.root.resolve()}: {error.strerror}; finished runs are kept: free the "
                f"disk or "
                "make it writable, then run the same command again"
            )
        return None

    # -- configs, manifests, records -----------------------------------------------------------------------------------

    def write_config(self, run_id: str, config: RunConfig) -> None:
        """Write runs/<run_id>/config.json unless it is there."""
        path = self.run_folder(run_id) / "config.json"
        if not path.exists():
            write_atomic(path, json.dumps(canonical(config), indent=1, sort_keys=True) + "\n", durable=False)

    def read_config(self, run_id: str) -> RunConfig:
        """The RunConfig of a run; UserError when its file is unreadable."""
        path = self.run_folder(run_id) / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; run the sweep's YAML again to write it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not complete JSON; delete it and run the sweep's YAML again") from error
        try:
            return run_config_from_dict(raw, where=str(path))
        except UserError as error:
            raise UserError(
                f"{error}; if a newer isoflop wrote it, upgrade, else delete it and run the sweep's YAML again"
            ) from error

    def manifest_path(self, name: str) -> Path:
        """sweeps/<name>.json."""
        return self.sweeps / f"{name}.json"

    def read_manifest(self, name: str) -> Manifest | None:
        """The manifest of a sweep, None when there is none."""
        path = self.manifest_path(name)
        return read_manifest(path) if path.exists() else None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write sweeps/<name>.json; a name that another file claimed is an error."""
        known = self.read_manifest(manifest.name)
        if known and known.source != manifest.source:
            raise UserError(
                f"the sweep name {manifest.name!r} belongs to {known.source}, not {manifest.source}; "
                f"give this file another name, or remove {self.manifest_path(manifest.name)}"
            )
        write_atomic(self.manifest_path(manifest.name), manifest.to_json())

    def record_path(self, run_id: str) -> Path:
        """runs/<run_id>/record.json."""
        return self.run_folder(run_id) / "record.json"

    def read_record(self, run_id: str) -> RunRecord | None:
        """The published record, None when there is none; RecordError when it is truncated."""
        path = self.record_path(run_id)
        return read_record(path) if path.exists() else None

    def publish(self, record: RunRecord) -> bool:
        """Publish a record so that the first finisher wins; True when this call published it.

        The text is written to a temporary file and linked to its final name: a link either exists whole or not at all.
        Where the file system has no links, an exclusive create of `record.lock` decides, and a rename follows.
        """
        path = self.record_path(record.run_id)
        temporary = path.with_name(f".record.{os.getpid()}.{os.urandom(4).hex()}")
        write_atomic(temporary, record.to_json())
        try:
            return link_once(temporary, path, lock=path.with_name("record.lock"))
        finally:
            temporary.unlink(missing_ok=True)

    def forget_failure(self, run_id: str) -> bool:
        """Take back a published failure so that the run is trained again; whether there was one.

        Its claims move to runs/<run_id>/earlier/, so that attempts are counted anew and what happened stays readable.
        """
        record = self.read_record(run_id)
        if record is None or record.status is RunStatus.DONE:
            return False
        earlier = self.run_folder(run_id) / "earlier"
        earlier.mkdir(exist_ok=True)
        for claim in self.claims.folder.glob(f"{run_id}.*"):
            claim.replace(earlier / claim.name)
        self.record_path(run_id).replace(earlier / "record.json")
        return True

    def metrics_path(self, run_id: str) -> Path:
        """runs/<run_id>/metrics.jsonl."""
        return self.run_folder(run_id) / "metrics.jsonl"

    def read_metrics(self, run_id: str) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl by rising step, the latest of each step; torn lines of killed writers are left out."""
        path = self.metrics_path(run_id)
        return parse_metrics(path.read_text(encoding="utf-8")) if path.exists() else []


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """Rows by rising step from metrics text; the latest of each step counts, a line that is not JSON was torn and is
    left out."""
    rows: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill; the resumed run wrote that step again
        if isinstance(row, dict) and "step" in row:
            rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]
