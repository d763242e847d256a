"""Order-k Markov language: every row of the transition table is random, the entropy rate is exact.

With V symbols and order k the state is the last k symbols. Row weights are (-log u)^sharpness with u uniform,
normalised: sharpness 1 gives rows uniform on the simplex, larger values give more predictable rows. The stationary law
pi solves pi P = pi by power iteration, and the entropy rate is H = sum_s pi_s H(P_s) (Cover & Thomas, Elements of
Information Theory, theorem 4.2.4).
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from experiments.data.languages.base import Nats, Tokens, entropy, uniforms
from experiments.errors import UserError

_MAX_STATES = 1 << 22
_BLOCK_TOKENS = 1 << 22
_NUM_CHAINS = 2048


class MarkovLanguage:
    """An order-k Markov chain over `num_symbols` tokens, started in its stationary law.

    Parameters
    ----------
    order : int
        k, symbols that the next one depends on.
    num_symbols : int
        V, number of token ids.
    sharpness : float
        Exponent of the row weights; 0 makes every row uniform.
    language_seed : int
        Seed of the transition table and of every stream.
    """

    period = 1

    def __init__(self, *, order: int, num_symbols: int, sharpness: float, language_seed: int) -> None:
        if order < 1 or num_symbols < 2 or sharpness < 0 or language_seed < 0:
            raise UserError(
                f"markov needs order >= 1, num_symbols >= 2, sharpness >= 0 and language_seed >= 0; "
                f"got {order}, {num_symbols}, {sharpness} and {language_seed}"
            )
        if num_symbols ** (order + 1) > _MAX_STATES:
            raise UserError(
                f"markov of order {order} over {num_symbols} symbols has {num_symbols ** (order + 1)} transitions; "
                f"at most {_MAX_STATES} are allowed: lower order or num_symbols"
            )
        self.order = order
        self.vocab_size = num_symbols
        self.language_seed = language_seed
        self.num_states = num_symbols**order
        weight = -np.log1p(-uniforms(self.num_states * num_symbols, language_seed, 0))
        rows = weight.reshape(self.num_states, num_symbols) ** sharpness
        self.rows: NDArray[np.float64] = rows / rows.sum(axis=1, keepdims=True)
        """P[s, x], probability of symbol x after state s, (V^k, V); the oldest symbol is the most significant digit
        of s."""

    @cached_property
    def stationary(self) -> NDArray[np.float64]:
        """pi, probability of every state, (V^k,)."""
        num_symbols = self.vocab_size
        pi = np.full(self.num_states, 1 / self.num_states)
        for _ in range(100_000):
            joint = (pi[:, None] * self.rows).reshape(num_symbols, -1)
            new: NDArray[np.float64] = joint.sum(axis=0)  # over the oldest symbol, which shifts the state
            new /= new.sum()
            change = np.abs(new - pi).sum()
            pi = new
            if change < 1e-15:
                break
        else:
            raise UserError(
                f"the stationary law of this markov language was not found (last change {change:.1e}); "
                f"lower its sharpness"
            )
        return pi

    @cached_property
    def entropy_rate(self) -> float:
        """H in nats per token."""
        return float(self.stationary @ entropy(self.rows))

    @cached_property
    def block_entropies(self) -> tuple[float, ...]:
        """Entropy in nats of the next token given 0, 1, ..., k earlier ones.

        The first is that of single tokens, the last is H.
        """
        blocks = [0.0] + [float(entropy(marginal.ravel())) for marginal in self._marginals]
        return (*(float(b - a) for a, b in pairwise(blocks)), self.entropy_rate)

    def window_entropy(self, num_predicted: int) -> float:
        """Compute the least loss on windows: their first k - 1 predictions have a short past.

        Parameters
        ----------
        num_predicted : int
            Tokens predicted in a window.

        Returns
        -------
        float
            Nats per token.
        """
        short = self.block_entropies[1 : min(self.order, num_predicted + 1)]
        return (sum(short) + (num_predicted - len(short)) * self.entropy_rate) / num_predicted

    @cached_property
    def _marginals(self) -> list[NDArray[np.float64]]:
        """Law of 1, 2, ..., k consecutive symbols, each (V^j,)."""
        return [self.stationary.reshape(self.vocab_size**j, -1).sum(axis=1) for j in range(1, self.order + 1)]

    def scored(self, num_tokens: int) -> NDArray[np.bool_]:
        """Every position counts."""
        return np.ones(num_tokens, dtype=bool)

    def log_loss(self, tokens_BS: Tokens) -> Nats:
        """Score sequences under the source, each token given those before it in the sequence.

        The first k - 1 tokens after the first have a short past and use the exact marginal of the stationary law.

        Parameters
        ----------
        tokens_BS : array of int64, shape (B, S)
            Sequences.

        Returns
        -------
        array of float64, shape (B, S - 1)
            Nats of tokens 1 to S - 1.
        """
        tokens_BS = np.asarray(tokens_BS, dtype=np.int64)
        num_tokens, order, num_symbols = tokens_BS.shape[1], self.order, self.vocab_size
        nats = np.empty((tokens_BS.shape[0], num_tokens - 1))
        prefix = tokens_BS[:, 0]
        for position in range(1, min(order, num_tokens)):
            longer = prefix * num_symbols + tokens_BS[:, position]
            nats[:, position - 1] = np.log(self._marginals[position - 1][prefix]) - np.log(
                self._marginals[position][longer]
            )
            prefix = longer
        if num_tokens > order:
            state = np.zeros((tokens_BS.shape[0], num_tokens - order), dtype=np.int64)
            for back in range(order):
                state = state * num_symbols + tokens_BS[:, back : num_tokens - order + back]
            nats[:, order - 1 :] = -np.log(self.rows[state, tokens_BS[:, order:]])
        return nats

    def generate(self, num_tokens: int, *, stream: int) -> Tokens:
        """Give the beginning of a stream, started in the stationary law.

        The path is that of one sequential chain, computed in parallel: token t is the inverse of the row's distribution
        function at the t-th uniform number. Pieces of the path are walked side by side from guessed states; then every
        piece is walked again from the true end of the one before it until it meets its first path, which it does after
        a few tokens because both use the same uniform numbers.

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
        if num_tokens < self.order:
            return self.generate(self.order, stream=stream)[:num_tokens]
        uniform = uniforms(num_tokens - self.order + 1, self.language_seed, 1, stream)
        state = int(np.searchsorted(np.cumsum(self.stationary)[:-1], uniform[0], side="right"))
        parts = [self._symbols(state)]
        for start in range(1, len(uniform), _BLOCK_TOKENS):
            part = self._walk(uniform[start : start + _BLOCK_TOKENS], state)
            parts.append(part)
            state = self._advance(state, part)
        return np.concatenate(parts)

    def _walk(self, uniform: NDArray[np.float64], state: int) -> Tokens:
        """Symbols drawn one after the other from `state` by the given uniform numbers."""
        num_chains = max(1, min(_NUM_CHAINS, len(uniform) // 256))
        length = -(-len(uniform) // num_chains)
        padded = np.zeros(num_chains * length)
        padded[: len(uniform)] = uniform
        steps_LC = np.ascontiguousarray(padded.reshape(num_chains, length).T)
        ladder = np.cumsum(self.rows, axis=1)
        ladder[:, -1] = 1.0
        symbols_LC = np.empty((length, num_chains), dtype=np.int64)
        ends = self._run(steps_LC, np.full(num_chains, state), ladder, symbols_LC)
        starts = np.full(num_chains, state)
        while True:
            wanted = np.concatenate([[state], ends[:-1]])
            moved = np.flatnonzero(wanted != starts)
            if not len(moved):
                return symbols_LC.T.ravel()[: len(uniform)]
            starts = wanted
            ends = ends.copy()
            self._rerun(steps_LC, starts, moved, ladder, symbols_LC, ends)

    def _run(
        self, steps_LC: NDArray[np.float64], states_C: Tokens, ladder: NDArray[np.float64], symbols_LC: Tokens
    ) -> Tokens:
        for step, uniform_C in enumerate(steps_LC):
            symbol_C = (uniform_C[:, None] < ladder.take(states_C, axis=0)).argmax(axis=1)
            symbols_LC[step] = symbol_C
            states_C = (states_C * self.vocab_size + symbol_C) % self.num_states
        return states_C

    def _rerun(
        self,
        steps_LC: NDArray[np.float64],
        starts_C: Tokens,
        chains: NDArray[np.intp],
        ladder: NDArray[np.float64],
        symbols_LC: Tokens,
        ends_C: Tokens,
    ) -> None:
        """Walk the named chains again from new starts, each until its last k symbols equal those of its old path."""
        states, agreed = starts_C[chains], np.zeros(len(chains), dtype=np.int64)
        for step in range(len(steps_LC)):
            symbol = (steps_LC[step, chains][:, None] < ladder.take(states, axis=0)).argmax(axis=1)
            agreed = np.where(symbol == symbols_LC[step, chains], agreed + 1, 0)
            symbols_LC[step, chains] = symbol
            states = (states * self.vocab_size + symbol) % self.num_states
            going = agreed < self.order
            chains, states, agreed = chains[going], states[going], agreed[going]
            if not len(chains):
                return
        ends_C[chains] = states

    def _symbols(self, state: int) -> Tokens:
        return np.array([state // self.vocab_size ** (self.order - 1 - i) % self.vocab_size for i in range(self.order)])

    def _advance(self, state: int, symbols: Tokens) -> int:
        for symbol in symbols[-self.order :]:
            state = (state * self.vocab_size + int(symbol)) % self.num_states
        return state
