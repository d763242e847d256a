"""Corpora as a stream of documents, each a piece of bytes, in a fixed order. Empty documents are left out.

One reader per kind of place. Splitting, tokens and hashes of whole corpora are not its business.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import islice
from pathlib import Path

from experiments.data.config import DataConfig
from experiments.data.identity import corpus_files
from experiments.errors import UserError

PASSAGE_BYTES = 2048
"""A passage of a plain text file has at least this many bytes, the last one excepted."""
_PASSAGE_ODDS = 16


def documents(data: DataConfig) -> Iterator[bytes]:
    """The documents of a corpus of text, in their order."""
    limit = int(data.option("max_documents")) if "max_documents" in data.info.options else 0
    stream = (document for document in _read(data) if document.strip())
    return islice(stream, limit) if limit else stream


def _read(data: DataConfig) -> Iterator[bytes]:
    kind = data.info.kind if data.info.kind == "packaged" else data.info.name
    if kind == "packaged":
        return _packaged(data.info.name)
    if kind == "text":
        return _text(corpus_files(data), str(data.option("separator")))
    raise UserError(f"corpus {data.corpus!r} is not text; it has no documents")


def _packaged(name: str) -> Iterator[bytes]:
    packed = resources.files("experiments.data").joinpath("packaged", f"{name}.jsonl.xz")
    with packed.open("rb") as raw, lzma.open(raw, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)["text"].encode()


def _text(files: Iterable[Path], separator: str) -> Iterator[bytes]:
    files = list(files)
    for path in files:
        content = path.read_bytes()
        if separator:
            yield from content.split(separator.encode())
        elif len(files) == 1:
            yield from passages(content)
        else:
            yield content


def passages(content: bytes) -> Iterator[bytes]:
    """Cut one long text into passages at lines that its own content chooses.

    A passage ends after the first line, past PASSAGE_BYTES, whose checksum is a multiple of 16. Text put in or taken
    out changes the passages around it and no others, so that the split by document hash stays where it was.
    """
    start = position = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        if position - start >= PASSAGE_BYTES and line.strip() and zlib.crc32(line) % _PASSAGE_ODDS == 0:
            yield content[start:position]
            start = position
    yield content[start:]
