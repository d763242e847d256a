"""Templates of advice: what they leave out has the defaults of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.design.sweep_file import read_template
from analysis.errors import UserError
from experiments.config.sweep import DesignConfig, ScheduleChoice, Shape
from experiments.data.config import DataConfig


def test_what_a_template_leaves_out_is_what_sweeps_do(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("data: {corpus: sotu}\n")
    template = read_template(path)
    rules = template.rules(vocab_size=None)
    assert rules.vocab_size == DataConfig(corpus="sotu").vocab_size
    assert rules.context == DataConfig().context
    design = DesignConfig(kind="ladder", shapes=(Shape(width=8, depth=1),), tokens=(1.0,))
    assert rules.head_width == design.head_width
    assert template.decay_fraction == ScheduleChoice().decay_fraction


@pytest.mark.parametrize(
    ("data", "vocab_size"),
    [
        ("{corpus: sotu, tokenizer: bpe-1024}", 1024),
        ("{corpus: markov}", DataConfig(corpus="markov").vocab_size),
    ],
)
def test_token_ids_are_those_of_the_tokenizer_or_the_language(tmp_path: Path, data: str, vocab_size: int) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(f"data: {data}\n")
    assert read_template(path).rules(vocab_size=None).vocab_size == vocab_size


def test_a_template_is_checked_as_a_sweep_is(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("data: {corpus: sotu}\nrecipe: {nmae: byte-small}\n")
    with pytest.raises(UserError, match="nmae"):
        read_template(path)
