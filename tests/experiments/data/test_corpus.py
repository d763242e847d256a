"""Training order, exact budgets, the validation set, and the packaged speeches."""

from __future__ import annotations

import hashlib
import math
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpora.documents import documents
from experiments.data.corpus import TokenCorpus, bits_per_byte, check_budget, prepare
from experiments.data.identity import known_train_tokens, resolve
from experiments.data.registry import CORPORA
from experiments.data.tokens import open_tokens
from experiments.errors import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def speeches(cache: Cache) -> TokenCorpus:
    return prepare(DataConfig(context=128, val_document_size=1000, max_epochs=3), cache)


@pytest.fixture
def small(tmp_path: Path) -> TokenCorpus:
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        (folder / f"{i:02}.txt").write_bytes(
            rng.integers(97, 123, size=int(rng.integers(20, 200)), dtype=np.uint8).tobytes()
        )
    data = DataConfig(corpus=f"text:{folder}", context=16, val_fraction=0.3, val_document_size=50, max_epochs=3)
    return prepare(data, Cache(tmp_path / "cache"))


def test_the_packaged_speeches_have_the_size_their_readme_states(speeches: TokenCorpus) -> None:
    kept = list(documents(DataConfig(), Cache()))
    assert len(kept) == 249
    assert sum(map(len, kept)) == 12_185_751
    assert speeches.documents["train"] + speeches.documents["held_out"] == 249
    assert speeches.vocab_size == speeches.data.vocab_size == 264


@pytest.mark.parametrize("name", ["sotu", "shakespeare"])
def test_packaged_text_is_what_its_readme_and_the_registry_say(name: str) -> None:
    folder = resources.files("experiments.data").joinpath("packaged")
    readme = folder.joinpath("README.md").read_text()
    content = hashlib.sha256(
        b"".join(hashlib.sha256(text).digest() for text in documents(DataConfig(corpus=name), Cache()))
    )
    assert content.hexdigest() == CORPORA[name].content_hash
    assert content.hexdigest() in readme
    assert hashlib.sha256(folder.joinpath(f"{name}.jsonl.xz").read_bytes()).hexdigest() in readme


def test_one_epoch_predicts_every_training_token_once(small: TokenCorpus) -> None:
    batch = small.train_batch(0, small.num_windows, seed=5)
    stream = np.asarray(small._files.train[: small.num_train_tokens + 1], dtype=np.int64)
    order = small.sequence_order(5, 0)
    assert np.array_equal(np.sort(order), np.arange(small.num_windows))
    back = np.empty_like(batch)
    back[order] = batch
    assert np.array_equal(back[:, 1:].ravel(), stream[1:])
    assert np.array_equal(back[:, 0], stream[:-1:16])


def test_a_training_sequence_depends_on_its_number_and_not_on_the_batch_that_asks(small: TokenCorpus) -> None:
    @settings(max_examples=30, deadline=None)
    @given(start=st.integers(0, 2 * small.num_windows), num=st.integers(1, small.num_windows), seed=st.integers(0, 9))
    def check(start: int, num: int, seed: int) -> None:
        whole = small.train_batch(start, num, seed=seed)
        single = np.concatenate([small.train_batch(start + i, 1, seed=seed) for i in range(num)])
        assert np.array_equal(whole, single)

    check()


def test_every_epoch_and_every_seed_has_an_order_of_its_own(small: TokenCorpus) -> None:
    orders = [tuple(small.sequence_order(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    from experiments.data.order import permutation

    assert permutation(10, 0, 0).tolist() == [4, 5, 0, 8, 3, 9, 1, 7, 6, 2]
    assert permutation(10, 7, 2).tolist() == [8, 9, 5, 0, 2, 4, 3, 1, 7, 6]


def test_the_budget_check_names_both_numbers_and_the_way_out(small: TokenCorpus) -> None:
    available = 3 * small.num_train_tokens
    check_budget(small.data, small, available)
    with pytest.raises(UserError, match=rf"{available + 1} tokens .* {available} training tokens .* max_epochs: 4"):
        check_budget(small.data, small, available + 1)
    with pytest.raises(UserError, match="max_epochs"):
        small.train_batch(3 * small.num_windows - 1, 2)


def test_available_tokens_are_known_to_planning_once_built(small: TokenCorpus, tmp_path: Path) -> None:
    assert known_train_tokens(small.data, Cache(tmp_path / "cache")) == small.num_train_tokens
    assert known_train_tokens(small.data, Cache(tmp_path / "elsewhere")) is None


def test_validation_scores_every_token_of_every_document_once(small: TokenCorpus) -> None:
    seen: dict[int, list[int]] = {}
    first: dict[int, int] = {}
    for tokens, ids, mask in small.val_batches(4):
        assert tokens.shape == (len(ids), 17)
        assert ids.shape == mask.shape == (len(ids), 16)
        for row in range(len(ids)):
            document = int(ids[row, 0])
            first.setdefault(document, int(tokens[row, 0]))
            seen.setdefault(document, []).extend(tokens[row, 1:][mask[row]].tolist())
    assert sorted(seen) == list(range(small.num_val_documents))
    assert set(first.values()) == {256}
    offsets = small._files.val_offsets
    for document, ids_seen in seen.items():
        assert ids_seen == small._files.val[offsets[document] + 1 : offsets[document + 1]].tolist()
        assert ids_seen[-1] == 256
        assert small.val_document_bytes is not None
        assert small.val_document_bytes[document] == len(ids_seen) - 1 <= 50
    assert small.num_val_tokens == sum(map(len, seen.values()))


def test_no_validation_document_is_in_training(speeches: TokenCorpus) -> None:
    stream = np.asarray(speeches._files.train).astype(np.uint16)
    train = bytes(stream[stream < 256].astype(np.uint8))
    offsets = speeches._files.val_offsets
    for begin, end in pairwise(offsets):
        assert bytes(np.asarray(speeches._files.val[begin + 1 : end - 1]).astype(np.uint8)) not in train


def test_the_split_never_moves_when_documents_are_added(tmp_path: Path) -> None:
    def held_out(num: int) -> set[bytes]:
        folder = tmp_path / f"texts{num}"
        folder.mkdir()
        for i in range(num):
            (folder / f"{num - i:03}.txt").write_text(f"document {i} has a text of its own")
        files = open_tokens(DataConfig(corpus=f"text:{folder}", val_fraction=0.4, context=8), Cache(tmp_path / "cache"))
        texts = (files.val[a + 1 : b - 1] for a, b in pairwise(files.val_offsets))
        return {np.asarray(text).astype(np.uint8).tobytes() for text in texts}

    few, many = held_out(30), held_out(60)
    numbers = {int(text.split()[1]) for text in many}
    assert few == {text for text in many if int(text.split()[1]) < 30}
    assert numbers - set(range(30))


def test_a_resolved_config_prepares_the_same_corpus(speeches: TokenCorpus, cache: Cache) -> None:
    resolved = resolve(DataConfig(context=128, val_document_size=1000, max_epochs=3), cache)
    assert resolved == speeches.data
    assert np.array_equal(prepare(resolved, cache).train_batch(3, 4), speeches.train_batch(3, 4))


def test_bits_per_byte_of_one_nat_per_byte_is_one_over_log_two(speeches: TokenCorpus) -> None:
    assert bits_per_byte(1.0, 100, 100) == pytest.approx(1 / math.log(2))
    assert speeches.num_val_bytes is not None
    assert speeches.num_val_tokens == speeches.num_val_bytes + speeches.num_val_documents
    with pytest.raises(ValueError, match="no bits per byte"):
        bits_per_byte(1.0, 1, 0)


def test_a_corpus_shorter_than_one_sequence_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.txt").write_text(f"text {i}")
    with pytest.raises(UserError, match="fewer than one sequence of context 4096"):
        prepare(DataConfig(corpus=f"text:{folder}", context=4096, val_fraction=0.5), Cache(tmp_path))
