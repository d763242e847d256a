"""Random hierarchy model (Cagnetti et al., arXiv 2307.02129).

Sentences with a tree of depth L under them, whose entropy is exact.

A root feature, uniform over v, is replaced by one of its m tuples of s features, uniformly; so is each of these, level
by level, until s^L tokens stand there. The tuples of a level are drawn without repetition from the v^s possible ones,
so no two features share one and a sentence has one derivation. Its entropy is therefore that of the choices: [ln v +
(s^L - 1) / (s - 1) ln m] / s^L per token.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from experiments.data.languages.base import Nats, Tokens, uniforms
from experiments.errors import UserError

_MAX_TUPLES = 1 << 22
_BLOCK_TREES = 1 << 13


class RandomHierarchyLanguage:
    """A stream of independent sentences of s^L tokens each.

    Parameters
    ----------
    num_features : int
        v, features of every level, tokens among them.
    num_rules : int
        m, tuples that each feature can become.
    branching : int
        s, features in a tuple.
    depth : int
        L, levels of rules.
    language_seed : int
        Seed of the rules and of every stream.
    """

    def __init__(self, *, num_features: int, num_rules: int, branching: int, depth: int, language_seed: int) -> None:
        if num_features < 2 or num_rules < 1 or branching < 2 or depth < 1 or language_seed < 0:
            raise UserError(
                f"random-hierarchy needs num_features >= 2, num_rules >= 1, branching >= 2, depth >= 1 and "
                f"language_seed >= 0; got {num_features}, {num_rules}, {branching}, {depth} and {language_seed}"
            )
        num_tuples = num_features**branching
        if num_features * num_rules > num_tuples or num_tuples > _MAX_TUPLES:
            raise UserError(
                f"random-hierarchy with {num_features} features and {branching} branches has {num_tuples} tuples, "
                f"of which {num_features * num_rules} are needed and at most {_MAX_TUPLES} allowed; "
                f"lower num_rules or num_features"
            )
        self.vocab_size, self.num_rules, self.branching, self.depth = num_features, num_rules, branching, depth
        self.language_seed = language_seed
        self.period: int = branching**depth
        """Tokens in a sentence."""
        self.rules = [self._draw_rules(level, num_tuples) for level in range(depth)]
        """Tuples by level from the tokens up, each (v * m, s); tuple r belongs to feature r // m."""

    def _draw_rules(self, level: int, num_tuples: int) -> NDArray[np.int64]:
        chosen = np.argsort(uniforms(num_tuples, self.language_seed, 0, level), kind="stable")
        chosen = chosen[: self.vocab_size * self.num_rules]
        places = [chosen // self.vocab_size**place % self.vocab_size for place in range(self.branching)]
        return np.stack(places, axis=1).astype(np.int64)

    @property
    def entropy_rate(self) -> float:
        """Nats per token."""
        num_choices = (self.period - 1) // (self.branching - 1)
        return (math.log(self.vocab_size) + num_choices * math.log(self.num_rules)) / self.period

    def window_entropy(self, num_predicted: int) -> float:
        """Compute the least loss on windows, the entropy rate: sentences are independent, and a window starts with one.

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
        """Every position counts."""
        return np.ones(num_tokens, dtype=bool)

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
        num_trees = -(-num_tokens // self.period)
        nodes = (uniforms(num_trees, self.language_seed, 1, stream, self.depth) * self.vocab_size).astype(np.int64)
        for level in reversed(range(self.depth)):
            choice = (uniforms(len(nodes), self.language_seed, 1, stream, level) * self.num_rules).astype(np.int64)
            nodes = self.rules[level][nodes * self.num_rules + choice].ravel()
        return nodes[:num_tokens]

    def log_loss(self, tokens_BS: Tokens) -> Nats:
        """Score sequences under the source, each token given those before it in the sequence.

        Exact: what is left of a token is parsed, which is unique, and the belief about the features above it is passed
        down.

        Parameters
        ----------
        tokens_BS : array of int64, shape (B, S)
            Sequences that start with a sentence.

        Returns
        -------
        array of float64, shape (B, S - 1)
            Nats of tokens 1 to S - 1.

        Raises
        ------
        ValueError
            When the tokens are no sentences of this language.
        """
        tokens_BS = np.asarray(tokens_BS, dtype=np.int64)
        num_sequences, num_tokens = tokens_BS.shape
        whole = num_tokens // self.period * self.period
        nats = np.empty((num_sequences, num_tokens))
        trees = tokens_BS[:, :whole].reshape(-1, self.period)
        parts = [self._trees(trees[i : i + _BLOCK_TREES]) for i in range(0, len(trees), _BLOCK_TREES)]
        if parts:
            nats[:, :whole] = np.concatenate(parts).reshape(num_sequences, whole)
        if whole < num_tokens:
            nats[:, whole:] = self._trees(tokens_BS[:, whole:])
        return nats[:, 1:]

    def _trees(self, leaves_Nn: Tokens) -> Nats:
        nats: list[NDArray[np.float64]] = []
        belief = np.full((len(leaves_Nn), self.vocab_size), 1 / self.vocab_size)
        self._node(self.depth, belief, leaves_Nn, nats)
        return np.stack(nats, axis=1)

    def _node(
        self, height: int, belief_Nv: NDArray[np.float64], leaves_Nn: Tokens, nats: list[NDArray[np.float64]]
    ) -> Tokens | None:
        """Add the nats of the leaves below a node, in their order.

        Returns its feature, None where leaves are missing.
        """
        if height == 0:
            probability = belief_Nv[np.arange(len(leaves_Nn)), leaves_Nn[:, 0]]
            if not probability.all():
                raise ValueError("these tokens are no sentences of this random-hierarchy language")
            nats.append(-np.log(probability))
            return leaves_Nn[:, 0]
        rules, span = self.rules[height - 1], self.branching ** (height - 1)
        weight_NR = np.repeat(belief_Nv, self.num_rules, axis=1)
        for place in range(self.branching):
            leaves = leaves_Nn[:, place * span : (place + 1) * span]
            if not leaves.shape[1]:
                return None
            of_feature_Rv = (rules[:, place, None] == np.arange(self.vocab_size)).astype(np.float64)
            belief = weight_NR @ of_feature_Rv
            feature = self._node(height - 1, belief / belief.sum(axis=1, keepdims=True), leaves, nats)
            if feature is None:
                return None
            weight_NR = weight_NR * (rules[:, place] == feature[:, None])
        feature_N: Tokens = weight_NR.argmax(axis=1) // self.num_rules
        return feature_N
