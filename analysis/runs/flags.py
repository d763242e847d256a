"""Runs that lie far from a law: which, and why they are flagged. They are never dropped. Knows residuals, no law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FLAG_RESIDUAL = 4.0
"""A run further from the law than this many robust standard deviations is flagged ..."""
FLAG_SCALE = 2.5
"""... when it is also this many plain standard deviations away: a law that runs through most points has tiny robust
ones."""


def far_runs(residuals: NDArray[np.float64], fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which fitted runs lie further from the law than FLAG_RESIDUAL and FLAG_SCALE allow.

    Parameters
    ----------
    residuals : of log loss (or of loss), shape (n,)
    fitted : rows that the law was fitted to, shape (n,)
    """
    inside = residuals[fitted]
    spread = 1.4826 * float(np.median(np.abs(inside - np.median(inside))))
    threshold = max(FLAG_RESIDUAL * spread, FLAG_SCALE * float(inside.std()), 1e-12)
    return np.asarray(fitted & (np.abs(residuals) > threshold))


def quality_flags(frame: pd.DataFrame) -> pd.Series:
    """Per row what is unusual about it, joined by `; `: repeated data, copies, undecayed points, units that do not
    fit."""
    flags = pd.Series([""] * len(frame), index=frame.index, dtype=object)

    def add(mask: pd.Series, texts: str | Sequence[str]) -> None:
        rows = np.flatnonzero(mask.to_numpy(dtype=bool))
        for position in rows.tolist():
            text = texts if isinstance(texts, str) else texts[position]
            before = str(flags.iloc[position])
            flags.iloc[position] = f"{before}; {text}" if before else text

    identity = [name for name in ("params", "tokens", "flops", "loss") if name in frame.columns]
    if len(identity) == 4:
        add(
            frame.duplicated(subset=[*identity, *[name for name in ("seed",) if name in frame.columns]]),
            "copy of an earlier row",
        )
        ratio = frame["flops"] / (6 * frame["params"] * frame["tokens"])
        add((ratio > 30) | (ratio < 1 / 3), [f"flops / 6ND is {value:.2g}: check units" for value in ratio])
    if "epochs" in frame.columns:
        epochs = pd.to_numeric(frame["epochs"], errors="coerce").fillna(0.0)
        add(epochs > 1.0 + 1e-9, [f"repeats its data {value:.2f} times" for value in epochs])
    if "decayed" in frame.columns:
        decayed = frame["decayed"].astype(str).str.lower()
        add(decayed.isin(["false", "0", "no"]), "learning rate not decayed")
    return flags
