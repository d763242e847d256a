"""How many token ids a synthetic language has, from its options alone: standard library only, for planning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.data.config import DataConfig

KEY_DIGITS = 3
"""Tokens that spell a key of zipf-memory; with its value an item has 4, which divides the usual contexts."""


def digit_base(num_keys: int) -> int:
    """The least base in which KEY_DIGITS digits tell `num_keys` keys apart."""
    base = 2
    while base**KEY_DIGITS < num_keys:
        base += 1
    return base


def language_vocab_size(data: DataConfig) -> int:
    """Number of token ids of the language that a config names."""
    if data.info.name == "zipf-memory":
        return KEY_DIGITS * digit_base(int(data.option("num_keys"))) + int(data.option("num_values"))
    return int(data.option("num_features" if data.info.name == "random-hierarchy" else "num_symbols"))
