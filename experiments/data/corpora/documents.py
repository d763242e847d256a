"""Corpora as a stream of documents, each a piece of bytes, in a fixed order. Empty documents are left out.

One reader per kind of place. Splitting, tokens and hashes of whole corpora are not its business; what only some
readers need, pyarrow and datasets among it, is imported by them alone, for planning imports this file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from experiments.data.cache import Cache, build_folder, explain_write_errors, read_json, write_json
from experiments.data.config import DataConfig
from experiments.data.corpora.hub import import_datasets, not_had
from experiments.data.corpora.places import corpus_files, spool_folder
from experiments.errors import UserError

PASSAGE_BYTES = 2048
"""A passage of a plain text file has at least this many bytes, the last one excepted."""
_PASSAGE_ODDS = 16


def documents(data: DataConfig, cache: Cache) -> Iterator[bytes]:
    """Read the documents of a corpus of text, in their order.

    Parameters
    ----------
    data : DataConfig
        Corpus, tokenizer and context.
    cache : Cache
        The cache folder.

    Returns
    -------
    iterator of bytes
        Documents that are not blank, at most `max_documents`.

    Raises
    ------
    UserError
        When the corpus is not there, cannot be read, has not been fetched, or is no text.
    """
    limit = int(data.option("max_documents")) if "max_documents" in data.info.options else 0
    stream = (document for document in _read(data, cache) if document.strip())
    return islice(stream, limit) if limit else stream


def _read(data: DataConfig, cache: Cache) -> Iterator[bytes]:
    match data.info.kind, data.info.name:
        case "packaged", name:
            return _packaged(name)
        case "fetched", name:
            spool = spool_folder(data, cache) / "documents.jsonl"
            if not spool.is_file():
                raise UserError(f"corpus {name!r} is not in the cache; run: isoflop data fetch {name}")
            return _json_lines([spool], "text")
        case _, "hf":
            return _json_lines([spool_stream(data, cache) / "documents.jsonl"], "text")
        case _, "text":
            return _text(corpus_files(data), str(data.option("separator")))
        case _, "jsonl":
            return _json_lines(corpus_files(data), str(data.option("text_field")))
        case _, "parquet":
            return _parquet(corpus_files(data), str(data.option("text_field")))
    raise UserError(f"corpus {data.corpus!r} is a language of bare tokens; it has no documents")


def _packaged(name: str) -> Iterator[bytes]:
    import lzma
    from importlib import resources

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

    Parameters
    ----------
    content : bytes
        The text.

    Yields
    ------
    bytes
        Passages that join to the text.
    """
    start = position = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        if position - start >= PASSAGE_BYTES and line.strip() and zlib.crc32(line) % _PASSAGE_ODDS == 0:
            yield content[start:position]
            start = position
    yield content[start:]


def _json_lines(files: Iterable[Path], text_field: str) -> Iterator[bytes]:
    for path in files:
        with closing(_lines(path)) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{path}, line {number}, is not JSON ({error}); fix it or leave it out") from error
                if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
                    fields = ", ".join(sorted(row)) if isinstance(row, dict) else "none"
                    raise UserError(
                        f"{path}, line {number}, has no text field {text_field!r} (fields: {fields}); "
                        f"name the right one by the corpus option text_field"
                    )
                yield row[text_field].encode("utf-8", errors="replace")


def _lines(path: Path) -> Generator[bytes, None, None]:
    """The lines of a file, unpacked where its name ends in .gz."""
    if path.suffix != ".gz":
        with path.open("rb") as plain:
            yield from plain
        return
    try:
        with gzip.open(path) as packed:
            yield from packed
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked ({error}); pack it again with gzip") from error


def _parquet(files: Iterable[Path], text_field: str) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        try:
            table = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not a Parquet file that can be read ({str(error).splitlines()[0]})") from error
        names = table.schema_arrow.names
        if text_field not in names:
            raise UserError(
                f"{path} has no column {text_field!r} (columns: {', '.join(names)}); "
                f"name the right one by the corpus option text_field"
            )
        for batch in table.iter_batches(columns=[text_field]):
            for value in batch.column(0).to_pylist():
                if value is not None:
                    yield value if isinstance(value, bytes) else str(value).encode("utf-8", errors="replace")


def write_spool(folder: Path, rows: Iterable[dict[str, Any]], facts: dict[str, Any]) -> int:
    """Write documents as JSON lines, with a meta.json beside them.

    Parameters
    ----------
    folder : Path
        An empty folder.
    rows : iterable of dict of str to object
        Documents, each with at least a `text`.
    facts : dict of str to object
        What meta.json says beside the number, the bytes and the content hash.

    Returns
    -------
    int
        Number of documents.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    hashes, num_documents, num_bytes = hashlib.sha256(), 0, 0
    with explain_write_errors(folder), (folder / "documents.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            text = row["text"].encode("utf-8", errors="replace")
            hashes.update(hashlib.sha256(text).digest())
            num_documents += 1
            num_bytes += len(text)
            file.write(json.dumps({**row, "text": text.decode()}, ensure_ascii=False, sort_keys=True) + "\n")
    counts = {"num_documents": num_documents, "num_bytes": num_bytes, "content_hash": hashes.hexdigest()}
    write_json(folder / "meta.json", {**facts, **counts})
    return num_documents


def spool_hash(folder: Path) -> str | None:
    """Read the content hash of documents that `write_spool` wrote; None where there are none."""
    meta = read_json(folder / "meta.json")
    return None if meta is None else str(meta["content_hash"])


def spool_stream(data: DataConfig, cache: Cache) -> Path:
    """Stream the documents of a Hugging Face data set into the cache, once.

    What is kept is a snapshot: the content hash is that of the documents as they came. Delete the folder to take a new
    one.

    Parameters
    ----------
    data : DataConfig
        A config of an hf:NAME corpus.
    cache : Cache
        The cache folder.

    Returns
    -------
    Path
        The folder of the documents.

    Raises
    ------
    UserError
        When the data set cannot be had, or the disk refuses.
    """

    def build(folder: Path) -> None:
        rows = ({"text": text} for text in _stream(data))
        if not write_spool(folder, rows, {"data_set": data.where, "options": dict(data.options)}):
            raise UserError(f"data set {data.where!r} gave no document; look at its split and its text_field")

    return build_folder(spool_folder(data, cache), build)


def _stream(data: DataConfig) -> Iterator[str]:
    datasets = import_datasets()
    name, _, config = data.where.partition(":")
    split, text_field = str(data.option("split")), str(data.option("text_field"))
    revision = str(data.option("revision")) or None
    try:
        stream = datasets.load_dataset(name, config or None, split=split, revision=revision, streaming=True)
        for row in islice(stream, int(data.option("num_documents"))):
            if not isinstance(row.get(text_field), str):
                raise UserError(
                    f"data set {data.where!r} has no text field {text_field!r} (fields: {', '.join(sorted(row))}); "
                    f"name the right one by the corpus option text_field"
                )
            yield row[text_field]
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise not_had(data.where, error) from error
