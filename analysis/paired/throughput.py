"""How much faster one arm trains than another: FLOPs per second where runs say their training time.

Owns the comparison of measured times. It must not know laws or what an arm is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array

SECONDS = ("train_seconds", "seconds")
"""Columns of a run's measured training time, in order of preference."""


def relative_throughput(
    columns: Mapping[str, Any],
    rows: Sequence[NDArray[np.intp]],
    blocks: NDArray[np.intp],
    signs: Array,
    warnings: list[str],
) -> list[tuple[float, Array] | None]:
    """FLOPs per second of each arm over those of the reference.

    Blocks that have runs of both are compared pair by pair. An arm that shares no block with the reference is compared
    by the mean over all of its runs.

    Parameters
    ----------
    columns : mapping
        `flops` and one of SECONDS by name, each of shape (n,).
    rows : sequence of array of int
        Rows of each arm, the reference first.
    blocks : array of int, shape (n,)
        Block of every run.
    signs : Array, shape (B, num_blocks)
        Multipliers of the blocks' deviations in each draw.
    warnings : list of str
        What to know of the times is added here.

    Returns
    -------
    list of (float, Array) or None
        For each arm the logarithm of the ratio, and draws of it, shape (B,); None where no times are known.
    """
    name = next((name for name in SECONDS if name in columns), None)
    if name is None:
        return [None] * len(rows)
    try:
        seconds = np.asarray(columns[name], dtype=np.float64)
    except (TypeError, ValueError):
        warnings.append(f"{name} holds text, so that nothing is said in seconds")
        return [None] * len(rows)
    timed = np.isfinite(seconds) & (seconds > 0)
    if not timed.all():
        warnings.append(
            f"{int((~timed).sum())} of {timed.size} runs have no time in {name}: seconds rest on the others"
        )
    rate = np.where(timed, np.log(np.asarray(columns["flops"], dtype=np.float64) / np.where(timed, seconds, 1.0)), 0.0)
    means = [_block_means(rate, members[timed[members]], blocks, signs.shape[1]) for members in rows]
    out: list[tuple[float, Array] | None] = []
    alone = 0
    for mean in means:
        ratio = mean - means[0]
        if np.isfinite(ratio).any():
            out.append(_mean_and_draws(ratio, signs))
        elif np.isfinite(mean).any() and np.isfinite(means[0]).any():
            (value, draws), (base, base_draws) = (_mean_and_draws(one, signs) for one in (mean, means[0]))
            out.append((value - base, draws - base_draws))
            alone += 1
        else:
            out.append(None)
    if alone:
        warnings.append(
            "seconds compare the mean speed of all runs of an arm where it shares no cell and seed with the reference"
        )
    return out


def _block_means(rate: Array, members: NDArray[np.intp], blocks: NDArray[np.intp], num: int) -> Array:
    """Mean of one arm's logarithms in every block, shape (num,); NaN where it has no run."""
    count = np.bincount(blocks[members], minlength=num)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(blocks[members], weights=rate[members], minlength=num) / count)


def _mean_and_draws(values: Array, signs: Array) -> tuple[float, Array]:
    """Mean over the blocks that have a value, and draws of it, shape (B,)."""
    known = np.isfinite(values)
    center = float(values[known].mean())
    grow = math.sqrt(known.sum() / max(known.sum() - 1, 1))
    return center, center + signs[:, known] @ (values[known] - center) * grow / known.sum()
