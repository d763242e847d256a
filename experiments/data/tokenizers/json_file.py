"""Size and hash of a tokenizer.json of the package tokenizers, for planning; standard library only."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from experiments.errors import UserError


def tokenizer_file(tokenizer: str) -> Path | None:
    """Read the path off the name "json:PATH"; None for another name."""
    prefix, colon, where = tokenizer.partition(":")
    return Path(where).expanduser() if prefix == "json" and colon and where else None


def file_vocabulary(path: Path) -> tuple[int, str]:
    """Read what identifies a tokenizer.json of the package tokenizers, without that package.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    num_ids : int
        One more than its largest id, added tokens among them.
    digest : str
        sha256 of the file.

    Raises
    ------
    UserError
        When there is no such file, or it is no tokenizer.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(
            f"tokenizer {path} is not there; correct the path, which is read from the folder of the sweep file"
        ) from error
    return _file_vocabulary(path, stat.st_mtime_ns, stat.st_size)


@cache
def _file_vocabulary(path: Path, changed: int, size: int) -> tuple[int, str]:
    """The same, read again only when the file has changed."""
    del changed, size
    try:
        content = path.read_bytes()
        raw = json.loads(content)
        vocabulary = raw["model"]["vocab"]
        listed = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
        ids = [*listed, *(added["id"] for added in raw.get("added_tokens") or ())]
        return 1 + max(ids), hashlib.sha256(content).hexdigest()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no tokenizer.json of the package tokenizers ({type(error).__name__}: {error}); write it with "
            "Tokenizer.save"
        ) from error
