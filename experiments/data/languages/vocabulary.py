"""How many token ids a synthetic language has, from its options alone: standard library only, for planning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.data.config import DataConfig


def language_vocab_size(data: DataConfig) -> int:
    """Number of token ids of the language that a config names."""
    return int(data.option("num_symbols"))
