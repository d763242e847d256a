"""From bytes to token ids. The bytes tokenizer: ids 0 to 255 are the bytes, 256 to 263 are special.

Every tokenizer shares the first 264 ids. Must not know where documents come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.data.config import DataConfig

EOD, PAD, MASK, BOS, SEP = 256, 257, 258, 259, 260
"""Ids of the special tokens: end of document, padding, mask, beginning, separator; 261 to 263 are reserved."""


class Tokenizer(Protocol):
    """Documents to ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.integer]]:
        """Ids of each document, without special tokens."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes that the ids stand for; special tokens stand for none."""


class BytesTokenizer:
    """One id per byte."""

    vocab_size = 264

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.integer]]:
        """The bytes themselves, uint8."""
        return [np.frombuffer(document, dtype=np.uint8) for document in documents]

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of ids below 256."""
        return bytes(int(i) for i in ids if i < 256)


def load_tokenizer(data: DataConfig, cache_dir: str | Path | None = None) -> Tokenizer:
    """The tokenizer of a resolved config of text."""
    if data.is_language:
        raise ValueError(f"{data.corpus!r} is a language of bare tokens; it has no tokenizer")
    return BytesTokenizer()
