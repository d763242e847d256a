"""How files reach the disk: whole or not at all, appended by lines, or published once.

Every file that the suite writes goes through `write_atomic`, `append_rows` or `link_once`. This file must not know what
is written. Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as stream:  # the mode is what the umask leaves
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder: a rename alone may be lost with the machine.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    OSError
        The disk refuses; a file system that cannot do this at all is none.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Wait until the disk has what was appended to a file.

    Parameters
    ----------
    path : Path
        The file; nothing happens where there is none.

    Raises
    ------
    StoreError
        The disk refuses.
    """
    try:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; {SAFE_TO_REPEAT}") from error


def remove(path: Path) -> None:
    """Remove a file; one that is gone already is no error.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    StoreError
        The disk refuses.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}; {SAFE_TO_REPEAT}") from error


def replace(path: Path, target: Path) -> None:
    """Rename a file; one that has the name is replaced.

    Parameters
    ----------
    path : Path
        The file.
    target : Path
        Its new name.

    Raises
    ------
    StoreError
        The disk refuses.
    """
    try:
        path.replace(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}; {SAFE_TO_REPEAT}") from error


def set_aside(path: Path, folder: Path | None = None) -> Path | None:
    """Move a damaged file out of the way, so that it can be looked at and is read by nobody.

    Parameters
    ----------
    path : Path
        The file. One that was set aside before under the same name is replaced: one is enough to look at.
    folder : Path, optional
        Where it goes; beside the file by default.

    Returns
    -------
    Path or None
        Its new name, `damaged-<name>`; None when somebody else moved or removed it meanwhile.

    Raises
    ------
    StoreError
        The disk refuses.
    """
    target = (folder or path.parent) / f"damaged-{path.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot move the damaged {path}: {error.strerror}; remove it by hand") from error
    return target


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
