"""Which documents are held out: a pure function of each document alone, so that the split never moves.

Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import documents


def held_out(document_hash: bytes, val_fraction: float) -> bool:
    """Say whether a document belongs to validation.

    Parameters
    ----------
    document_hash : bytes
        sha256 of the document.
    val_fraction : float
        Share of documents held out.

    Returns
    -------
    bool
        Whether the hash, read as a fraction of 1, is below `val_fraction`.
    """
    return int.from_bytes(document_hash[:8], "big") < int(val_fraction * 2.0**64)


def split_documents(data: DataConfig, cache: Cache) -> Iterator[tuple[bytes, bytes, bool]]:
    """Read every document of a corpus of text, and say on which side of the split it is.

    Parameters
    ----------
    data : DataConfig
        Corpus, tokenizer and context.
    cache : Cache
        The cache folder.

    Yields
    ------
    document : bytes
        The text.
    document_hash : bytes
        Its sha256.
    is_held_out : bool
        Whether it belongs to validation.

    Raises
    ------
    UserError
        When the corpus is not there or cannot be read.
    """
    for document in documents(data, cache):
        document_hash = hashlib.sha256(document).digest()
        yield document, document_hash, held_out(document_hash, data.val_fraction)


def cut(document: bytes, size: int) -> bytes:
    """Cut a document to a size, not within a UTF-8 character.

    Parameters
    ----------
    document : bytes
        The text.
    size : int
        Most bytes that are kept.

    Returns
    -------
    bytes
        The first bytes.
    """
    if len(document) <= size:
        return document
    end = size
    while end > max(0, size - 3) and document[end] & 0xC0 == 0x80:
        end -= 1
    return document[: end or size]


class ValidationSet:
    """Held-out documents in the order of their hashes until `val_size` is reached.

    Each is cut to `val_document_size` and kept once only; memory is bounded by a few times `val_size`.
    """

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._kept: dict[bytes, bytes] = {}
        self._bytes = 0

    def add(self, document_hash: bytes, document: bytes) -> None:
        """Offer one held-out document.

        Parameters
        ----------
        document_hash : bytes
            Its sha256.
        document : bytes
            The text; it is cut.
        """
        if document_hash not in self._kept:
            self._kept[document_hash] = cut(document, self._data.val_document_size)
            self._bytes += len(self._kept[document_hash])
            if self._bytes > 8 * (self._data.val_size + self._data.val_document_size):
                self._prune()

    def documents(self) -> list[bytes]:
        """Give the chosen documents, cut, in the order of their hashes."""
        self._prune()
        return list(self._kept.values())

    def _prune(self) -> None:
        total, kept = 0, {}
        for document_hash in sorted(self._kept):
            if total >= self._data.val_size:
                break
            kept[document_hash] = self._kept[document_hash]
            total += len(kept[document_hash])
        self._kept, self._bytes = kept, total
