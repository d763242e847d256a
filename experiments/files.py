"""How files reach the disk: whole or not at all, appended by lines, or published once.

Every file that the suite writes goes through `write_atomic`, `append_rows` or `link_once`. This file must not know what
is written. Standard library only.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from experiments.errors import UserError

SAFE_TO_REPEAT = "nothing that was finished is lost: free the disk or make it writable, then run the same command again"
"""What a person does when the store's disk refuses."""


class StoreError(UserError):
    """The disk refuses: it is full, read-only or gone. The message says what to do."""


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True, remedy: str = SAFE_TO_REPEAT) -> None:
    """Write a file whole or not at all, and make its folder where there is none.

    Parameters
    ----------
    path : Path
        The file; one that is there is replaced.
    content : str or bytes
        All of it; text is written as UTF-8.
    durable : bool
        Whether to wait until the disk has it (fsync). Without, a crash of the machine may lose the file; for what can
        be written again.
    remedy : str
        What to do when the disk refuses, as the end of the message.

    Raises
    ------
    StoreError
        The disk refuses. What stood at `path` before is untouched.
    """
    try:
        replace_file(path, content, durable=durable)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; {remedy}") from error


def replace_file(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """`write_atomic` for callers that put an OSError into words of their own.

    Parameters
    ----------
    path : Path
        The file; one that is there is replaced by a rename.
    content : str or bytes
        All of it; text is written as UTF-8.
    durable : bool
        Whether to wait until the disk has it (fsync).

    Raises
    ------
    OSError
        The disk refuses.
    """
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


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a file of JSON lines.

    A last line that a killed writer left without its end is ended first, so that it spoils no other.

    Parameters
    ----------
    path : Path
        The file; made where there is none.
    rows : iterable of mappings
        One JSON object a line; NaN and infinity are refused.

    Raises
    ------
    StoreError
        The disk refuses.
    """
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


def _last_byte(stream: BinaryIO) -> bytes:
    stream.seek(-1, os.SEEK_END)
    last = stream.read(1)
    stream.seek(0, os.SEEK_END)
    return last


def link_once(temporary: Path, path: Path, *, lock: Path | None) -> bool:
    """Give a file its final name unless that name is taken.

    A link either exists whole or not at all. A network file system may link and still report an error; the number of
    links then tells what happened. Where the file system has no links, an exclusive create decides, and a rename
    follows.

    Parameters
    ----------
    temporary : Path
        A file that is complete.
    path : Path
        The name that it shall have.
    lock : Path or None
        The file whose exclusive create decides where there are no links; None: `path` itself.

    Returns
    -------
    bool
        Whether this call gave the name.
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
