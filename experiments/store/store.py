"""RunStore: plain files under one root, many writers, no server. Standard library only.

    runs/<run_id>/config.json            the RunConfig, written once
    runs/<run_id>/record.json            the published record: the first finisher's, by an atomic link
    runs/<run_id>/metrics.jsonl          rows by step, appended; a repeated step repeats its values
    runs/<run_id>/checkpoints/latest.pt  newest mid-run checkpoint, replaced atomically
    trunks/<prefix>/...                  checkpoints of shared prefixes: `checkpoints`
    claims/                              who executes what: `claims`
    sweeps/<name>.json                   manifest of a sweep

This file must not know torch, or how a run is trained.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from experiments.config.kinds import AnyRun, canonical, config_from_dict
from experiments.config.run import RunConfig
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
        """Make the folders of the store.

        Raises
        ------
        StoreError
            When the root cannot be written.
        """
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
        """Ask the store's disk whether it takes a write of a few kilobytes.

        Returns
        -------
        str or None
            What it says, as a sentence; None when it takes the write.
        """
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

    def write_config(self, run_id: str, config: AnyRun) -> None:
        """Write runs/<run_id>/config.json, unless it says the same already.

        One that is there differs at most in the places of files, which are no part of the identity: those of the last
        plan hold.

        Parameters
        ----------
        run_id : str
            The run.
        config : AnyRun
            What it trains.

        Raises
        ------
        StoreError
            When the disk refuses.
        """
        path = self.run_folder(run_id) / "config.json"
        text = json.dumps(canonical(config), indent=1, sort_keys=True) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
            write_atomic(path, text, durable=False)

    def read_config(self, run_id: str) -> RunConfig:
        """Read the RunConfig of a pre-training run.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        RunConfig
            With the same identity as the one that was written.

        Raises
        ------
        UserError
            When its file is missing, incomplete or wrong, or the run is a fine-tuning run.
        """
        config = self.read_any(run_id)
        if not isinstance(config, RunConfig):
            raise UserError(
                f"run {run_id} is a fine-tuning run of {config.pretrained}; name a run that was trained from nothing, "
                f"or use `python -m experiments label`"
            )
        return config

    def read_any(self, run_id: str) -> AnyRun:
        """Read the config of a run of either kind; raises as `read_config` does."""
        path = self.run_folder(run_id) / "config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; run the sweep's YAML again to write it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not complete JSON; delete it and run the sweep's YAML again") from error
        try:
            return config_from_dict(raw, where=str(path))
        except UserError as error:
            raise UserError(
                f"{error}; if a newer isoflop wrote it, upgrade, else delete it and run the sweep's YAML again"
            ) from error

    def manifest_path(self, name: str) -> Path:
        """sweeps/<name>.json."""
        return self.sweeps / f"{name}.json"

    def read_manifest(self, name: str) -> Manifest | None:
        """Read the manifest of a sweep; None when there is none."""
        path = self.manifest_path(name)
        return read_manifest(path) if path.exists() else None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write sweeps/<name>.json.

        Parameters
        ----------
        manifest : Manifest
            The sweep.

        Raises
        ------
        UserError
            When another file claimed the name.
        StoreError
            When the disk refuses.
        """
        self._check_source(manifest.name, manifest.source)
        write_atomic(self.manifest_path(manifest.name), manifest.to_json())

    def check_name(self, name: str, source: Path) -> None:
        """Refuse a sweep whose name another file has claimed, as `write_manifest` would.

        Parameters
        ----------
        name : str
            The sweep's name.
        source : Path
            Its YAML.

        Raises
        ------
        UserError
            When the name belongs to another file.
        """
        self._check_source(name, os.path.relpath(source.resolve(), self.root.resolve()))

    def _check_source(self, name: str, source: str | None) -> None:
        known = self.read_manifest(name)
        if known and known.source != source:
            raise UserError(
                f"the sweep name {name!r} belongs to {known.source}, not {source}; "
                f"give this file another name, or remove {self.manifest_path(name)}"
            )

    def record_path(self, run_id: str) -> Path:
        """runs/<run_id>/record.json."""
        return self.run_folder(run_id) / "record.json"

    def read_record(self, run_id: str) -> RunRecord | None:
        """Read the published record of a run; None when there is none."""
        path = self.record_path(run_id)
        return read_record(path) if path.exists() else None

    def publish(self, record: RunRecord) -> bool:
        """Publish a record so that the first finisher wins.

        The text is written to a temporary file and linked to its final name: a link either exists whole or not at all.
        Where the file system has no links, an exclusive create of `record.lock` decides, and a rename follows.

        Parameters
        ----------
        record : RunRecord
            The run.

        Returns
        -------
        bool
            Whether this call published it.

        Raises
        ------
        StoreError
            When the disk refuses.
        """
        path = self.record_path(record.run_id)
        temporary = path.with_name(f".record.{os.getpid()}.{os.urandom(4).hex()}")
        write_atomic(temporary, record.to_json())
        try:
            return link_once(temporary, path, lock=path.with_name("record.lock"))
        finally:
            temporary.unlink(missing_ok=True)

    def forget_failure(self, run_id: str) -> bool:
        """Take back a published failure so that the run is trained again.

        Its claims move to runs/<run_id>/earlier/, so that attempts are counted anew and what happened stays readable.

        Parameters
        ----------
        run_id : str
            The run; one that is done stays as it is.

        Returns
        -------
        bool
            Whether there was a failure.
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
        """Read metrics.jsonl as `parse_metrics` does; empty when there is none."""
        path = self.metrics_path(run_id)
        return parse_metrics(path.read_text(encoding="utf-8")) if path.exists() else []


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """Read rows of metrics; a line that is not JSON was torn by a kill and is left out.

    Parameters
    ----------
    text : str
        JSON lines.

    Returns
    -------
    list of dict
        By rising step; of a step that was written several times, the last row.
    """
    rows: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill; the resumed run wrote that step again
        if isinstance(row, dict) and "step" in row:
            rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]
