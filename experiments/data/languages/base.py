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

    def window_entropy(self, num_predicted: int) -> float:
        """Compute the least loss on windows that show nothing of what came before their first token.

        Parameters
        ----------
        num_predicted : int
            Tokens predicted in a window, one fewer than it holds; whole items.

        Returns
        -------
        float
            Nats per scored token; the entropy rate where no past beyond the window helps.
        """

    def generate(self, num_tokens: int, *, stream: int) -> Tokens:
        """Give the beginning of a stream; streams are independent of one another.

        Parameters
        ----------
        num_tokens : int
            Tokens to give.
        stream : int
            Number of the stream, from 0.

        Returns
        -------
        array of int64, shape (num_tokens,)
            Token ids.
        """

    def log_loss(self, tokens_BS: Tokens) -> Nats:
        """Score sequences under the true source, each token given those before it in the sequence.

        Parameters
        ----------
        tokens_BS : array of int64, shape (B, S)
            Sequences; each starts at the start of an item.

        Returns
        -------
        array of float64, shape (B, S - 1)
            Nats of tokens 1 to S - 1.
        """

    def scored(self, num_tokens: int) -> NDArray[np.bool_]:
        """Say which positions of a stream count in the loss, shape (num_tokens,)."""


def uniforms(num: int, *words: int) -> NDArray[np.float64]:
    """Give numbers in [0, 1) with 53 random bits, a pure function of `words`.

    Made from the raw output of a bit generator, whose stream numpy keeps the same from version to version.

    Parameters
    ----------
    num : int
        How many.
    *words : int
        What the numbers depend on: a seed and places in a stream.

    Returns
    -------
    array of float64, shape (num,)
        The numbers.
    """
    raw = np.random.PCG64(np.random.SeedSequence(words)).random_raw(num)
    bits: NDArray[np.uint64] = np.asarray(raw, dtype=np.uint64) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def entropy(probability: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Compute the entropy along an axis; 0 log 0 is 0.

    Parameters
    ----------
    probability : array of float64
        Probabilities that add up to 1 along the axis.
    axis : int
        The axis.

    Returns
    -------
    array of float64
        Nats.
    """
    nats = -probability * np.log(np.where(probability > 0, probability, 1.0))
    return np.asarray(nats.sum(axis=axis), dtype=float)
