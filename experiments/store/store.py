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

import os
import tempfile
from pathlib import Path
from typing import Any

from experiments.config.kinds import AnyRun
from experiments.config.run import RunConfig
from experiments.digests import parse_metrics
from experiments.errors import UserError
from experiments.files import SAFE_TO_REPEAT, StoreError, link_once, set_aside, sync_folder, write_atomic
from experiments.manifests import Manifest, read_manifest
from experiments.records import NewerLayout, RecordError, RunRecord, RunStatus, read_record
from experiments.store.claims import Claims
from experiments.store.configs import read_config, write_config


class RunStore:
    """Reads and writes of one store."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self.claims = Claims(self.root / "claims")
        self.sweeps = self.root / "sweeps"
        self.prefixes = self.root / "trunks"
        self._believed: dict[str, tuple[int, int, int]] = {}

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
        plan hold. One that cannot be read, or describes another run, is set aside.

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
        write_config(self.run_folder(run_id), run_id, config)

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
        ConfigError
            When its file is missing, incomplete, wrong, or describes another run.
        UserError
            When the run is a fine-tuning run.
        """
        config = self.read_any(run_id)
        if not isinstance(config, RunConfig):
            raise UserError(
                f"run {run_id} is a fine-tuning run of {config.pretrained}; name a run that was trained from nothing, "
                f"or use `isoflop label`"
            )
        return config

    def read_any(self, run_id: str) -> AnyRun:
        """Read the config of a run of either kind; raises as `configs.read_config` does."""
        return read_config(self.run_folder(run_id), run_id)

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
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"--store {self.root} is no folder; choose a writable folder with --store")
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
        """Read the published record of a run.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        RunRecord or None
            None when there is none.

        Raises
        ------
        RecordError
            When it cannot be believed.
        """
        path = self.record_path(run_id)
        try:
            before = path.stat()
            record = read_record(path, run_id)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"{path} cannot be read ({error.strerror}); see to the disk") from error
        self._believed[run_id] = (before.st_ino, before.st_mtime_ns, before.st_size)
        return record

    def find_record(self, run_id: str) -> RunRecord | None:
        """Read the published record of a run; one that cannot be believed counts as none.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        RunRecord or None
            None when there is none.

        Raises
        ------
        NewerLayout
            When a newer program wrote it.
        """
        try:
            return self.read_record(run_id)
        except NewerLayout:
            raise
        except RecordError:
            return None

    def is_published(self, run_id: str) -> bool:
        """Say whether a run has a record that can be believed; one that was read is looked at again when it changes.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        bool
            False also for a record that is damaged, or another run's.

        Raises
        ------
        NewerLayout
            When a newer program wrote it.
        """
        try:
            now = self.record_path(run_id).stat()
            if self._believed.get(run_id) == (now.st_ino, now.st_mtime_ns, now.st_size):
                return True
        except OSError:
            return False
        return self.find_record(run_id) is not None

    def set_aside_damage(self, run_id: str) -> str | None:
        """Move a record that cannot be believed to runs/<run_id>/earlier/, so that the run is trained anew.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        str or None
            What was wrong with it, as a sentence; None when there is none, or it can be believed.

        Raises
        ------
        NewerLayout
            When a newer program wrote it.
        StoreError
            When the disk refuses.
        """
        if self.is_published(run_id):
            return None
        try:
            self.read_record(run_id)
        except NewerLayout:
            raise
        except RecordError as error:
            set_aside(self.record_path(run_id), self.run_folder(run_id) / "earlier")
            return str(error)
        return None

    def publish(self, record: RunRecord) -> bool:
        """Publish a record so that the first finisher wins.

        The text is written to a temporary file and linked to its final name: a link either exists whole or not at all.
        Where the file system has no links, an exclusive create of `record.lock` decides, and a rename follows. A
        damaged record that has the name is no finisher and is set aside.

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
            won = link_once(temporary, path, lock=path.with_name("record.lock"))
            if not won and self.set_aside_damage(record.run_id) is not None:
                won = link_once(temporary, path, lock=path.with_name("record.lock"))
            sync_folder(path.parent)
            return won
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}; {SAFE_TO_REPEAT}") from error
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
        record = self.find_record(run_id)
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
        return parse_metrics(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else []
