"""Token files: written once, whole or not at all, then mapped into memory.

Documents are split and turned into ids on the way.

Layout of `tokens/<corpus>-<key>/`: train.bin (one stream, every document followed by end-of-document, one such token
in front), val.bin (documents one after the other in the same form), meta.json. Owns the split. Must not know batches
or order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from experiments.data.cache import Cache, build_folder, explain_write_errors, read_json, write_json
from experiments.data.config import DataConfig
from experiments.data.identity import content_hash, resolve, tokens_folder
from experiments.data.languages.base import Language
from experiments.data.languages.registry import build_language
from experiments.data.split import ValidationSet, split_documents
from experiments.data.tokenizers.tokenizer import EOD, Tokenizer, load_tokenizer
from experiments.digests import FileMark, file_digest, has_changed, with_digest
from experiments.errors import UserError

_BATCH_BYTES = 1 << 22


class DamagedTokens(UserError):
    """Token files are not those that were opened; they are made anew by the next process that opens them."""


@dataclass(frozen=True, kw_only=True)
class TokenFiles:
    """The opened token files of one corpus."""

    train: NDArray[np.unsignedinteger[Any]]
    """Training stream, memory-mapped, (num_train_stored,)."""
    val: NDArray[np.unsignedinteger[Any]]
    """Validation documents one after the other, memory-mapped."""
    val_offsets: NDArray[np.int64]
    """Where each validation document starts, and the end of the last, (num_val_documents + 1,)."""
    val_bytes: NDArray[np.int64] | None
    """Bytes of text scored in each validation document; None for a language."""
    meta: dict[str, Any]
    """What meta.json holds."""
    marks: dict[Path, FileMark] = field(default_factory=dict)
    """The files as they were when their digests were compared."""

    def check_unchanged(self) -> None:
        """Compare the files with what was opened: by size and times, and by their digests where these differ.

        Raises
        ------
        DamagedTokens
            When the content of one has changed.
        """
        for path, mark in self.marks.items():
            if not mark.holds(path):
                raise DamagedTokens(
                    f"{path} changed while it was trained on; what was trained since is not kept, and the file is made "
                    "anew"
                )


def open_tokens(data: DataConfig, cache: Cache) -> TokenFiles:
    """Open the token files of a config, which are built where they are not there yet.

    Parameters
    ----------
    data : DataConfig
        Corpus, tokenizer and context.
    cache : Cache
        The cache folder.

    Returns
    -------
    TokenFiles
        Mapped into memory.

    Raises
    ------
    UserError
        When the corpus is not there, changed, or is too small to be split; when the disk is full or read-only, or the
        files are damaged.
    """
    data = resolve(data, cache)
    folder = tokens_folder(data, cache)

    def build(temporary: Path) -> None:
        if data.is_language:
            _build_language(data, temporary)
        else:
            _build_text(data, load_tokenizer(data, cache), temporary, cache)
            if content_hash(data, cache) != data.content_hash:
                raise UserError(
                    f"corpus {data.corpus!r} changed while its tokens were made; run again when it is at rest"
                )

    build_folder(folder, build, problem=damage_of)
    meta = read_json(folder / "meta.json") or {}
    dtype = np.dtype(meta["dtype"])
    paths = {name: folder / f"{name}.bin" for name in ("train", "val")}
    arrays = {name: np.memmap(path, dtype=dtype, mode="r") for name, path in paths.items()}
    val_bytes = meta["val_bytes"]
    return TokenFiles(
        train=arrays["train"],
        val=arrays["val"],
        val_offsets=np.array(meta["val_offsets"], dtype=np.int64),
        val_bytes=None if val_bytes is None else np.array(val_bytes, dtype=np.int64),
        meta=meta,
        marks={path: FileMark.of(path, meta.get(f"{name}_sha256")) for name, path in paths.items()},
    )


def damage_of(folder: Path) -> str | None:
    """Find out whether a folder of tokens is what was written.

    Parameters
    ----------
    folder : Path
        Of one corpus and tokenizer, with a meta.json.

    Returns
    -------
    str or None
        What is wrong, as a sentence that begins with the file. None where all is right, as far as it holds digests:
        older folders are judged by the sizes of their files.
    """
    path = folder / "meta.json"
    try:
        meta = read_json(path)
    except UserError:
        return f"{path} cannot be read"
    if meta is None or has_changed(meta) or meta.get("dtype") not in ("uint16", "uint32"):
        return f"{path} has changed since it was written"
    for name in ("train", "val"):
        file, count = folder / f"{name}.bin", meta.get(f"num_{name}_stored")
        size = count * np.dtype(meta["dtype"]).itemsize if isinstance(count, int) else None
        if not file.is_file() or file.stat().st_size != size:
            return f"{file} is damaged (it should have {size} bytes)"
        known = meta.get(f"{name}_sha256")
        if known is not None and known != file_digest(file):
            return f"{file} is damaged (its digest is another)"
    return None


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write meta.json with the digests of the token files beside it, and its own."""
    digests = {f"{name}_sha256": file_digest(folder / f"{name}.bin") for name in ("train", "val")}
    write_json(folder / "meta.json", with_digest(meta | digests))


def _build_text(data: DataConfig, tokenizer: Tokenizer, folder: Path, cache: Cache) -> None:
    dtype = _dtype(tokenizer.vocab_size)
    val = ValidationSet(data)
    counts = {"num_documents": 0, "num_val_held_out": 0, "train_bytes": 0}
    all_hashes = hashlib.sha256()
    with explain_write_errors(folder), (folder / "train.bin").open("wb") as file:
        writer = _Writer(file, tokenizer, dtype)
        for document, document_hash, is_val in split_documents(data, cache):
            all_hashes.update(document_hash)
            counts["num_documents"] += 1
            if is_val:
                counts["num_val_held_out"] += 1
                val.add(document_hash, document)
            else:
                counts["train_bytes"] += len(document)
                writer.add(document)
        num_train = writer.finish()
    if data.info.content_hash not in (None, all_hashes.hexdigest()):
        raise UserError(
            f"corpus {data.corpus!r} is damaged: its documents do not have the hash "
            f"{str(data.info.content_hash)[:12]} that the registry names; install or fetch it anew"
        )
    kept = val.documents()
    if not kept or num_train < 2:
        side = "validation" if not kept else "training"
        raise UserError(
            f"corpus {data.corpus!r} has {counts['num_documents']} documents and none falls into the {side} split at "
            f"val_fraction {data.val_fraction}; give more or shorter documents, or another val_fraction"
        )
    streams = [np.concatenate([[EOD], ids, [EOD]]).astype(dtype) for ids in tokenizer.encode(kept)]
    _write(folder / "val.bin", np.concatenate(streams))
    _write_meta(
        folder,
        {
            "corpus": data.corpus,
            "content_hash": data.content_hash,
            "tokenizer": data.tokenizer,
            "tokenizer_hash": data.tokenizer_hash,
            "dtype": dtype.name,
            "vocab_size": tokenizer.vocab_size,
            "num_train_stored": num_train,
            "num_val_stored": sum(map(len, streams)),
            "num_train_documents": counts["num_documents"] - counts["num_val_held_out"],
            **counts,
            "val_offsets": _offsets(streams),
            "val_bytes": [len(document) for document in kept],
        },
    )


def _build_language(data: DataConfig, folder: Path) -> None:
    language = build_language(data)
    dtype = _dtype(language.vocab_size)
    num_train = int(data.option("num_tokens")) + 1
    _write(folder / "train.bin", language.generate(num_train, stream=0).astype(dtype))
    val = _language_validation(language, data)
    _write(folder / "val.bin", np.concatenate(val).astype(dtype))
    _write_meta(
        folder,
        {
            "corpus": data.corpus,
            "content_hash": data.content_hash,
            "tokenizer": "none",
            "tokenizer_hash": data.tokenizer_hash,
            "dtype": dtype.name,
            "vocab_size": language.vocab_size,
            "num_train_stored": num_train,
            "num_val_stored": sum(map(len, val)),
            "num_documents": 1 + len(val),
            "num_train_documents": 1,
            "num_val_held_out": len(val),
            "train_bytes": None,
            "val_offsets": _offsets(val),
            "val_bytes": None,
        },
    )


def _offsets(documents: Sequence[NDArray[Any]]) -> list[int]:
    """Where each of the documents starts, one after the other, and the end of the last."""
    return [0, *np.cumsum([len(document) for document in documents]).tolist()]


def _language_validation(language: Language, data: DataConfig) -> list[NDArray[np.int64]]:
    """The validation documents of a synthetic language: each the beginning of a stream of its own."""
    size = -(-(data.val_document_size + 1) // language.period) * language.period
    num_documents = max(1, data.val_size // data.val_document_size)
    return [language.generate(size, stream=1 + index)[: data.val_document_size + 1] for index in range(num_documents)]


def validation_files(data: DataConfig) -> TokenFiles:
    """Make the validation text of a synthetic language in memory, with a single training sequence.

    Parameters
    ----------
    data : DataConfig
        A synthetic language.

    Returns
    -------
    TokenFiles
        What `open_tokens` gives for validation, with nothing written.
    """
    language = build_language(data)
    dtype = _dtype(language.vocab_size)
    val = _language_validation(language, data)
    return TokenFiles(
        train=language.generate(data.context + 1, stream=0).astype(dtype),
        val=np.concatenate(val).astype(dtype),
        val_offsets=np.array(_offsets(val), dtype=np.int64),
        val_bytes=None,
        meta={"vocab_size": language.vocab_size},
    )


class _Writer:
    """Writes the training stream in blocks of documents."""

    def __init__(self, file: BinaryIO, tokenizer: Tokenizer, dtype: np.dtype[Any]) -> None:
        self._file, self._tokenizer, self._dtype = file, tokenizer, dtype
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._num_tokens = 1
        self._eod = np.array([EOD], dtype=dtype).tobytes()
        file.write(self._eod)

    def add(self, document: bytes) -> None:
        self._waiting.append(document)
        self._waiting_bytes += len(document)
        if self._waiting_bytes >= _BATCH_BYTES:
            self._flush()

    def finish(self) -> int:
        self._flush()
        return self._num_tokens

    def _flush(self) -> None:
        for ids in self._tokenizer.encode(self._waiting):
            self._file.write(ids.astype(self._dtype).tobytes())
            self._file.write(self._eod)
            self._num_tokens += len(ids) + 1
        self._waiting, self._waiting_bytes = [], 0


def _dtype(vocab_size: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def _write(path: Path, array: NDArray[Any]) -> None:
    with explain_write_errors(path), path.open("wb") as file:
        file.write(array.tobytes())
