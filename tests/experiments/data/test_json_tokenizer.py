"""A tokenizer.json as a tokenizer: its ids follow the shared ones, its content is the identity, its place is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import prepare
from experiments.data.identity import resolve
from experiments.data.tokenizers.tokenizer import load_tokenizer
from experiments.errors import UserError
from tests.known import sweep_of

tokenizers = pytest.importorskip("tokenizers")
SENTENCE = "the cat sat on the mat and the dog sat on the log "


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with texts and a tokenizer.json trained on them."""
    (tmp_path / "texts").mkdir()
    for number in range(12):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"text {number}: {SENTENCE * 20}")
    learner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], initial_alphabet=alphabet)
    learner.train_from_iterator([SENTENCE], trainer)
    learner.save(str(tmp_path / "own.json"))
    return tmp_path


def data_of(place: Path) -> DataConfig:
    return DataConfig(corpus=f"text:{place}/texts", tokenizer=f"json:{place}/own.json", context=16)


def test_ids_follow_the_shared_ones_and_decode_to_the_text(place: Path, cache: Cache) -> None:
    data = data_of(place)
    tokenizer = load_tokenizer(data, cache)
    (ids,) = tokenizer.encode([SENTENCE.encode()])
    assert ids.min() >= 264
    assert ids.max() < data.vocab_size == tokenizer.vocab_size
    assert len(ids) < len(SENTENCE) / 2, "merges were used"
    assert tokenizer.decode([int(i) for i in ids]).decode() == SENTENCE
    corpus = prepare(data, cache)
    assert corpus.vocab_size == data.vocab_size
    assert int(np.max(corpus.train_batch(0, 2))) < data.vocab_size


def test_the_content_of_the_file_is_the_identity_and_its_place_is_not(
    place: Path, cache: Cache, tmp_path: Path
) -> None:
    first = resolve(data_of(place), cache)
    shutil.copy(place / "own.json", place / "moved.json")
    moved = resolve(DataConfig(corpus=first.corpus, tokenizer=f"json:{place}/moved.json", context=16), cache)
    assert first.identity() == moved.identity()
    raw = json.loads((place / "own.json").read_text())
    raw["added_tokens"].append({**raw["added_tokens"][0], "id": 300, "content": "<more>"})
    (place / "own.json").write_text(json.dumps(raw))
    changed = resolve(data_of(place), cache)
    assert changed.identity() != first.identity()
    assert changed.vocab_size == 264 + 301
    with pytest.raises(UserError, match="changed under this sweep"):
        resolve(first, cache)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "is not there"), ("{}", "is no tokenizer.json"), ("not JSON", "is no tokenizer.json")],
)
def test_a_file_that_is_no_tokenizer_is_one_sentence(content: str | None, told: str, place: Path) -> None:
    file = place / "bad.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=told):
        _ = DataConfig(corpus="sotu", tokenizer=f"json:{file}").vocab_size


def test_its_path_is_read_from_the_folder_of_the_sweep_file(place: Path) -> None:
    (place / "own.yaml").write_text(
        "name: own\ndata: {corpus: 'text:texts', tokenizer: 'json:own.json', context: 16}\n"
        "design: {kind: ladder, tokens: [1.0e+5], shapes: [{width: 8, depth: 1}]}\n"
    )
    assert sweep_of(place / "own.yaml").data == data_of(place)
