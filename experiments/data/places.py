"""Where the files of a corpus lie, and what each of them hashes to: standard library only."""

from __future__ import annotations

import hashlib
from pathlib import Path

from experiments.data.cache import cache_folder, read_json, write_json
from experiments.data.config import DataConfig
from experiments.errors import UserError

SUFFIXES = {"text": (".txt",), "jsonl": (".jsonl", ".json"), "parquet": (".parquet",)}
"""Which files of a folder belong to a PREFIX:FOLDER corpus."""


def corpus_files(data: DataConfig) -> list[Path]:
    """The files of a PREFIX:PATH corpus, sorted by their path below it.

    Raises
    ------
    UserError
        There is no such path, or a folder without a file of the kind.
    """
    place = Path(data.where).expanduser()
    if place.is_file():
        return [place]
    suffixes = SUFFIXES[data.info.name]
    if not place.is_dir():
        raise UserError(
            f"corpus {data.corpus!r} is not there: {place} is neither a file nor a folder; correct the path"
        )
    found = sorted(path for path in place.rglob("*") if path.suffix in suffixes and path.is_file())
    if not found:
        raise UserError(f"corpus {data.corpus!r} is empty: {place} holds no {suffixes[0]} file; correct the path")
    return found


def file_hash(path: Path, cache_dir: str | Path | None = None) -> str:
    """sha256 of a file, remembered in the cache by its path, size and times of change."""
    stat = path.stat()
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    memo = cache_folder(cache_dir) / "hashes" / f"{key}.json"
    stamp = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}
    known = read_json(memo)
    if known is not None and all(known.get(name) == value for name, value in stamp.items()):
        return str(known["sha256"])
    with path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(memo, {**stamp, "sha256": value})
    return value


def spool_folder(data: DataConfig, cache_dir: str | Path | None = None) -> Path:
    """Where the documents of a fetched or streamed corpus are kept in the cache."""
    if data.info.kind == "fetched":
        return cache_folder(cache_dir) / "corpora" / data.info.name
    words = repr((data.where, sorted(data.options.items())))
    return cache_folder(cache_dir) / "corpora" / f"{data.info.name}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
