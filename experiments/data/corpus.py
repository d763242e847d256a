"""TokenCorpus: batches from token files.

Training sequences in a pure order, a fixed validation set by document, exact budgets.

Shape legend: B sequences, T = context. Hands out numpy arrays; turning them into tensors is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from experiments.data.budget import budget_problem
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import resolve
from experiments.data.languages.base import Language
from experiments.data.languages.registry import build_language
from experiments.data.order import permutation
from experiments.data.tokenizers.tokenizer import PAD
from experiments.data.tokens import TokenFiles, open_tokens, validation_files
from experiments.errors import UserError


class TokenCorpus:
    """A corpus ready for training: what `prepare` returns.

    Parameters
    ----------
    data : DataConfig
        The resolved config.
    files : TokenFiles
        Its opened token files.
    """

    def __init__(self, data: DataConfig, files: TokenFiles) -> None:
        self.data = data
        """The resolved config."""
        self.meta = files.meta
        """Counts of documents, bytes and stored tokens, and hashes."""
        self.vocab_size = int(files.meta["vocab_size"])
        self.num_windows = (len(files.train) - 1) // data.context
        """Training sequences in one epoch."""
        self.num_train_tokens = self.num_windows * data.context
        """Tokens predicted in one epoch."""
        self.num_val_documents = len(files.val_offsets) - 1
        self.val_document_bytes = files.val_bytes
        """Bytes of text scored in each validation document, (num_val_documents,); None for a language."""
        self.language: Language | None = build_language(data) if data.is_language else None
        """The source itself, where the corpus is a synthetic language: entropy rate and true log loss."""
        self._files = files
        if self.num_windows < 1:
            raise UserError(
                f"corpus {data.corpus!r} has {len(files.train)} training tokens, fewer than one sequence of context "
                f"{data.context} + 1; lower context or give more text"
            )
        if self.language is not None and data.context % self.language.period:
            raise UserError(
                f"context is {data.context}, and items of {data.corpus!r} have {self.language.period} tokens; "
                f"make context a multiple of {self.language.period}"
            )
        self._windows = sliding_window_view(files.train, data.context + 1)[:: data.context]
        self._order = lru_cache(maxsize=4)(lambda seed, epoch: permutation(self.num_windows, seed, epoch))

    def check_unchanged(self) -> None:
        """Refuse to go on where the token files are no longer those that were opened.

        Raises
        ------
        DamagedTokens
            When their content has changed.
        """
        self._files.check_unchanged()

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of training text per stored training token; None for a language."""
        total = self.meta["train_bytes"]
        return None if total is None else total / (self.meta["num_train_stored"] - 1)

    @property
    def documents(self) -> dict[str, int]:
        """Number of documents in training, held out, and used for validation."""
        return {
            "train": int(self.meta["num_train_documents"]),
            "held_out": int(self.meta["num_val_held_out"]),
            "validation": self.num_val_documents,
        }

    @property
    def num_val_bytes(self) -> int | None:
        """Bytes of text that the validation tokens stand for; None for a language."""
        return None if self.val_document_bytes is None else int(self.val_document_bytes.sum())

    @property
    def num_val_tokens(self) -> int:
        """Tokens scored in validation."""
        return int(self._val_table[2].sum())

    def sequence_order(self, seed: int | None = None, epoch: int = 0) -> NDArray[np.int64]:
        """Give the windows of an epoch in the order of training.

        Parameters
        ----------
        seed : int or None
            Seed of the order; None: the config's data_seed.
        epoch : int
            Number of the pass, from 0.

        Returns
        -------
        array of int64, shape (num_windows,)
            Numbers of windows.
        """
        return self._order(self.data.data_seed if seed is None else seed, epoch)

    def train_batch(self, start_sequence: int, num_sequences: int, *, seed: int | None = None) -> NDArray[np.int64]:
        """Give training sequences, a pure function of (corpus, seed, sequence number).

        Sequence s is window `sequence_order(seed, s // num_windows)[s % num_windows]`; window w holds tokens w T to w T
        + T of the stream, so that one epoch predicts every token of the stream once.

        Parameters
        ----------
        start_sequence : int
            Number of the first sequence, counted from 0 through all epochs.
        num_sequences : int
            B, at least 1.
        seed : int or None
            Seed of the order; None: the config's data_seed.

        Returns
        -------
        array of int64, shape (B, T + 1)
            Inputs are [:, :-1] and targets [:, 1:].

        Raises
        ------
        UserError
            When the sequences lie beyond the declared epochs.
        ValueError
            When there is no such batch.
        """
        end = start_sequence + num_sequences
        if start_sequence < 0 or num_sequences < 1:
            raise ValueError(f"a batch of {num_sequences} sequences from {start_sequence} makes no sense")
        if end > self.data.max_epochs * self.num_windows:
            check_budget(self.data, self, end * self.data.context)
        first, last = start_sequence // self.num_windows, (end - 1) // self.num_windows
        if first == last:
            offset = start_sequence - first * self.num_windows
            rows = self.sequence_order(seed, first)[offset : offset + num_sequences]
        else:
            sequence = np.arange(start_sequence, end)
            orders = np.stack([self.sequence_order(seed, epoch) for epoch in range(first, last + 1)])
            rows = orders[sequence // self.num_windows - first, sequence % self.num_windows]
        return self._windows[rows].astype(np.int64)

    @cached_property
    def _val_table(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of every validation window: where it starts, its document, and how many of its targets are scored."""
        starts, documents, counts = [], [], []
        for document, (begin, end) in enumerate(pairwise(self._files.val_offsets)):
            start = np.arange(begin, end - 1, self.data.context)
            starts.append(start)
            documents.append(np.full(len(start), document))
            counts.append(np.minimum(self.data.context, end - 1 - start))
        table = (np.concatenate(starts), np.concatenate(documents), np.concatenate(counts))
        if self.language is not None:
            scored = self._scored(table[0], table[1], table[2])
            return table[0], table[1], scored.sum(axis=1)
        return table

    def _scored(
        self, starts: NDArray[np.int64], documents: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        mask = np.arange(self.data.context) < counts[:, None]
        if self.language is not None:
            pattern = self.language.scored(int(np.diff(self._files.val_offsets).max()) + self.data.context)
            within = starts - self._files.val_offsets[documents] + 1
            mask &= pattern[within[:, None] + np.arange(self.data.context)]
        return mask

    def val_batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """Give the validation set, always the same, in batches.

        Every token of every document is predicted once, within windows of the context.

        Parameters
        ----------
        batch_size : int
            Sequences in a batch; the last batch may hold fewer.

        Yields
        ------
        tokens : array of int64, shape (b, T + 1)
            Short windows are padded at their end.
        document_ids : array of int64, shape (b, T)
            The document of every target, 0 to num_val_documents - 1.
        mask : array of bool, shape (b, T)
            Which targets are scored.
        """
        starts, documents, _ = self._val_table
        ends = self._files.val_offsets[documents + 1]
        pad = 0 if self.language is not None else PAD
        steps = np.arange(self.data.context + 1)
        for begin in range(0, len(starts), batch_size):
            part = slice(begin, begin + batch_size)
            index = starts[part, None] + steps
            inside = index < ends[part, None]
            tokens = np.where(inside, self._files.val[np.where(inside, index, 0)], pad).astype(np.int64)
            counts = np.minimum(self.data.context, ends[part] - 1 - starts[part])
            mask = self._scored(starts[part], documents[part], counts)
            yield tokens, np.repeat(documents[part, None], self.data.context, axis=1), mask

    def source_val_sums(self, batch_size: int = 64) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score the validation set under the true source, each token given what its window shows of the past.

        Parameters
        ----------
        batch_size : int
            Sequences scored at a time.

        Returns
        -------
        sums : array of float64, shape (num_val_documents,)
            Nats per document.
        counts : array of int64, shape (num_val_documents,)
            Scored tokens per document.

        Raises
        ------
        UserError
            When the corpus is no synthetic language.
        """
        if self.language is None:
            raise UserError(f"corpus {self.data.corpus!r} is no synthetic language; its true source is not known")
        sums = np.zeros(self.num_val_documents)
        counts = np.zeros(self.num_val_documents, dtype=np.int64)
        for tokens, documents, mask in self.val_batches(batch_size):
            np.add.at(sums, documents[mask], self.language.log_loss(tokens)[mask])
            np.add.at(counts, documents[mask], 1)
        return sums, counts


def prepare(data: DataConfig, cache: Cache) -> TokenCorpus:
    """Build the tokens of a config where they are not there yet, and open them.

    Safe with many processes at once: one builds, the others wait or lose a race that harms nobody.

    Parameters
    ----------
    data : DataConfig
        A config, resolved or not; a resolved one is checked against the content that is there.
    cache : Cache
        The cache folder.

    Returns
    -------
    TokenCorpus
        Ready for training.

    Raises
    ------
    UserError
        When the corpus is not there, changed, or is too small; when the disk refuses.
    """
    data = resolve(data, cache)
    return TokenCorpus(data, open_tokens(data, cache))


def check_budget(data: DataConfig, corpus: TokenCorpus, tokens: int) -> None:
    """Refuse a token budget that needs more passes over the corpus than declared.

    Parameters
    ----------
    data : DataConfig
        The declared passes.
    corpus : TokenCorpus
        The tokens that there are.
    tokens : int
        The budget.

    Raises
    ------
    UserError
        When the tokens exceed max_epochs times the training tokens; the sentence has both numbers and the ways out.
    """
    budget_error = budget_problem(data, corpus.num_train_tokens, tokens)
    if budget_error is not None:
        raise UserError(budget_error)


def bits_per_byte(loss_nats_per_token: float, tokens: int, num_bytes: int) -> float:
    """Convert a loss to bits per byte, the axis on which tokenizers can be compared.

    Nats per token times tokens, over ln 2 times the bytes that the tokens stand for.

    Parameters
    ----------
    loss_nats_per_token : float
        Mean loss on the validation set.
    tokens : int
        Tokens scored there.
    num_bytes : int
        Bytes of text that they stand for.

    Returns
    -------
    float
        Bits per byte.

    Raises
    ------
    ValueError
        When there are no bytes.
    """
    if num_bytes < 1:
        raise ValueError(f"{num_bytes} bytes of text have no bits per byte")
    return loss_nats_per_token * tokens / (math.log(2) * num_bytes)


def clustered_mean(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float | None]:
    """Mean loss over tokens and its standard error clustered by document.

    The ratio estimator: L = sum s_d / sum c_d, se^2 = n / (n - 1) sum (s_d - L c_d)^2 / (sum c_d)^2 (Cochran 1977,
    section 6.4).

    Parameters
    ----------
    sums : array, shape (n,)
        Nats of each document.
    counts : array, shape (n,)
        Predicted tokens of each document.

    Returns
    -------
    mean : float
        Nats per token.
    standard_error : float or None
        In nats per token; None for fewer than two documents.
    """
    total = counts.sum()
    loss = float(sums.sum() / total)
    num = int((counts > 0).sum())
    if num < 2:
        return loss, None
    residuals = sums - loss * counts
    return loss, float(math.sqrt(num / (num - 1) * float((residuals**2).sum())) / total)


def source_loss(data: DataConfig) -> tuple[float, float | None]:
    """Compute what a synthetic language itself scores on the validation text of a config: the floor of its runs.

    It differs from the exact entropy by the chance of a finite text, alike for all runs that are measured on it.

    Parameters
    ----------
    data : DataConfig
        A synthetic language; its validation text is made in memory.

    Returns
    -------
    loss : float
        Nats per scored token.
    standard_error : float or None
        Of a text of this length around the exact entropy; None for a single document.

    Raises
    ------
    UserError
        When the corpus is no synthetic language.
    """
    if not data.is_language:
        raise UserError(f"corpus {data.corpus!r} is no synthetic language; its true source is not known")
    return clustered_mean(*TokenCorpus(data, validation_files(data)).source_val_sums())
