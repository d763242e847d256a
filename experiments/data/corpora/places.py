"""Where the files of a corpus lie, and what each of them hashes to: standard library only."""

from __future__ import annotations

import hashlib
from pathlib import Path

from experiments.data.cache import Cache, read_json, write_json
from experiments.data.config import DataConfig
from experiments.errors import UserError

SUFFIXES = {"text": (".txt",), "jsonl": (".jsonl", ".json", ".jsonl.gz"), "parquet": (".parquet",)}
"""Which files of a folder belong to a PREFIX:FOLDER corpus."""
WILDCARDS = "*?["
"""Characters of a pattern such as `text:notes/**/*.md`."""


def corpus_files(data: DataConfig) -> list[Path]:
    """List the files of a PREFIX:PATH corpus: one file, those of a folder by their suffix, or those of a pattern.

    Parameters
    ----------
    data : DataConfig
        A config of such a corpus.

    Returns
    -------
    list of Path
        Sorted by their path.

    Raises
    ------
    UserError
        When there is no such path, or a folder without a file of the kind.
    """
    place = Path(data.where).expanduser()
    if place.is_file():
        return [place]
    suffixes = SUFFIXES[data.info.name]
    if any(character in data.where for character in WILDCARDS) and not place.exists():
        pattern = str(place.relative_to(place.anchor))
        matched = sorted(path for path in Path(place.anchor).glob(pattern) if path.is_file())
        if not matched:
            raise UserError(f"corpus {data.corpus!r} is empty: no file matches {place}; correct the pattern")
        return matched
    if not place.is_dir():
        raise UserError(
            f"corpus {data.corpus!r} is not there: {place} is neither a file nor a folder; correct the path, which is "
            "read from the folder of the sweep file"
        )
    found = sorted(path for path in place.rglob("*") if path.name.endswith(suffixes) and path.is_file())
    if not found:
        raise UserError(f"corpus {data.corpus!r} is empty: {place} holds no {suffixes[0]} file; correct the path")
    return found


def file_hashes(files: list[Path], cache: Cache) -> list[str]:
    """Hash files; hashes are remembered in the cache by path, size and times of change.

    Parameters
    ----------
    files : list of Path
        The files.
    cache : Cache
        The cache folder.

    Returns
    -------
    list of str
        sha256 of each.

    Raises
    ------
    UserError
        When the cache cannot be written.
    """
    paths = [str(path.resolve()) for path in files]
    key = hashlib.sha256("\0".join(paths).encode()).hexdigest()[:24]
    memo = cache.hashes / f"{key}.json"
    known = (read_json(memo) or {}).get("files", {})
    found = {}
    for name, path in zip(paths, files, strict=True):
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        if known.get(name, [])[:3] == stamp:
            found[name] = known[name]
        else:
            with path.open("rb") as file:
                found[name] = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
    if found != known:
        write_json(memo, {"files": found})
    return [str(found[name][3]) for name in paths]


def spool_folder(data: DataConfig, cache: Cache) -> Path:
    """Name the folder in which the documents of a fetched or streamed corpus are kept.

    Parameters
    ----------
    data : DataConfig
        A config of such a corpus.
    cache : Cache
        The cache folder.

    Returns
    -------
    Path
        The folder, whether it is there or not.
    """
    if data.info.kind == "fetched":
        return cache.corpora / data.info.name
    words = repr((data.where, sorted(data.options.items())))
    return cache.corpora / f"{data.info.name}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
