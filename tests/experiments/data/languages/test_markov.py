"""The Markov language: exact entropy against enumeration and against the true model's loss on a million tokens."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import prepare
from experiments.data.languages.markov import MarkovLanguage
from experiments.errors import UserError


def language(**options: float) -> MarkovLanguage:
    values = {"order": 2, "num_symbols": 16, "sharpness": 2.0, "language_seed": 0, **options}
    return MarkovLanguage(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("order", "num_symbols"), [(1, 3), (2, 3), (3, 2)])
def test_entropy_rate_equals_that_of_enumerated_blocks(order: int, num_symbols: int) -> None:
    source = language(order=order, num_symbols=num_symbols)

    def block_entropy(length: int) -> float:
        total = 0.0
        for block in itertools.product(range(num_symbols), repeat=length):
            state = 0
            for symbol in block[:order]:
                state = state * num_symbols + symbol
            probability = source.stationary[state]
            for i in range(order, length):
                state = 0
                for symbol in block[i - order : i]:
                    state = state * num_symbols + symbol
                probability *= source.rows[state, block[i]]
            total -= probability * np.log(probability)
        return total

    rate = block_entropy(order + 3) - block_entropy(order + 2)
    assert source.entropy_rate == pytest.approx(rate, abs=1e-12)
    assert source.block_entropies[-1] == source.entropy_rate


def test_stationary_law_is_left_alone_by_one_step() -> None:
    source = language(order=2, num_symbols=4)
    step = np.zeros((16, 16))
    for state in range(16):
        for symbol in range(4):
            step[state, state % 4 * 4 + symbol] += source.rows[state, symbol]
    assert source.stationary @ step == pytest.approx(source.stationary, abs=1e-14)


def test_loss_of_the_true_source_on_a_million_tokens_agrees_with_the_entropy_rate() -> None:
    source = language()
    nats = source.log_loss(source.generate(1_000_001, stream=3)[None])[0]
    blocks = nats[: len(nats) // 1000 * 1000].reshape(-1, 1000).mean(axis=1)
    assert abs(nats.mean() - source.entropy_rate) < 4 * blocks.std(ddof=1) / np.sqrt(len(blocks))
    assert blocks.std(ddof=1) / np.sqrt(len(blocks)) < 0.002


def test_single_tokens_of_the_default_language_have_half_a_nat_more_entropy_than_its_rate() -> None:
    source = language()
    assert source.block_entropies[0] - source.entropy_rate > 0.5
    assert list(source.block_entropies) == sorted(source.block_entropies, reverse=True)


def test_pieces_walked_side_by_side_give_the_sequential_path() -> None:
    source = language(num_symbols=5, language_seed=2)
    from experiments.data.languages.base import uniforms

    uniform = uniforms(19_999, 2, 1, 7)
    state = int(np.searchsorted(np.cumsum(source.stationary)[:-1], uniform[0], side="right"))
    path = [state // 5, state % 5]
    below = np.cumsum(source.rows, axis=1)[:, :-1]
    for number in uniform[1:]:
        path.append(int((number >= below[path[-2] * 5 + path[-1]]).sum()))
    assert source.generate(20_000, stream=7).tolist() == path


def test_log_loss_with_a_short_past_is_that_of_the_stationary_law() -> None:
    source = language(order=3, num_symbols=3)
    joint = source.stationary.reshape(3, 3, 3)
    for a, b, c in itertools.product(range(3), repeat=3):
        nats = source.log_loss(np.array([[a, b, c]]))[0]
        assert nats[0] == pytest.approx(-np.log(joint[a, b].sum() / joint[a].sum()))
        assert nats[1] == pytest.approx(-np.log(joint[a, b, c] / joint[a, b].sum()))


def test_validation_of_a_language_is_scored_by_its_source_per_document(tmp_path: Path) -> None:
    options = {"num_tokens": 20_000}
    data = DataConfig(corpus="markov", corpus_options=options, context=64, val_document_size=500, val_size=20_000)
    corpus = prepare(data, Cache(tmp_path))
    sums, counts = corpus.source_val_sums()
    assert corpus.num_val_documents == 40
    assert counts.tolist() == [500] * 40
    assert corpus.vocab_size == data.vocab_size == 16
    assert corpus.bytes_per_token is None
    assert corpus.num_train_tokens == 20_000 // 64 * 64
    error = (sums / counts).std(ddof=1) / np.sqrt(40)
    assert isinstance(corpus.language, MarkovLanguage)
    expected = (corpus.language.entropy_rate * 63 + corpus.language.block_entropies[1]) / 64
    assert abs(sums.sum() / counts.sum() - expected) < 4 * error


def test_impossible_markov_options_are_one_sentence() -> None:
    with pytest.raises(UserError, match="transitions"):
        language(order=6, num_symbols=64)
    with pytest.raises(UserError, match="order >= 1"):
        language(order=0)
