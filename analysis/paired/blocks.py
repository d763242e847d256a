"""Which runs of different arms belong together: blocks of runs that share a cell and a seed, and so their noise.

Owns the pairing. It must not know laws or what an arm is.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL_KEYS = (("cell",), ("width", "depth", "budget"), ("width", "depth", "tokens"), ("params", "tokens"), ("flops",))
"""Columns that tell cells apart, in order of preference; the first set that the table has is used."""
SAME = 0.01
"""Counts of params, tokens and FLOPs that differ by a smaller fraction are the same cell."""


def pair_runs(columns: Mapping[str, Any], *, cluster: str | None = None) -> NDArray[np.intp]:
    """The block of every run: runs of one cell and seed, whatever their arm.

    Parameters
    ----------
    columns : mapping
        Columns by name, each of shape (n,). Cells are told apart by `cell`, else by shape and budget, else by params
        and tokens, else by FLOPs; `seed` splits them.
    cluster : str, optional
        A column whose equal values join blocks. By default runs that share a `trunk` (a shared prefix of training) do.

    Returns
    -------
    array of int, shape (n,)
        Codes from 0 in order of first appearance.
    """
    keys = next((names for names in CELL_KEYS if all(_complete(columns, name) for name in names)), ())
    if _complete(columns, "seed"):
        keys = (*keys, "seed")
    num_rows = len(next(iter(columns.values())))
    labels: list[Hashable] = list(range(num_rows))
    if keys:
        labels = list(zip(*(_rounded(columns[name]) for name in keys), strict=True))
    codes = _codes(labels)
    joined = cluster
    if joined is None and _complete(columns, "trunk"):
        joined = "trunk"
    return codes if joined is None else _join(codes, _codes([str(value) for value in columns[joined]]))


def _complete(columns: Mapping[str, Any], name: str) -> bool:
    return name in columns and not any(value is None or value != value for value in columns[name])


def _rounded(column: Any) -> list[Hashable]:
    """Labels of a column; numbers above 100 that differ by less than a hundredth share theirs."""
    values = np.asarray(column)
    if not np.issubdtype(values.dtype, np.number):
        return [str(value) for value in values]
    numbers = values.astype(np.float64)
    order = np.argsort(numbers, kind="stable")
    out, label = np.empty(numbers.size), np.nan
    for i in order:
        if not (label > 100 and numbers[i] <= label * (1 + SAME)):
            label = numbers[i]
        out[i] = label
    return list(out.tolist())


def _codes(labels: Sequence[Hashable]) -> NDArray[np.intp]:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)


def _join(first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """The finest partition that both refine: connected components of the two."""
    joined = first.copy()
    while True:
        before = joined.copy()
        for codes in (second, first):
            least = np.full(int(codes.max()) + 1, joined.max() + 1)
            np.minimum.at(least, codes, joined)
            joined = least[codes]
        if (joined == before).all():
            return _codes([int(code) for code in joined])
