"""How files reach the disk: whole or not at all, appended by lines, and published once.

Every file that the suite writes for itself goes through `write_atomic`, `append_rows` or `link_once`. This file must
not know what is written.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError


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


def _last_byte(stream: Any) -> bytes:
    stream.seek(-1, os.SEEK_END)
    last = stream.read(1)
    stream.seek(0, os.SEEK_END)
    return last


def link_once(temporary: Path, path: Path, *, lock: Path | None) -> bool:
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
