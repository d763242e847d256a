"""The cache folder: where it is, how files get into it whole or not at all, and what a full or read-only disk says.

Owns whole folders and the courtesy lock that keeps two processes from doing the same work. Must not know what is
stored, and imports neither numpy nor torch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.files import replace_file

CACHE_VARIABLE = "ISOFLOP_CACHE"
"""Environment variable that names the cache folder."""

_SPACE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_ACCESS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "writing there is not allowed",
    errno.EPERM: "writing there is not allowed",
    errno.ENOTDIR: "a part of that path is a file",
    errno.EEXIST: "a part of that path is a file",
}


def default_root() -> Path:
    """The cache folder of this machine: `$ISOFLOP_CACHE`, else `~/.cache/isoflop`. Nothing is created."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "isoflop"


@dataclass(frozen=True)
class Cache:
    """The cache folder: made once by a command and handed on to whatever reads or builds data.

    What lies in it can be made again, from the corpora and by `data fetch`: it can be deleted at any time.
    """

    root: Path = field(default_factory=default_root)
    """The folder; nothing is created before something is written."""

    @property
    def corpora(self) -> Path:
        """Documents of fetched and streamed corpora."""
        return self.root / "corpora"

    @property
    def hashes(self) -> Path:
        """Remembered hashes of a user's own files."""
        return self.root / "hashes"

    @property
    def tokenizers(self) -> Path:
        """Trained tokenizers."""
        return self.root / "tokenizers"

    @property
    def tokens(self) -> Path:
        """Token files."""
        return self.root / "tokens"


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn a refusal of the disk into one sentence that names the cache folder as the remedy.

    Parameters
    ----------
    path : Path
        What is being written. An error about another file, such as one that is read meanwhile, passes unchanged.

    Raises
    ------
    UserError
        The disk is full or read-only, or the folder cannot be made.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _SPACE:
            raise UserError(
                f"could not write {path}: {_SPACE[error.errno]}; free some space or point {CACHE_VARIABLE} at another "
                "disk"
            ) from error
        if error.errno in _ACCESS or _concerns(error, path):
            reason = _ACCESS.get(error.errno or 0) or (error.strerror or type(error).__name__).lower()
            raise UserError(
                f"could not write {path}: {reason}; point {CACHE_VARIABLE} at a folder that can be written"
            ) from error
        raise


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about `path`, a folder above it, or a file beside or below it."""
    if error.filename is None:
        return False
    named = Path(os.fsdecode(error.filename))
    return named == path or named in path.parents or path.parent in named.parents


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, keys sorted.

    Parameters
    ----------
    path : Path
        The file in the cache.
    content : mapping of str to object
        The object; NaN and infinity are refused.

    Raises
    ------
    UserError
        When the disk refuses; the message names the cache folder as the remedy.
    """
    with explain_write_errors(path):
        replace_file(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object that `write_json` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to object, or None
        None where there is no such file.

    Raises
    ------
    UserError
        When the file is there and holds no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again: it is made anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (not a JSON object); delete it and run again: it is made anew")
    return content


@contextlib.contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Hold an advisory lock beside a path, so that of two processes one builds and the other waits.

    A courtesy only: where the file system has no locks both build, and `build_folder` keeps the first.

    Parameters
    ----------
    path : Path
        What is to be built.

    Yields
    ------
    bool
        Whether the lock is held.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f".{path.name}.lock").open("ab")
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except (ImportError, OSError):  # no advisory locks here: correctness rests on the rename alone
            held = False
        yield held


def build_folder(
    path: Path,
    build: Callable[[Path], None],
    *,
    complete: str = "meta.json",
    problem: Callable[[Path], str | None] = lambda path: None,
) -> Path:
    """Make a folder once, whole or not at all; one that is damaged is made anew, and standard error says so.

    Parameters
    ----------
    path : Path
        Where the folder appears, in one rename.
    build : callable
        Fills the empty folder that it is given; runs only where `path` lacks the file `complete`.
    complete : str
        The file whose presence says that the folder is whole.
    problem : callable
        Says what is wrong with a folder that is there; None where nothing is.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UserError
        When the disk refuses; the message names the cache folder as the remedy.
    """
    if (path / complete).is_file() and problem(path) is None:
        return path
    with lock(path) as held:
        wrong = problem(path) if (path / complete).is_file() else f"{path / complete} is missing"
        if wrong is None:
            return path
        if path.exists():
            sys.stderr.write(f"warning: {wrong}; it is made anew\n")
            with explain_write_errors(path), contextlib.suppress(FileNotFoundError):  # another process was quicker
                path.rename(path.with_name(f".{path.name}.{os.urandom(4).hex()}"))
        if held:  # whoever left these was killed while building
            for leftover in path.parent.glob(f".{path.name}.*/"):
                shutil.rmtree(leftover, ignore_errors=True)
        with explain_write_errors(path):
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            try:
                build(temporary)
                for file in temporary.iterdir():
                    _fsync(file)
                temporary.chmod(0o755)
                try:
                    temporary.rename(path)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not (path / complete).is_file():
                        raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return path


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
