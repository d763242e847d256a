"""How many token ids a synthetic language has, from its options alone: standard library only, for planning."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.data.registry import Scalar

KEY_DIGITS = 3
"""Tokens that spell a key of zipf-memory; with its value an item has 4, which divides the usual contexts."""


def digit_base(num_keys: int) -> int:
    """Find the least base in which KEY_DIGITS digits tell `num_keys` keys apart."""
    base = 2
    while base**KEY_DIGITS < num_keys:
        base += 1
    return base


def language_vocab_size(name: str, options: Mapping[str, Scalar]) -> int:
    """Count the token ids of a language.

    Parameters
    ----------
    name : str
        Its name in the registry of corpora.
    options : mapping of str to Scalar
        Every option with its value, defaults included.

    Returns
    -------
    int
        Number of ids.
    """
    if name == "zipf-memory":
        return KEY_DIGITS * digit_base(_whole(options["num_keys"])) + _whole(options["num_values"])
    return _whole(options["num_features" if name == "random-hierarchy" else "num_symbols"])


def _whole(option: Scalar) -> int:
    assert isinstance(option, int)  # checked when the options were given
    return option
