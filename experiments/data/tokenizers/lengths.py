"""How many tokens texts have, for planning; the package tokenizers is imported only when used, and no numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.tokenizers.bpe import build_encoder, import_tokenizers, trained_merges
from experiments.data.tokenizers.json_file import tokenizer_file

Counter = Callable[[Sequence[str]], list[int]]
"""Texts -> tokens of each, without marks."""


def count_bytes(texts: Sequence[str]) -> list[int]:
    """Tokens of the tokenizer of bytes."""
    return [len(text.encode()) for text in texts]


def corpus_counter(data: DataConfig, cache: Cache) -> Counter:
    """Count by the tokenizer of a corpus, which is trained where it is not there yet.

    Parameters
    ----------
    data : DataConfig
        A config of text whose content hash is known.
    cache : Cache
        The cache folder.
    """
    if data.tokenizer == "bytes":
        return count_bytes
    file = tokenizer_file(data.tokenizer)
    return merges_counter(trained_merges(data, cache)[0]) if file is None else file_counter(file)


def merges_counter(merges: list[tuple[str, str]]) -> Counter:
    """Count by merges of byte-level BPE."""
    return _by(build_encoder(merges))


def file_counter(file: Path) -> Counter:
    """Count by a tokenizer.json of the package tokenizers."""
    own = import_tokenizers().Tokenizer.from_file(str(file))
    own.no_truncation()
    own.no_padding()
    return _by(own)


def _by(encoder: Any) -> Counter:
    return lambda texts: [len(one.ids) for one in encoder.encode_batch(list(texts), add_special_tokens=False)]
