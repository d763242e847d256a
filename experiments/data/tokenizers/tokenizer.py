"""From bytes to token ids and back. The bytes tokenizer: ids 0 to 255 are the bytes, 256 to 263 are special.

Every tokenizer shares the first 264 ids. Must not know where documents come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.data.cache import Cache
from experiments.data.config import FIRST_OWN_ID, DataConfig
from experiments.data.tokenizers.bpe import (
    FIRST_MERGE,
    as_text,
    build_encoder,
    byte_characters,
    import_tokenizers,
    trained_merges,
)
from experiments.data.tokenizers.json_file import tokenizer_file
from experiments.errors import UserError

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


class BpeTokenizer:
    """Byte-level BPE; see bpe.py.

    Parameters
    ----------
    merges : list of tuple of (str, str)
        Pairs in the order in which they were learned.
    corpus : str
        Where its documents are from, for messages about one that is no text.
    """

    def __init__(self, merges: list[tuple[str, str]], corpus: str) -> None:
        self.vocab_size = FIRST_MERGE + len(merges)
        self._corpus = corpus
        self._encoder: Any = build_encoder(merges)
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        self._bytes = [bytes([byte]) for byte in range(256)] + [b""] * (FIRST_MERGE - 256)
        self._bytes += [bytes(byte_of[character] for character in left + right) for left, right in merges]

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.integer]]:
        """Ids of each document, int64."""
        texts = [as_text(document, self._corpus) for document in documents]
        encoded = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int64) for one in encoded]

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes that the ids stand for; special tokens stand for none."""
        return b"".join(self._bytes[int(i)] for i in ids)


class FileTokenizer:
    """A tokenizer.json of the package tokenizers; its ids follow the 264 that every tokenizer shares.

    Parameters
    ----------
    file : Path
        The tokenizer.json.
    data : DataConfig
        The config, for messages about a document that is no text.

    Raises
    ------
    UserError
        When the package is not there, or it cannot read the file.
    """

    def __init__(self, file: Path, data: DataConfig) -> None:
        self.vocab_size = data.vocab_size
        self._corpus = data.corpus
        try:
            self._own: Any = import_tokenizers().Tokenizer.from_file(str(file))
        except UserError:
            raise
        except Exception as error:  # the package raises bare Exception
            raise UserError(f"{file} cannot be read by the package tokenizers ({error}); write it again") from error
        self._own.no_truncation()
        self._own.no_padding()

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.integer]]:
        """Ids of each document, int64."""
        texts = [as_text(document, self._corpus) for document in documents]
        encoded = self._own.encode_batch(texts, add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int64) + FIRST_OWN_ID for one in encoded]

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text that the ids stand for, as its decoder writes it; shared special tokens stand for none."""
        own = [int(i) - FIRST_OWN_ID for i in ids if i >= FIRST_OWN_ID]
        return str(self._own.decode(own)).encode()


def load_tokenizer(data: DataConfig, cache: Cache) -> Tokenizer:
    """Load the tokenizer of a config of text.

    Parameters
    ----------
    data : DataConfig
        A resolved config.
    cache : Cache
        The cache folder.

    Returns
    -------
    Tokenizer
        Trained where it is not there yet.

    Raises
    ------
    ValueError
        When the config is that of a language.
    """
    if data.is_language:
        raise ValueError(f"{data.corpus!r} is a language of bare tokens; it has no tokenizer")
    if data.tokenizer == "bytes":
        return BytesTokenizer()
    file = tokenizer_file(data.tokenizer)
    return BpeTokenizer(trained_merges(data, cache)[0], data.corpus) if file is None else FileTokenizer(file, data)
