"""DataConfig: which text, cut into which tokens, split how. Validated on construction; standard library only.

Everything here shapes results. How the tokens are built and where they are kept is not its business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.data.registry import CORPORA, CorpusInfo, Scalar
from experiments.data.tokenizers.json_file import file_vocabulary, tokenizer_file
from experiments.data.vocabulary import language_vocab_size
from experiments.errors import UserError
from models.config.checks import did_you_mean

_BPE = re.compile(r"bpe-([0-9]+)")
NUM_BYTE_SPECIALS = 8
"""Special tokens after the 256 bytes; see tokenization.py."""
FIRST_OWN_ID = 256 + NUM_BYTE_SPECIALS
"""The first id that is a tokenizer's own: below are the bytes and the special tokens, which all share."""


LEAST_OPTIONS = {
    "num_tokens": 1,
    "num_documents": 1,
    "max_documents": 0,
    "order": 1,
    "num_symbols": 2,
    "num_keys": 2,
    "num_values": 2,
    "num_features": 2,
    "num_rules": 1,
    "branching": 2,
    "depth": 1,
    "language_seed": 0,
}
"""The least value of corpus options that count something."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Corpus, tokenizer, context, split and declared repetition."""

    corpus: str = "sotu"
    """Name in the registry ("sotu", "markov", ...) or PREFIX:WHERE ("text:PATH", "jsonl:PATH", "parquet:PATH",
    "hf:NAME")."""
    corpus_options: Mapping[str, Scalar] = field(default_factory=dict, hash=False)
    """Options of the corpus; those at their default are left out, so that saying a default changes nothing."""
    tokenizer: str = "bytes"
    """"bytes" (264 ids), "bpe-SIZE" (byte-level, trained on the training split) or "json:PATH" (a tokenizer.json of the
    package tokenizers, its ids after the 264 that all tokenizers share); ignored by languages, which are tokens
    already."""
    context: int = 256
    """T: tokens predicted per sequence; a sequence holds T + 1 tokens."""
    val_fraction: float = 0.1
    """Share of the documents held out, by a hash of each document."""
    val_document_size: int = 8192
    """Validation reads this many bytes of a document at most (tokens, for a language), whatever the tokenizer."""
    val_size: int = 1 << 18
    """Validation stops adding documents, in the order of their hashes, at this many bytes (tokens, for a language)."""
    data_seed: int = 0
    """Seed of the order of the training sequences."""
    max_epochs: int = 1
    """Passes over the training tokens that are allowed; repetition beyond it is an error, never silent."""
    content_hash: str | None = None
    """sha256 that stands for the content, filled in by `identity.resolve`."""
    tokenizer_hash: str | None = None
    """sha256 of the tokenizer, filled in by `identity.resolve`."""

    def __post_init__(self) -> None:
        info = self.info
        object.__setattr__(self, "corpus_options", canonical_options(info, self.corpus_options))
        if info.kind == "files" and not self.where:
            raise UserError(f"corpus {self.corpus!r} names no place; write {info.name}:PATH")
        if self.tokenizer != "bytes" and bpe_size(self.tokenizer) is None and tokenizer_file(self.tokenizer) is None:
            raise UserError(
                f"tokenizer {self.tokenizer!r} is unknown; use 'bytes', 'bpe-SIZE' such as 'bpe-2048', or "
                "'json:PATH' of a tokenizer.json"
            )
        for name in ("context", "val_document_size", "val_size", "max_epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name, least in LEAST_OPTIONS.items():
            if name in info.options and self.option(name) < least:
                raise UserError(
                    f"option {name!r} of corpus {info.name!r} is {self.option(name)}; it must be at least {least}"
                )
        if not 0 < self.val_fraction < 1 or not math.isfinite(self.val_fraction):
            raise UserError(f"val_fraction is {self.val_fraction}; it must lie strictly between 0 and 1")
        if self.data_seed < 0:
            raise UserError(f"data_seed is {self.data_seed}; it must not be negative")

    @property
    def info(self) -> CorpusInfo:
        """The registry's entry for this corpus."""
        return corpus_info(self.corpus)

    @property
    def where(self) -> str:
        """What follows the prefix of a PREFIX:WHERE corpus; empty otherwise."""
        return self.corpus.partition(":")[2]

    @property
    def is_language(self) -> bool:
        """Whether the corpus is a synthetic language, which has no bytes and no tokenizer."""
        return self.info.kind == "language"

    def option(self, name: str) -> Any:
        """Give the value of an option of the corpus: as given, else its default."""
        return self.corpus_options.get(name, self.info.options[name])

    @property
    def options(self) -> dict[str, Scalar]:
        """Every option with its value, defaults included."""
        return {**self.info.options, **self.corpus_options}

    @property
    def vocab_size(self) -> int:
        """Number of token ids, known without building anything."""
        if self.is_language:
            return language_vocab_size(self.info.name, self.options)
        file = tokenizer_file(self.tokenizer)
        if file is not None:
            return FIRST_OWN_ID + file_vocabulary(file)[0]
        return bpe_size(self.tokenizer) or FIRST_OWN_ID

    @property
    def _tokenizer_kind(self) -> str:
        """The tokenizer without the place of its file, for which its hash stands."""
        if self.is_language:
            return "none"
        return self.tokenizer if tokenizer_file(self.tokenizer) is None else "json"

    def identity(self) -> dict[str, Any]:
        """Give what defines the data of a run: content instead of place.

        Of a corpus of files the path is left out, for the content hash stands for it; a language's hash covers its
        options.

        Returns
        -------
        dict of str to object
            Plain JSON values.

        Raises
        ------
        UserError
            When the config is not resolved.
        """
        if self.content_hash is None or self.tokenizer_hash is None:
            raise UserError(f"the data config of {self.corpus!r} is not resolved; pass it through identity.resolve")
        return {
            "corpus": self.info.name,
            "content_hash": self.content_hash,
            "tokenizer": self._tokenizer_kind,
            "tokenizer_hash": self.tokenizer_hash,
            "context": self.context,
            "val_fraction": self.val_fraction,
            "val_document_size": self.val_document_size,
            "val_size": self.val_size,
            "data_seed": self.data_seed,
            "max_epochs": self.max_epochs,
        }


def bpe_size(tokenizer: str) -> int | None:
    """Read the size of the vocabulary off the name "bpe-SIZE".

    Parameters
    ----------
    tokenizer : str
        Name of a tokenizer.

    Returns
    -------
    int or None
        None for another name.

    Raises
    ------
    UserError
        When the size leaves no room for merges beside the ids of the bytes.
    """
    match = _BPE.fullmatch(tokenizer)
    if match is None:
        return None
    size = int(match.group(1))
    if size <= 256 + NUM_BYTE_SPECIALS:
        raise UserError(
            f"tokenizer {tokenizer!r} leaves no room for merges; its size must exceed {256 + NUM_BYTE_SPECIALS}"
        )
    return size


def corpus_info(corpus: str) -> CorpusInfo:
    """Look up a corpus in the registry.

    Parameters
    ----------
    corpus : str
        Its name, or PREFIX:WHERE.

    Returns
    -------
    CorpusInfo
        The entry of the name or of the prefix.

    Raises
    ------
    UserError
        When there is no such corpus; the message names the nearest and lists all.
    """
    prefix, colon, _ = corpus.partition(":")
    info = CORPORA.get(prefix)
    if info is None or (bool(colon) and info.kind != "files"):
        question = did_you_mean(prefix, CORPORA)
        hint = f"; {question}" if question else ""
        known = ", ".join(f"{name}:..." if entry.kind == "files" else name for name, entry in sorted(CORPORA.items()))
        raise UserError(f"corpus {corpus!r} is unknown{hint} (known: {known})")
    return info


def canonical_options(info: CorpusInfo, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Check the options of a corpus, and leave out those that stand at their default.

    Parameters
    ----------
    info : CorpusInfo
        The corpus.
    given : mapping of str to Scalar
        Options by name.

    Returns
    -------
    dict of str to scalar
        By sorted name, so that saying a default changes nothing.

    Raises
    ------
    UserError
        For an unknown name, or a value of another type.
    """
    result: dict[str, Scalar] = {}
    for name in sorted(given):
        value = given[name]
        if name not in info.options:
            question = did_you_mean(name, info.options)
            hint = f"; {question}" if question else ""
            raise UserError(
                f"corpus {info.name!r} has no option {name!r}{hint} "
                f"(options: {', '.join(sorted(info.options)) or 'none'})"
            )
        default = info.options[name]
        expected = str if default is None else type(default)
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if expected is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not expected:
            raise UserError(
                f"option {name!r} of corpus {info.name!r} is {value!r}; it must be of type {expected.__name__}"
            )
        if value != default:
            result[name] = value
    return result
