"""Digests: how a file says what its content was when it was written, and how a reader finds out that it changed.

A JSON document holds the sha256 of the rest of itself as `digest`; a line of metrics ends with a crc32; a binary file
ends with a line that holds the sha256 of all before it. What has none was written by an older version and is taken as
it is. This file must not know what the files mean. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIGEST = "digest"
"""Key of a JSON document's own digest."""
_CHECK = ', "crc": "'
_MARK = b"\nisoflop sha256 "
_TRAILER_BYTES = len(_MARK) + 64 + 1
_BLOCK_BYTES = 1 << 22


def digest_of(content: Any) -> str:
    """Hash plain values.

    Parameters
    ----------
    content : object
        What JSON can hold.

    Returns
    -------
    str
        64 hex digits: sha256 of the JSON with sorted keys and no blanks.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give a JSON object its own digest.

    Parameters
    ----------
    content : mapping of str to object
        The document.

    Returns
    -------
    dict of str to object
        The document as JSON gives it back, and `digest`.
    """
    plain: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    plain.pop(DIGEST, None)
    return plain | {DIGEST: digest_of(plain)}


def has_changed(raw: dict[str, Any]) -> bool:
    """Take the digest out of a JSON object that was read, and compare.

    Parameters
    ----------
    raw : dict of str to object
        What was read; `digest` is removed from it.

    Returns
    -------
    bool
        True when the content is not the one that was written; False also where there is no digest.
    """
    known = raw.pop(DIGEST, None)
    return known is not None and known != digest_of(raw)


# -- lines of metrics --------------------------------------------------------------------------------------------------


def checked_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row of metrics a checksum, as its last value.

    Parameters
    ----------
    row : mapping of str to object
        The row.

    Returns
    -------
    dict of str to object
        The row and `crc`: crc32 of the JSON text before it, 8 hex digits.
    """
    head = json.dumps(row, allow_nan=False)[:-1]
    return {**row, "crc": f"{zlib.crc32(head.encode()):08x}"}


def line_has_changed(line: str) -> bool:
    """Compare a line of metrics with its checksum.

    Parameters
    ----------
    line : str
        A line of metrics.jsonl.

    Returns
    -------
    bool
        Whether it is not the line that was written; False where there is no checksum.
    """
    head, mark, check = line.rpartition(_CHECK)
    return bool(mark) and check != f'{zlib.crc32(head.encode("utf-8", "replace")):08x}"}}'


def row_of(line: str) -> dict[str, Any] | None:
    """Read one line of metrics.

    Parameters
    ----------
    line : str
        A line of metrics.jsonl.

    Returns
    -------
    dict of str to object, or None
        The row without its checksum; None for a line that was torn by a kill, or changed since.
    """
    if line_has_changed(line):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    if not isinstance(step, int) or isinstance(step, bool):
        return None
    row.pop("crc", None)
    return row


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """Read rows of metrics; a line that was torn by a kill, or changed since, is left out.

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
        row = row_of(line)
        if row is not None:  # else the resumed run wrote that step again
            rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


# -- binary files ------------------------------------------------------------------------------------------------------


def with_trailer(content: bytes) -> bytes:
    """Add a last line with the sha256 of everything before it.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    bytes
        What to write.
    """
    return content + _MARK + hashlib.sha256(content).hexdigest().encode() + b"\n"


def without_trailer(content: bytes) -> memoryview | None:
    """Take the last line off a file that was read, and compare.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    memoryview or None
        The file's own content; None when it is not the one that was written. Without a last line: all of it.
    """
    view = memoryview(content)
    last = content[-_TRAILER_BYTES:]
    if not last.startswith(_MARK):
        return view
    body = view[:-_TRAILER_BYTES]
    return body if last[len(_MARK) : -1].decode("ascii", "replace") == hashlib.sha256(body).hexdigest() else None


def check_trailer(path: Path) -> bool | None:
    """Compare a file with its last line, block by block.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool or None
        Whether the content is the one that was written; None where there is no last line.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size < _TRAILER_BYTES:
            return None
        stream.seek(size - _TRAILER_BYTES)
        last = stream.read()
        if not last.startswith(_MARK):
            return None
        stream.seek(0)
        digest, left = hashlib.sha256(), size - _TRAILER_BYTES
        while left and (block := stream.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
    return last[len(_MARK) : -1].decode("ascii", "replace") == digest.hexdigest()


def file_digest(path: Path) -> str:
    """Hash a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        sha256, 64 hex digits.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class FileMark:
    """A file as it was when its digest was compared."""

    stat: tuple[int, ...]
    """Its number, size and times."""
    digest: str
    """sha256 of its content."""

    @classmethod
    def of(cls, path: Path, digest: str | None = None) -> FileMark:
        """Mark a file as it is now.

        Parameters
        ----------
        path : Path
            The file.
        digest : str, optional
            Its digest, where it was compared just now.

        Returns
        -------
        FileMark
            To be compared with the file later.
        """
        return cls(_stat(path), file_digest(path) if digest is None else digest)

    def holds(self, path: Path) -> bool:
        """Say whether a file still has the content that was marked.

        Parameters
        ----------
        path : Path
            The file; it is read only where its number, size or times differ.

        Returns
        -------
        bool
            False also for a file that has gone.
        """
        try:
            return _stat(path) == self.stat or file_digest(path) == self.digest
        except OSError:
            return False


def _stat(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
