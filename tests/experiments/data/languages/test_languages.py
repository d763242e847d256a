"""Zipf memory and random hierarchy: exact entropies against enumeration and the source's loss on a million tokens."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import prepare, source_loss
from experiments.data.languages.base import Language
from experiments.data.languages.random_hierarchy import RandomHierarchyLanguage
from experiments.data.languages.registry import LANGUAGES, build_language
from experiments.data.languages.zipf_memory import ZipfMemoryLanguage
from experiments.errors import UserError

LANGUAGE_NAMES = sorted(LANGUAGES)


def sentence_law(language: RandomHierarchyLanguage) -> dict[tuple[int, ...], float]:
    """Probability of every sentence, by walking every derivation."""

    def expand(level: int, feature: int) -> list[tuple[tuple[int, ...], float]]:
        if level == 0:
            return [((feature,), 1.0)]
        found = []
        for rule in range(language.num_rules):
            children = language.rules[level - 1][feature * language.num_rules + rule]
            for parts in itertools.product(*(expand(level - 1, int(child)) for child in children)):
                words = tuple(word for part, _ in parts for word in part)
                found.append((words, math.prod(probability for _, probability in parts) / language.num_rules))
        return found

    law: dict[tuple[int, ...], float] = defaultdict(float)
    for root in range(language.vocab_size):
        for words, probability in expand(language.depth, root):
            law[words] += probability / language.vocab_size
    return law


@pytest.mark.parametrize(
    ("features", "rules", "branching", "depth"), [(3, 2, 2, 2), (2, 2, 2, 3), (3, 2, 3, 1), (3, 3, 2, 2)]
)
def test_hierarchy_entropy_and_loss_equal_those_of_every_sentence(
    features: int, rules: int, branching: int, depth: int
) -> None:
    language = RandomHierarchyLanguage(
        num_features=features, num_rules=rules, branching=branching, depth=depth, language_seed=1
    )
    law = sentence_law(language)
    entropy = -sum(p * math.log(p) for p in law.values())
    assert sum(law.values()) == pytest.approx(1)
    assert language.entropy_rate == pytest.approx(entropy / language.period, abs=1e-12)
    prefixes: Counter[tuple[int, ...]] = Counter()
    for words, probability in law.items():
        for length in range(1, len(words) + 1):
            prefixes[words[:length]] += probability  # type: ignore[assignment]
    sentences = np.array(sorted(law))
    expected = [
        [math.log(prefixes[tuple(words[:i])] / prefixes[tuple(words[: i + 1])]) for i in range(1, len(words))]
        for words in sentences.tolist()
    ]
    assert language.log_loss(sentences) == pytest.approx(np.array(expected))
    if language.period > 2:
        assert language.log_loss(sentences[:, :-1]) == pytest.approx(np.array(expected)[:, :-1])


def test_hierarchy_refuses_what_is_no_sentence() -> None:
    language = RandomHierarchyLanguage(num_features=4, num_rules=1, branching=2, depth=2, language_seed=0)
    sentence = language.generate(4, stream=0)
    with pytest.raises(ValueError, match="no sentences"):
        language.log_loss(np.array([[*sentence[:3], (sentence[3] + 1) % 4]]))


def test_memory_entropies_equal_those_of_every_item() -> None:
    language = ZipfMemoryLanguage(num_keys=11, exponent=0.7, num_values=3, noise=0.2, language_seed=4)
    law: dict[tuple[int, ...], float] = {}
    for rank, key in enumerate(language.key_of_rank.tolist()):
        digits = [key // 9, 3 + key // 3 % 3, 6 + key % 3]
        assert language.base == 3
        for value in range(3):
            right = value == language.value_of_key[key]
            law[(*digits, 9 + value)] = language.rank_law[rank] * (0.8 if right else 0.1)
    assert sum(law.values()) == pytest.approx(1)
    entropy = -sum(p * math.log(p) for p in law.values())
    assert language.token_entropy == pytest.approx(entropy / 4, abs=1e-12)
    items = np.array(sorted(law))
    first = Counter[int]()
    for item, probability in law.items():
        first[item[0]] += probability  # type: ignore[assignment]
    whole = language.log_loss(items).sum(axis=1) - np.log([first[item[0]] for item in items.tolist()])
    assert whole == pytest.approx(-np.log([law[tuple(item)] for item in items.tolist()]))
    value_entropy = -0.8 * math.log(0.8) - 2 * 0.1 * math.log(0.1)
    assert language.entropy_rate == pytest.approx(value_entropy)


def test_key_frequencies_follow_the_declared_power_of_the_rank() -> None:
    language = ZipfMemoryLanguage(num_keys=1 << 16, exponent=0.5, num_values=64, noise=0.1, language_seed=0)
    assert np.log(language.rank_law[99] / language.rank_law[9]) == pytest.approx(-1.5 * math.log(10))
    items = language.generate(400_000, stream=0).reshape(-1, 4)
    key = (items[:, 0] * language.base + items[:, 1] - language.base) * language.base + items[:, 2] - 2 * language.base
    share = (key == language.key_of_rank[0]).mean()
    assert share == pytest.approx(language.rank_law[0], abs=4 * 0.5 / math.sqrt(len(items)))


def test_learning_curves_of_a_perfect_memory_have_the_declared_exponents() -> None:
    language = ZipfMemoryLanguage(num_keys=1 << 20, exponent=0.5, num_values=64, noise=0.0, language_seed=0)
    in_data = math.log(language.unseen(3e4) / language.unseen(1e3)) / math.log(30)
    in_size = math.log(language.beyond(3000) / language.beyond(300)) / math.log(10)
    assert in_data == pytest.approx(-0.5 / 1.5, abs=0.03)
    assert in_size == pytest.approx(-0.5, abs=0.03)


def test_the_share_of_unseen_keys_is_that_of_a_simulated_memory() -> None:
    language = ZipfMemoryLanguage(num_keys=1 << 12, exponent=0.5, num_values=64, noise=0.0, language_seed=0)
    shares = []
    for stream in range(20):
        items = language.generate(4 * 2001, stream=stream).reshape(-1, 4)[:, :3] @ np.array([10_000, 100, 1])
        seen = np.unique(items[:1000])
        shares.append(float((~np.isin(items[1000:], seen)).mean()))
    error = np.std(shares, ddof=1) / math.sqrt(len(shares))
    assert abs(np.mean(shares) - language.unseen(1000)) < 4 * error


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_source_loss_on_a_million_tokens_agrees_with_the_entropy_rate(name: str) -> None:
    language: Language = build_language(DataConfig(corpus=name))
    num = 1 << 20
    nats = language.log_loss(language.generate(num + language.period, stream=9)[None])[0]
    scored = nats[language.scored(num + language.period)[1:]]
    blocks = scored[: len(scored) // 256 * 256].reshape(-1, 256).mean(axis=1)
    error = blocks.std(ddof=1) / math.sqrt(len(blocks))
    assert error < 0.005
    assert abs(scored.mean() - language.entropy_rate) < 4 * error


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_streams_are_reproducible_prefixes_and_differ_from_one_another(name: str) -> None:
    language = build_language(DataConfig(corpus=name))
    longer, shorter = language.generate(5000, stream=2), language.generate(1203, stream=2)
    assert longer.shape == (5000,)
    assert shorter.shape == (1203,)
    assert np.array_equal(longer[:1203], shorter)
    assert np.array_equal(longer, language.generate(5000, stream=2))
    assert not np.array_equal(longer, language.generate(5000, stream=3))
    assert 0 <= longer.min() <= longer.max() < language.vocab_size


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_a_language_is_served_with_its_scored_positions_only(name: str, tmp_path: Path) -> None:
    options = {"num_tokens": 10_000}
    data = DataConfig(corpus=name, corpus_options=options, context=64, val_document_size=320, val_size=3200)
    corpus = prepare(data, Cache(tmp_path))
    assert corpus.vocab_size == data.vocab_size
    assert corpus.language is not None
    sums, counts = corpus.source_val_sums()
    assert counts.tolist() == [80 if name == "zipf-memory" else 320] * 10
    assert np.isfinite(sums).all()
    if name == "zipf-memory":
        for tokens, _, mask in corpus.val_batches(3):
            assert (tokens[:, 1:][mask] >= corpus.language.first_value).all()  # type: ignore[attr-defined]
            assert mask.sum() == (tokens[:, 1:] >= corpus.language.first_value).sum()  # type: ignore[attr-defined]


def test_a_context_that_cuts_items_is_refused(tmp_path: Path) -> None:
    data = DataConfig(corpus="zipf-memory", corpus_options={"num_tokens": 1000}, context=30, val_size=100)
    with pytest.raises(UserError, match="make context a multiple of 4"):
        prepare(data, Cache(tmp_path))


def test_impossible_options_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"noise 0\.99"):
        ZipfMemoryLanguage(num_keys=8, exponent=0.5, num_values=4, noise=0.99, language_seed=0)
    with pytest.raises(UserError, match=r"exponent > 0"):
        ZipfMemoryLanguage(num_keys=8, exponent=0.0, num_values=4, noise=0.1, language_seed=0)
    with pytest.raises(UserError, match="has 4 tuples, of which 6 are needed"):
        RandomHierarchyLanguage(num_features=2, num_rules=3, branching=2, depth=2, language_seed=0)


def test_generated_tokens_are_the_same_on_every_machine() -> None:
    found = {name: build_language(DataConfig(corpus=name)).generate(12, stream=0).tolist() for name in LANGUAGE_NAMES}
    assert found == {
        "markov": [14, 5, 6, 9, 14, 4, 5, 13, 0, 14, 15, 1],
        "random-hierarchy": [0, 8, 5, 6, 13, 10, 2, 9, 14, 2, 15, 12],
        "zipf-memory": [32, 44, 91, 126, 15, 49, 95, 157, 12, 50, 95, 149],
    }


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_the_least_loss_of_short_windows_is_that_of_the_source_on_many(name: str) -> None:
    language = build_language(DataConfig(corpus=name))
    num_predicted = 4 * max(language.period, 2)
    tokens = language.generate(20_000 * num_predicted, stream=5).reshape(-1, num_predicted)
    following = np.roll(tokens[:, 0], -1)[:-1]
    windows = np.column_stack([tokens[:-1], following])  # each starts at an item, and predicts as many tokens as it has
    scored = np.broadcast_to(language.scored(num_predicted + 1)[1:], (len(windows), num_predicted))
    nats = language.log_loss(windows)[scored].reshape(len(windows), -1).mean(axis=1)
    error = nats.std(ddof=1) / math.sqrt(len(nats))
    assert abs(nats.mean() - language.window_entropy(num_predicted)) < 4 * error
    assert language.window_entropy(num_predicted) >= language.entropy_rate


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
def test_the_source_scores_a_validation_text_in_memory_as_it_scores_the_written_one(name: str, tmp_path: Path) -> None:
    data = DataConfig(corpus=name, corpus_options={"num_tokens": 4096}, val_size=1 << 15, context=64)
    sums, counts = prepare(data, Cache(tmp_path)).source_val_sums()
    loss, standard_error = source_loss(data)
    assert loss == pytest.approx(sums.sum() / counts.sum(), rel=1e-14)
    assert standard_error is not None
    assert abs(loss - build_language(data).window_entropy(64)) < 4 * standard_error
    with pytest.raises(UserError, match="no synthetic language"):
        source_loss(DataConfig(corpus="sotu"))
