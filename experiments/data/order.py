"""The order of training sequences: a permutation that is a pure function of (size, seed, epoch).

Written out in integer arithmetic, so that it is the same on every machine and under every version of numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finalizer of SplitMix64 (Steele, Lea & Flood 2014): a bijection on 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def permutation(num: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Give a permutation of 0..num-1: the order that sorts one pseudo-random word per index.

    Parameters
    ----------
    num : int
        Number of sequences in one epoch.
    seed : int
        Any integer >= 0.
    epoch : int
        Any integer >= 0; every pair of seed and epoch gives an order of its own.

    Returns
    -------
    array of int64, shape (num,)
        The permutation.
    """
    key = _mix(np.array([(seed * 2 + 1) & _MASK], dtype=np.uint64))
    key = _mix(key + np.array([epoch & _MASK], dtype=np.uint64) * _GOLDEN)
    words = _mix((np.arange(1, num + 1, dtype=np.uint64) * _GOLDEN) ^ key)
    return np.argsort(words, kind="stable").astype(np.int64)
