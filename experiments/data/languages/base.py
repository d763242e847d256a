"""What every synthetic language offers, and the random numbers that they share.

A language is a stationary source of tokens whose entropy rate is computed, not estimated. Shape legend: B sequences, S
tokens in each.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Nats = NDArray[np.float64]


class Language(Protocol):
    """A source of tokens of known entropy."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    @property
    def period(self) -> int:
        """Tokens per item: sequences must start at a multiple of it. 1 for a language without items."""

    @property
    def entropy_rate(self) -> float:
        """Nats per scored token, given the whole past: the least loss that any model can reach on long sequences."""

    def generate(self, num_tokens: int, *, stream: int) -> Tokens:
        """The first `num_tokens` tokens of the numbered stream; streams are independent of one another."""

    def log_loss(self, tokens_BS: Tokens) -> Nats:
        """Nats of tokens 1..S-1 of each sequence under the true source given the tokens before them in the
        sequence, (B, S - 1)."""

    def scored(self, num_tokens: int) -> NDArray[np.bool_]:
        """Which positions of a stream count in the loss, (num_tokens,)."""


def uniforms(num: int, *words: int) -> NDArray[np.float64]:
    """`num` numbers in [0, 1) with 53 random bits, a pure function of `words`.

    Made from the raw output of a bit generator, whose stream numpy keeps the same from version to version.
    """
    raw = np.random.PCG64(np.random.SeedSequence(words)).random_raw(num)
    bits: NDArray[np.uint64] = np.asarray(raw, dtype=np.uint64) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def entropy(probability: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Entropy in nats along an axis; 0 log 0 is 0."""
    nats = -probability * np.log(np.where(probability > 0, probability, 1.0))
    return np.asarray(nats.sum(axis=axis), dtype=float)
