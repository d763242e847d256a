"""Byte-level BPE trained on the training split of a corpus or of a labelled task.

It is learned once, deterministically, and kept in the cache.

Ids: 0 to 255 the bytes, 256 to 263 special as in tokenization.py, then the merges in the order in which they were
learned. A trained tokenizer is its list of merges; its hash enters the identity of every run. The package tokenizers
is imported only when used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.data.cache import Cache, build_folder, write_json
from experiments.data.config import NUM_BYTE_SPECIALS, DataConfig, bpe_size
from experiments.data.split import split_documents
from experiments.errors import UserError

BPE_VERSION = 1
"""Raised when training gives other merges for the same text."""
TRAINING_BYTES = 1 << 26
"""Merges are learned on this many bytes of training documents at most, the first ones."""
FIRST_MERGE = 256 + NUM_BYTE_SPECIALS
"""Id of the first merge."""


def tokenizer_folder(data: DataConfig, cache: Cache) -> Path:
    """Name the folder in which a trained tokenizer is kept.

    Parameters
    ----------
    data : DataConfig
        A config whose content hash is known.
    cache : Cache
        The cache folder.

    Returns
    -------
    Path
        The folder, whether it is there or not.
    """
    words = json.dumps([data.content_hash, data.val_fraction, data.tokenizer, BPE_VERSION])
    key = hashlib.sha256(words.encode()).hexdigest()[:16]
    return cache.tokenizers / f"{data.info.name}-{data.tokenizer}-{key}"


def task_merges(
    tokenizer: str, content: str, texts: Callable[[], Sequence[str]], cache: Cache
) -> list[tuple[str, str]]:
    """Read the merges that a task's training texts give, which are learned where they are not there yet.

    Parameters
    ----------
    tokenizer : str
        bpe-SIZE.
    content : str
        The task's content hash.
    texts : callable
        Gives inputs, questions and targets of the training split.
    cache : Cache
        The cache folder.

    Returns
    -------
    list of tuple of (str, str)
        In the order in which they were learned.

    Raises
    ------
    UserError
        When the texts give too few merges, or what is in the cache is damaged.
    """
    folder = cache.tokenizers / f"task-{tokenizer}-{content}-{BPE_VERSION}"

    def build(temporary: Path) -> None:
        merges = _learn(texts(), tokenizer, "the training split")
        write_json(temporary / "merges.json", {"tokenizer": tokenizer, "merges": merges})

    build_folder(folder, build, complete="merges.json")
    return _read_merges(folder / "merges.json")[0]


def trained_merges(data: DataConfig, cache: Cache) -> tuple[list[tuple[str, str]], str]:
    """Read the merges of a config's tokenizer, which is trained where it is not there yet.

    Parameters
    ----------
    data : DataConfig
        A config whose content hash is known.
    cache : Cache
        The cache folder.

    Returns
    -------
    merges : list of tuple of (str, str)
        In the order in which they were learned.
    digest : str
        Their sha256.

    Raises
    ------
    UserError
        When the corpus gives too few merges, or what is in the cache is damaged.
    """
    folder = tokenizer_folder(data, cache)

    def build(temporary: Path) -> None:
        merges = _learn(_training_texts(data, cache), data.tokenizer, f"corpus {data.corpus!r}")
        write_json(temporary / "merges.json", {"tokenizer": data.tokenizer, "merges": merges})

    build_folder(folder, build, complete="merges.json")
    return _read_merges(folder / "merges.json")


@cache
def _read_merges(path: Path) -> tuple[list[tuple[str, str]], str]:
    try:
        merges = [(left, right) for left, right in json.loads(path.read_bytes())["merges"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete {path.parent} and run again: it is trained anew"
        ) from error
    return merges, hashlib.sha256(json.dumps(merges).encode()).hexdigest()


def _learn(texts: Iterable[str], tokenizer: str, source: str) -> list[list[str]]:
    """The merges of some texts; `source` names them in messages."""
    tokenizers = import_tokenizers()
    size = bpe_size(tokenizer)
    assert size is not None
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size - NUM_BYTE_SPECIALS, initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    learner.train_from_iterator(texts, trainer)
    merges = [list(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    if len(merges) != size - FIRST_MERGE:
        raise UserError(
            f"{source} gives only {len(merges)} merges, and tokenizer {tokenizer!r} needs "
            f"{size - FIRST_MERGE}; use 'bpe-{FIRST_MERGE + len(merges)}' or a smaller one, or 'bytes'"
        )
    return merges


def _training_texts(data: DataConfig, cache: Cache) -> Iterator[str]:
    total = 0
    for document, _, is_val in split_documents(data, cache):
        if not is_val:
            yield as_text(document, data.corpus)
            total += len(document)
            if total >= TRAINING_BYTES:
                return


def as_text(document: bytes, corpus: str) -> str:
    """Decode a document.

    Parameters
    ----------
    document : bytes
        Bytes.
    corpus : str
        Its corpus, for messages.

    Returns
    -------
    str
        The text.

    Raises
    ------
    UserError
        When the document is not UTF-8: its bytes could not be counted exactly.
    """
    try:
        return document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"a document of corpus {corpus!r} is not UTF-8 ({error.reason} in "
            f"{document[error.start : error.start + 8]!r}); convert the corpus, or use the tokenizer 'bytes'"
        ) from error


def build_encoder(merges: list[tuple[str, str]]) -> Any:
    """An encoder of the package tokenizers with our ids."""
    tokenizers = import_tokenizers()
    vocab = {character: byte for byte, character in enumerate(byte_characters())}
    vocab |= {left + right: FIRST_MERGE + i for i, (left, right) in enumerate(merges)}
    encoder = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return encoder


@cache
def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte in byte-level BPE (the table of GPT-2, Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))


def import_tokenizers() -> Any:
    """The package tokenizers, or one sentence that says how to get it."""
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise UserError(
            "tokenizers other than bytes need the package tokenizers; install it with: pip install 'isoflop[data]'"
        ) from error
    return tokenizers
