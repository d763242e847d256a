"""RunStore: plain files under one root, many writers, no server. Standard library only.

    runs/<run_id>/config.json            the RunConfig, written once
    runs/<run_id>/record.json            the published record: the first finisher's, by an atomic link
    runs/<run_id>/metrics.jsonl          rows by step, appended; a repeated step repeats its values
    runs/<run_id>/checkpoints/latest.pt  newest mid-run checkpoint, replaced atomically
    trunks/<trunk>/<step>.pt             checkpoint that runs of several budgets branch from
    trunks/<trunk>/needed/<sweep>.json   which runs of a sweep leave the trunk, and where
    claims/<run_id>.<attempt>            one execution: created exclusively, grows by a byte a heartbeat
    claims/<run_id>.<attempt>.<ending>   how it ended: done, failed, diverged, interrupted, lost or oom; reason as JSON
    sweeps/<name>.json                   manifest of a sweep

A stretch of a trunk is claimed like a run, by the name `<trunk>-<step>`.

Claims are never removed by workers, so a stale listing is safe: an attempt that somebody else took exists, and the
exclusive create fails. A run's state and attempt number are judged from one listing of the flat folder. This file must
not know torch, or how a run is trained.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, canonical, run_config_from_dict
from experiments.errors import UserError
from experiments.records import Manifest, RunRecord, read_manifest, read_record

ENDINGS = ("done", "failed", "diverged", "interrupted", "lost", "oom")
"""done: published. failed: an exception. diverged: stopped by the guard. interrupted: stopped by a signal. lost: the
worker vanished. oom: the device's memory did not suffice; the next attempt takes smaller micro-batches."""


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write `content` to `path` by a temporary file, fsync and rename; StoreError when the disk refuses.

    Without `durable` there is no fsync: for what can be written again, after a crash of the machine.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            Path(name).chmod(0o644)  # mkstemp's own mode would shut out the rest of a group
            with os.fdopen(handle, "wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; nothing that was finished is lost: free the disk or make it "
            "writable, then run the same command again"
        ) from error


class StoreError(UserError):
    """The store's disk refuses: full, read-only or gone. The message says what to do."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What one listing says of one run."""

    attempts: int = 0
    """Executions begun so far."""
    heartbeat: int | None = None
    """Size of the latest claim, when that attempt has not ended."""
    endings: tuple[str, ...] = ()
    """How the ended attempts ended, by attempt."""
    published: bool = False
    """Whether some attempt ended with a published record (done or diverged, or failed for good)."""

    @property
    def running(self) -> bool:
        """Whether the latest attempt has not ended."""
        return self.heartbeat is not None

    def exhausted(self, *, max_failures: int, max_losses: int) -> bool:
        """Whether errors or vanished workers have used up the retries."""
        return self.endings.count("failed") >= max_failures or self.endings.count("lost") >= max_losses


class RunStore:
    """Reads and writes of one store."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"
        self.claims = self.root / "claims"
        self.sweeps = self.root / "sweeps"
        self.trunks = self.root / "trunks"

    def run_folder(self, run_id: str) -> Path:
        """runs/<run_id>."""
        return self.runs / run_id

    def prepare(self) -> None:
        """Make the folders; StoreError when the root cannot be written."""
        try:
            for folder in (self.runs, self.claims, self.sweeps):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.claims):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {self.root.resolve()}: {error.strerror}; "
                "choose a writable folder with --store"
            ) from error

    def refusal(self) -> str | None:
        """What the store's disk says to a write of a few kilobytes; None when it takes it."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.claims) as stream:
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
            return run_config_from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; run the sweep's YAML again to write it") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not complete JSON; delete it and run the sweep's YAML again") from error

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
        write_atomic(self.manifest_path(manifest.name), json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n")

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
            return _link_once(temporary, path, lock=path.with_name("record.lock"))
        finally:
            temporary.unlink(missing_ok=True)

    def forget_failure(self, run_id: str) -> bool:
        """Take back a published failure so that the run is trained again; whether there was one.

        Its claims move to runs/<run_id>/earlier/, so that attempts are counted anew and what happened stays readable.
        """
        record = self.read_record(run_id)
        if record is None or record.status == "done":
            return False
        earlier = self.run_folder(run_id) / "earlier"
        earlier.mkdir(exist_ok=True)
        for claim in self.claims.glob(f"{run_id}.*"):
            claim.replace(earlier / claim.name)
        self.record_path(run_id).replace(earlier / "record.json")
        return True

    def append_metrics(self, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a run's metrics.jsonl."""
        append_rows(self.run_folder(run_id) / "metrics.jsonl", rows)

    def read_metrics(self, run_id: str) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl by rising step, the latest of each step; torn lines of killed writers are left out."""
        path = self.run_folder(run_id) / "metrics.jsonl"
        return parse_metrics(path.read_text(encoding="utf-8")) if path.exists() else []

    # -- claims --------------------------------------------------------------------------------------------------------

    def states(self) -> dict[str, RunState]:
        """The state of every run that was ever claimed, from one listing."""
        attempts: dict[str, dict[int, os.DirEntry[str]]] = {}
        endings: dict[str, dict[int, str]] = {}
        if not self.claims.is_dir():
            return {}
        with os.scandir(self.claims) as entries:
            for entry in entries:
                parts = entry.name.split(".")
                if len(parts) == 2 and parts[1].isdigit():
                    attempts.setdefault(parts[0], {})[int(parts[1])] = entry
                elif len(parts) == 3 and parts[2] in ENDINGS:
                    endings.setdefault(parts[0], {})[int(parts[1])] = parts[2]
        result = {}
        for run_id, found in attempts.items():
            ended, last = endings.get(run_id, {}), max(found)
            result[run_id] = RunState(
                attempts=last,
                heartbeat=None if last in ended else found[last].stat().st_size,
                endings=tuple(ended[attempt] for attempt in sorted(ended)),
                published=any(ending in ("done", "diverged") for ending in ended.values()),
            )
        return result

    def claim(self, run_id: str, attempt: int, owner: Mapping[str, Any]) -> bool:
        """Begin attempt number `attempt`; False when somebody else has it. `owner` is kept in the claim for people and
        observers."""
        path = self.claims / f"{run_id}.{attempt}"
        temporary = self.claims / f".claim.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            temporary.write_text(json.dumps(owner, sort_keys=True) + "\n", encoding="utf-8")
            return _link_once(temporary, path, lock=None)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror}; finished runs are kept: free the disk or make it writable, "
                "then run the same command again"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def owner(self, run_id: str, attempt: int) -> dict[str, Any] | None:
        """Who claimed an attempt; None while the claim's first line is not complete."""
        text = (self.claims / f"{run_id}.{attempt}").read_text(encoding="utf-8", errors="replace")
        line, newline, _ = text.partition("\n")
        return json.loads(line) if newline else None

    def beat(self, run_id: str, attempt: int) -> None:
        """Show life: the claim grows by one byte."""
        with (self.claims / f"{run_id}.{attempt}").open("ab") as stream:
            stream.write(b".")

    def end(self, run_id: str, attempt: int, ending: str, reason: str | None = None) -> bool:
        """Say how an attempt ended; False when that was said already (an observer gave it up as lost)."""
        if ending not in ENDINGS:
            raise ValueError(f"ending {ending!r} is not one of {', '.join(ENDINGS)}")
        if any((self.claims / f"{run_id}.{attempt}.{known}").exists() for known in ENDINGS):
            return False
        path = self.claims / f"{run_id}.{attempt}.{ending}"
        write_atomic(path, json.dumps({"reason": reason}) + "\n", durable=False)
        return True

    def reason(self, run_id: str, attempt: int, ending: str) -> str | None:
        """The reason that was given with an ending."""
        return json.loads((self.claims / f"{run_id}.{attempt}.{ending}").read_text(encoding="utf-8"))["reason"]


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a file of JSON lines; a torn last line of a killed writer is closed first."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    if not text:
        return
    try:
        with path.open("ab+") as stream:
            if stream.tell() and _last_byte(stream) != b"\n":
                text = "\n" + text
            stream.write(text.encode())
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; free the disk, then run the same command again"
        ) from error


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


def _last_byte(stream: Any) -> bytes:
    stream.seek(-1, os.SEEK_END)
    last = stream.read(1)
    stream.seek(0, os.SEEK_END)
    return last


def _link_once(temporary: Path, path: Path, *, lock: Path | None) -> bool:
    """Give `temporary` the name `path` unless that name is taken; judged by the link count after an error.

    Where the file system has no links, the exclusive create of `lock` decides and a rename follows; without a lock,
    `path` itself is created exclusively and then filled.
    """
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return temporary.stat().st_nlink == 2
    except OSError:
        if temporary.stat().st_nlink == 2:  # a network file system may link and still report an error
            return True
    try:
        os.close(os.open(lock or path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        if lock is None or path.exists():
            return False  # whoever took the lock has published; else it died before its rename, and ours is the same
    temporary.replace(path)
    return True
