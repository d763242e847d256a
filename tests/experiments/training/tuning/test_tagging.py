"""Tags of words: where they are read, what is cut, and entities against a second implementation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.tasks import Example
from experiments.data.tokenizers.tokenizer import EOD, load_tokenizer
from experiments.training.tuning.entities import Span, entities, entity_f1, is_bio
from experiments.training.tuning.tagging import Tagging

TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]


def by_pattern(tags: list[str]) -> list[Span]:
    """Entities as matches of B I* in a text with one letter for each tag."""
    letters = "".join({"O": "o", "B-a": "A", "I-a": "a", "B-b": "B", "I-b": "b"}[tag] for tag in tags)
    return [(match[0][0].lower(), *match.span()) for match in re.finditer("Aa*|Bb*", letters)]


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_are_those_that_a_pattern_finds(tags: list[str]) -> None:
    assert entities(tags) == by_pattern(tags)


def test_f1_counts_whole_entities_of_the_right_type() -> None:
    true = entities(["B-a", "I-a", "O", "B-b"])
    assert entity_f1([(true, true)]) == 1
    assert entity_f1([(entities(["B-a", "O", "O", "B-b"]), true)]) == pytest.approx(2 * 1 / 4)
    assert entity_f1([(entities(["B-b", "I-b", "O", "B-b"]), true)]) == pytest.approx(2 * 1 / 4)
    assert entity_f1([([], [])]) == 0


def test_parts_of_speech_are_no_entities() -> None:
    assert is_bio(TAGS)
    assert not is_bio(["NN", "VB"])
    assert not is_bio(["O"])


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_word_is_read_where_the_body_knows_it(is_causal: bool, cache: Cache) -> None:
    tagging = Tagging(("N", "V"), load_tokenizer(DataConfig(corpus="sotu"), cache), is_causal)
    example = Example(text="sun is up", tokens=("sun", "is", "up"), tags=("N", "V", "V"))
    (row,) = tagging.rows([example], 100)
    assert bytes(row.ids[1:]) == b"sun is up"
    assert row.ids[0] == EOD
    assert row.target == ((3, 6, 9) if is_causal else (1, 4, 7), (0, 1, 1))
    (cut,) = tagging.rows([example], 6)
    assert (cut.num_targets, cut.is_cut, len(cut.ids)) == (1 if is_causal else 2, True, 6)
