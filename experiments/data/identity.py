"""What a data config stands for: its content hash and its tokenizer's hash, found fast and kept in the cache.

Planning asks this module, so it imports neither numpy nor torch, and building is imported only where a hash cannot be
had otherwise. It must not know how tokens are stored, only the name of the folder that holds them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.data.cache import Cache, read_json
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import spool_hash, spool_stream
from experiments.data.corpora.places import corpus_files, file_hashes, spool_folder
from experiments.data.tokenizers.bpe import trained_merges
from experiments.data.tokenizers.json_file import file_vocabulary, tokenizer_file
from experiments.errors import UserError

READER_VERSION = 1
"""Raised when the same files would give other documents."""
BYTES_TOKENIZER_HASH = hashlib.sha256(
    b"isoflop bytes tokenizer 1: 256 bytes, eod, pad, mask, bos, sep, 3 reserved"
).hexdigest()
"""Stands for the bytes tokenizer in a run's identity."""
NO_TOKENIZER_HASH = hashlib.sha256(b"isoflop no tokenizer: a language of bare tokens").hexdigest()
"""Stands for 'no tokenizer' in a run's identity."""
LANGUAGE_VERSION = {"markov": 1, "zipf-memory": 1, "random-hierarchy": 1}
"""Raised when a generator gives other tokens for the same options."""
TOKENS_VERSION = 1
"""Raised when the layout of token files or the split changes."""


def digest(content: Any) -> str:
    """Hash plain values: sha256 of their canonical JSON."""
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def resolve(data: DataConfig, cache: Cache) -> DataConfig:
    """Fill in the hashes that identify the content and the tokenizer.

    Parameters
    ----------
    data : DataConfig
        A config; hashes that it holds already are checked against what is there now.
    cache : Cache
        The cache folder.

    Returns
    -------
    DataConfig
        With content_hash and tokenizer_hash.

    Raises
    ------
    UserError
        When the corpus is not there, or has changed since the config was resolved.
    """
    content = content_hash(data, cache)
    if data.content_hash is not None and data.content_hash != content:
        raise UserError(
            f"corpus {data.corpus!r} changed under this sweep: it was planned with content {data.content_hash[:12]} "
            f"and now has {content[:12]}; restore the old content, or plan a new sweep on the new one"
        )
    tokenizer = tokenizer_hash(replace(data, content_hash=content), cache)
    if data.tokenizer_hash is not None and data.tokenizer_hash != tokenizer:
        raise UserError(
            f"tokenizer {data.tokenizer!r} of corpus {data.corpus!r} changed under this sweep: it was planned with "
            f"{data.tokenizer_hash[:12]} and is now {tokenizer[:12]}; bring back the cache folder in which it was "
            f"trained, or plan a new sweep"
        )
    return replace(data, content_hash=content, tokenizer_hash=tokenizer)


def content_hash(data: DataConfig, cache: Cache) -> str:
    """Find the sha256 that stands for the content of a corpus, as it is now.

    Parameters
    ----------
    data : DataConfig
        Corpus, tokenizer and context.
    cache : Cache
        The cache folder.

    Returns
    -------
    str
        64 hex digits.

    Raises
    ------
    UserError
        When the corpus is not there.
    """
    info = data.info
    if info.content_hash is not None:
        return info.content_hash
    if info.kind == "language":
        return digest({"language": info.name, "version": LANGUAGE_VERSION[info.name], "options": data.options})
    if info.name == "hf":
        found = spool_hash(spool_folder(data, cache)) or spool_hash(spool_stream(data, cache))
        assert found is not None
        return found
    files = file_hashes(corpus_files(data), cache)
    return digest({"kind": info.name, "files": files, "options": data.options, "reader": READER_VERSION})


def tokenizer_hash(data: DataConfig, cache: Cache) -> str:
    """Find the sha256 that stands for a tokenizer, which is trained where it is not there yet.

    Parameters
    ----------
    data : DataConfig
        A config whose content hash is known.
    cache : Cache
        The cache folder.

    Returns
    -------
    str
        64 hex digits.

    Raises
    ------
    UserError
        When it cannot be trained.
    """
    if data.is_language:
        return NO_TOKENIZER_HASH
    if data.tokenizer == "bytes":
        return BYTES_TOKENIZER_HASH
    file = tokenizer_file(data.tokenizer)
    return trained_merges(data, cache)[1] if file is None else file_vocabulary(file)[1]


def tokens_folder(data: DataConfig, cache: Cache) -> Path:
    """Name the folder in which the tokens of a config are kept.

    Parameters
    ----------
    data : DataConfig
        A resolved config; its context, order and epochs play no part.
    cache : Cache
        The cache folder.

    Returns
    -------
    Path
        The folder, whether it is there or not.

    Raises
    ------
    ValueError
        When the config is not resolved.
    """
    if data.content_hash is None or data.tokenizer_hash is None:
        raise ValueError("the data config is not resolved; pass it through identity.resolve")
    key = digest(
        {
            "content": data.content_hash,
            "tokenizer": data.tokenizer_hash,
            "val_fraction": data.val_fraction,
            "val_document_size": data.val_document_size,
            "val_size": data.val_size,
            "version": TOKENS_VERSION,
        }
    )
    return cache.tokens / f"{data.info.name}-{key[:16]}"


def known_train_tokens(data: DataConfig, cache: Cache) -> int | None:
    """Find the training tokens of one pass without building anything.

    Parameters
    ----------
    data : DataConfig
        A resolved config.
    cache : Cache
        The cache folder.

    Returns
    -------
    int or None
        A whole number of sequences; None where nobody knows before the tokens are built.
    """
    stored = int(data.option("num_tokens")) if data.is_language else None
    if stored is None:
        meta = read_json(tokens_folder(data, cache) / "meta.json")
        stored = None if meta is None else int(meta["num_train_stored"])
    return None if stored is None else (stored - 1) // data.context * data.context
