"""Zipf memory (Hutter, Learning Curve Theory, arXiv 2102.04074).

Facts to be remembered, their use as rare as ranks are high.

An item is KEY_DIGITS tokens that spell a key, then one that names its value. The key of rank r has probability
proportional to r^-(1 + a), and its value is a fixed random one, or, with probability eps, one of the others. Only
values are scored. A learner that remembers what it saw has an excess loss that falls as D^(-a / (1 + a)) in the items
seen (his result for Zipf-distributed data), and one that has room for N facts as N^-a: a is the dial. The least loss
is h = -(1 - eps) ln(1 - eps) - eps ln(eps / (V - 1)).
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.data.languages.base import Nats, Tokens, entropy, uniforms
from experiments.data.vocabulary import KEY_DIGITS, digit_base
from experiments.errors import UserError


class ZipfMemoryLanguage:
    """A stream of (key, value) items over digit tokens and value tokens.

    Parameters
    ----------
    num_keys : int
        K, facts in the language; at least 2^16 are wanted where exponents are to be seen.
    exponent : float
        a, > 0; use .5 or more, for below that even the noiseless curve is far from its power law.
    num_values : int
        V, value tokens.
    noise : float
        eps, probability that a value is one of the wrong ones, below 1 - 1/V.
    language_seed : int
        Seed of the facts and of every stream.
    """

    period = KEY_DIGITS + 1

    def __init__(self, *, num_keys: int, exponent: float, num_values: int, noise: float, language_seed: int) -> None:
        if num_keys < 2 or num_values < 2 or exponent <= 0 or language_seed < 0:
            raise UserError(
                f"zipf-memory needs num_keys >= 2, num_values >= 2, exponent > 0 and language_seed >= 0; "
                f"got {num_keys}, {num_values}, {exponent} and {language_seed}"
            )
        if not 0 <= noise < 1 - 1 / num_values:
            raise UserError(f"zipf-memory has noise {noise}; it must lie in [0, {1 - 1 / num_values:.3f})")
        self.base = digit_base(num_keys)
        self.num_keys, self.num_values, self.noise, self.language_seed = num_keys, num_values, noise, language_seed
        self.first_value = KEY_DIGITS * self.base
        """Token id of the first value; before it come the digits, a range of ids for each place."""
        self.vocab_size = self.first_value + num_values
        weight = np.arange(1, num_keys + 1, dtype=np.float64) ** -(1 + exponent)
        self.rank_law: NDArray[np.float64] = weight / weight.sum()
        """Probability of the key of each rank, (K,)."""
        self.key_of_rank = np.argsort(uniforms(num_keys, language_seed, 0), kind="stable")
        self.value_of_key = (uniforms(num_keys, language_seed, 1) * num_values).astype(np.int64)

    @property
    def entropy_rate(self) -> float:
        """h, nats per value token."""
        kept = -(1 - self.noise) * math.log1p(-self.noise)
        return kept if self.noise == 0 else kept - self.noise * math.log(self.noise / (self.num_values - 1))

    @cached_property
    def token_entropy(self) -> float:
        """Nats per token over all tokens, keys too: (H(key) + h) / period."""
        return (float(entropy(self.rank_law)) + self.entropy_rate) / self.period

    def unseen(self, num_items: float) -> float:
        """Compute the probability that the key of an item is not among earlier ones.

        sum_r p_r (1 - p_r)^n: the error of a learner that remembers all it saw (Hutter 2021); it falls as n^(-a / (1 +
        a)). Without noise the excess loss of such a learner is this times ln V.

        Parameters
        ----------
        num_items : float
            n, items seen.

        Returns
        -------
        float
            Probability.
        """
        return float(self.rank_law @ np.exp(num_items * np.log1p(-self.rank_law)))

    def beyond(self, num_facts: int) -> float:
        """Compute the probability that a key has a rank above a number of facts.

        It is what room for no more facts costs, and falls as num_facts^-a.

        Parameters
        ----------
        num_facts : int
            Facts that there is room for.

        Returns
        -------
        float
            Probability.
        """
        return float(self.rank_law[num_facts:].sum())

    @cached_property
    def _digit_marginals(self) -> list[NDArray[np.float64]]:
        """Probability of the first 0, 1, ..., KEY_DIGITS digits."""
        law = np.zeros(self.base**KEY_DIGITS)
        law[self.key_of_rank] = self.rank_law
        return [law.reshape(self.base**place, -1).sum(axis=1) for place in range(KEY_DIGITS + 1)]

    def window_entropy(self, num_predicted: int) -> float:
        """Compute the least loss on windows, the entropy rate: a value depends on its own item alone.

        Parameters
        ----------
        num_predicted : int
            Tokens predicted in a window, a multiple of an item's.

        Returns
        -------
        float
            Nats per scored token.
        """
        del num_predicted
        return self.entropy_rate

    def scored(self, num_tokens: int) -> NDArray[np.bool_]:
        """Values count, digits do not."""
        is_value: NDArray[np.bool_] = np.arange(num_tokens) % self.period == KEY_DIGITS
        return is_value

    def generate(self, num_tokens: int, *, stream: int) -> Tokens:
        """Give the beginning of a stream.

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
        num_items = -(-num_tokens // self.period)
        uniform = [uniforms(num_items, self.language_seed, 2, stream, part) for part in range(3)]
        below = np.cumsum(self.rank_law)[:-1]
        key = self.key_of_rank[np.searchsorted(below, uniform[0], side="right")]
        wrong = 1 + (uniform[2] * (self.num_values - 1)).astype(np.int64)
        value = (self.value_of_key[key] + np.where(uniform[1] < self.noise, wrong, 0)) % self.num_values
        items = np.empty((num_items, self.period), dtype=np.int64)
        for place in range(KEY_DIGITS):
            digit = key // self.base ** (KEY_DIGITS - 1 - place) % self.base
            items[:, place] = digit + place * self.base
        items[:, KEY_DIGITS] = value + self.first_value
        return items.ravel()[:num_tokens]

    def log_loss(self, tokens_BS: Tokens) -> Nats:
        """Score sequences under the source, each token given those before it in the sequence.

        Parameters
        ----------
        tokens_BS : array of int64, shape (B, S)
            Sequences that start with an item.

        Returns
        -------
        array of float64, shape (B, S - 1)
            Nats of tokens 1 to S - 1.
        """
        tokens_BS = np.asarray(tokens_BS, dtype=np.int64)
        nats = np.zeros((tokens_BS.shape[0], tokens_BS.shape[1]))
        key = np.zeros((len(tokens_BS), 0), dtype=np.int64)
        hit, miss = -math.log1p(-self.noise), math.inf
        if self.noise > 0:
            miss = -math.log(self.noise / (self.num_values - 1))
        for place in range(self.period):
            column = tokens_BS[:, place :: self.period]
            if place < KEY_DIGITS:
                shorter = np.zeros_like(column) if place == 0 else key[:, : column.shape[1]]
                key = shorter * self.base + column - place * self.base
                longer_law, law = self._digit_marginals[place + 1], self._digit_marginals[place]
                nats[:, place :: self.period] = np.log(law[shorter]) - np.log(longer_law[key])
            else:
                right = self.value_of_key[key[:, : column.shape[1]]] == column - self.first_value
                nats[:, place :: self.period] = np.where(right, hit, miss)
        return nats[:, 1:]
