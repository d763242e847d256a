"""Rows with equal inputs: what they say about noise, or about a column that was left out. It knows no law."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def replicates_note(frame: pd.DataFrame, inputs: Sequence[str], target: str) -> str | None:
    """What the reader should know of rows with equal inputs and different losses.

    Parameters
    ----------
    frame : DataFrame
        The rows that are fitted.
    inputs : sequence of str
        Columns that the law reads.
    target : str
        The fitted column.

    Returns
    -------
    str or None
        One sentence with how many rows there are and how far they spread; None where there are none.
    """
    names = [name for name in inputs if name in frame.columns]
    if not names or target not in frame.columns:
        return None
    groups = frame.groupby(names)[target]
    spread = groups.transform(lambda losses: losses.max() - losses.min())
    differing = (groups.transform("size") > 1) & (spread > 1e-12 * frame[target].abs())
    count = int(differing.sum())
    if not count:
        return None
    widest = float((spread / frame[target].abs())[differing].max())
    return (
        f"{count} of {len(frame)} rows share {', '.join(names)} with another and differ in {target} by up to "
        f"{100 * widest:.2g} %: if more than the seed differs between them, keep one kind with --where"
    )
