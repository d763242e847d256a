"""Whether the files of a store are those that were written: every file that holds a digest, or that can be checked.

Reads everything and changes nothing. It must not know how anything is trained. Standard library only.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.digests import DIGEST, check_trailer, file_digest, line_has_changed
from experiments.errors import UserError
from experiments.manifests import read_manifest
from experiments.records import RecordError, RunRecord
from experiments.store.checkpoints import read_needed
from experiments.store.claims import parse_claim_name
from experiments.store.store import RunStore
from experiments.store.weights import WEIGHTS

TRAINED_AGAIN = "`isoflop run` sets it aside and trains the run again"
GOES_ON = "it is set aside when it is read, and training goes on from the checkpoint before it"
WRITTEN_ANEW = "`isoflop run` of the sweep's YAML writes it anew"


@dataclass(frozen=True)
class Finding:
    """A file that is not what was written."""

    path: str
    """The file, relative to the store."""
    problem: str
    """What is wrong."""
    remedy: str
    """What becomes of it, or what to do."""


@dataclass
class Verification:
    """What the check of a store found."""

    num_files: int = 0
    """Files that were checked."""
    num_without_digest: int = 0
    """Those of an older version, which hold no digest and were checked as far as their form goes."""
    damaged: list[Finding] = field(default_factory=list)
    """Files that are not what was written."""
    foreign: list[Finding] = field(default_factory=list)
    """Names that are not the store's own; they are left alone."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `verify --json`."""
        return {
            "schema": 1,
            "num_files": self.num_files,
            "num_without_digest": self.num_without_digest,
            "damaged": [vars(item) for item in self.damaged],
            "foreign": [vars(item) for item in self.foreign],
        }


def verify_store(store: RunStore) -> Verification:
    """Check every file of a store.

    Parameters
    ----------
    store : RunStore
        The store.

    Returns
    -------
    Verification
        What is damaged and what is foreign, by path.
    """
    return _Checker(store).check()


class _Checker:
    """Walks over one store."""

    def __init__(self, store: RunStore) -> None:
        self.store, self.found = store, Verification()

    def check(self) -> Verification:
        for path in sorted(self.store.sweeps.glob("*.json")):
            self._document(path, WRITTEN_ANEW, lambda path=path: read_manifest(path))
        for path in sorted(self.store.sweeps.glob("*.jobs")):
            self._count(
                path, all(map(_is_object, _lines(path))), "a line is no JSON object", "see `squeue` for the jobs"
            )
        states = self.store.claims.states()
        for folder in _folders(self.store.runs):
            done = folder.name in states and states[folder.name].published
            self._run(folder, said_done=done)
        for folder in _folders(self.store.prefixes):
            self._prefix(folder)
        self._claims()
        return self.found

    def _run(self, folder: Path, *, said_done: bool) -> None:
        if not any((folder / name).exists() for name in ("config.json", "record.json", "metrics.jsonl", "earlier")):
            if any(folder.iterdir()):
                self._foreign(folder, "it is no run's folder")
            return
        name = folder.name
        self._document(folder / "config.json", WRITTEN_ANEW, lambda: self.store.read_any(name), has_digest=True)
        record = None
        if (folder / "record.json").exists():
            record = self._document(folder / "record.json", TRAINED_AGAIN, lambda: self.store.read_record(name))
        elif said_done:
            self._damaged(
                folder / "record.json", "it is gone, though a claim says that the run was done", TRAINED_AGAIN
            )
        self._weights(folder / WEIGHTS, record)
        self._metrics(folder / "metrics.jsonl")
        self._checkpoints(folder / "checkpoints")

    def _prefix(self, folder: Path) -> None:
        self._metrics(folder / "metrics.jsonl")
        self._checkpoints(folder)
        self._checkpoints(folder / "checkpoints")
        for path in sorted(folder.glob("needed/*.json")):
            problem = "it does not say which runs leave the prefix where, as the sweep does"
            self._count(path, self._agrees(path), problem, WRITTEN_ANEW)

    def _agrees(self, needed: Path) -> bool:
        """Whether a sweep's declaration of what it needs of a prefix can be read, and is that of its manifest."""
        branches, sweep = read_needed(needed), self.store.manifest_path(needed.stem)
        try:
            return branches is not None and branches == read_manifest(sweep).trunks.get(needed.parent.parent.name)
        except (RecordError, OSError):
            return branches is not None  # the manifest is gone, or named already

    def _checkpoints(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.pt")):
            if path.name.startswith("damaged-"):
                continue  # set aside already
            if not path.is_file():
                self._damaged(path, "it is no regular file", GOES_ON)
                continue
            try:
                whole = check_trailer(path)
                self.found.num_without_digest += whole is None
                self._count(
                    path, _is_whole_zip(path) if whole is None else whole, "it is not what was written", GOES_ON
                )
            except OSError as error:
                self._damaged(path, f"it cannot be read ({error.strerror})", GOES_ON)

    def _metrics(self, path: Path) -> None:
        if not path.exists():
            return
        if not path.is_file():
            self._damaged(path, "it is no regular file", "remove it")
            return
        lines = _lines(path)
        changed = sum(line_has_changed(line) for line in lines)
        self.found.num_without_digest += bool(lines) and not any('"crc": "' in line for line in lines)
        torn = sum(not _is_object(line) for line in lines if not line_has_changed(line))
        words = f"{changed + torn} of {len(lines)} lines have changed or were torn by a kill"
        self._count(path, changed == 0 and torn == 0, words, "they are left out; the record rests on none of them")

    def _weights(self, path: Path, record: RunRecord | None) -> None:
        known = None if record is None else record.execution.get("weights_sha256")
        if known is None:
            if path.exists():
                self.found.num_files += 1
                self.found.num_without_digest += 1
            return
        remedy = "remove the run's record.json and run again to have them"
        if not path.exists():
            self._damaged(path, "it is gone, though the record names it", remedy)
        else:
            self._count(path, file_digest(path) == known, "these are not the weights that the record names", remedy)

    def _claims(self) -> None:
        if not self.store.claims.folder.is_dir():
            return
        for path in sorted(self.store.claims.folder.iterdir()):
            name = parse_claim_name(path.name)
            if name is None or not path.is_file():
                if not path.name.startswith(".claim."):  # what a killed worker left
                    self._foreign(path, "it is no claim")
                continue
            if name[2] is None:
                whole = self.store.claims.owner(name[0], name[1]) is not None
                self._count(path, whole, "it does not say whose it is", "its worker is judged by its heartbeat alone")
            else:
                whole = _is_object(path.read_text(encoding="utf-8", errors="replace"))
                self._count(path, whole, "it holds no reason", "its name counts, and the reason is not known")

    # -- what was found ------------------------------------------------------------------------------------------------

    def _document(self, path: Path, remedy: str, read: Any, *, has_digest: bool = False) -> Any:
        """Read a JSON document as its readers do; None where they refuse."""
        self.found.num_files += 1
        try:
            content = read()
        except (UserError, OSError) as error:
            self._damaged(path, _problem(error, path), remedy)
            return None
        if not has_digest and f'"{DIGEST}"' not in path.read_text(encoding="utf-8"):
            self.found.num_without_digest += 1
        return content

    def _count(self, path: Path, whole: bool, problem: str, remedy: str) -> None:
        self.found.num_files += 1
        if not whole:
            self._damaged(path, problem, remedy)

    def _damaged(self, path: Path, problem: str, remedy: str) -> None:
        self.found.damaged.append(Finding(str(path.relative_to(self.store.root)), problem, remedy))

    def _foreign(self, path: Path, problem: str) -> None:
        self.found.foreign.append(Finding(str(path.relative_to(self.store.root)), problem, "it is left alone"))


def _problem(error: UserError | OSError, path: Path) -> str:
    """What an error says of a file, without the file's name and the usual remedy."""
    text = str(error).partition("; ")[0] if isinstance(error, (RecordError, UserError)) else str(error.strerror)
    return text.removeprefix(f"{path} ")


def _folders(parent: Path) -> Iterator[Path]:
    yield from sorted(path for path in parent.glob("*") if path.is_dir() and not path.is_symlink())


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_whole_zip(path: Path) -> bool:
    """Whether the checksums within a checkpoint of an older version hold; OSError where it cannot be read at all."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        return False  # what a damaged archive raises: the caller names the file
