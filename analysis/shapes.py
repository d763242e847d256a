"""Compute per token as a function of size, read off the runs of a table: what turns (C, N) into D under any
counting convention.

Along a ladder of shapes, training FLOPs per token are 6 N times a ratio that falls towards a constant as models
grow (attention scores and embeddings weigh most in small ones). The ratio is interpolated in ln N between the runs'
own sizes and held at its end values beyond them. It must not know laws or fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """FLOPs per token over 6 N at the sizes of a table."""

    log_params: NDArray[np.float64]
    """Distinct ascending ln N of the table's runs."""
    log_ratio: NDArray[np.float64]
    """Mean ln of C / (6 N D) at each size."""

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Shapes:
        """The ratios of a table with params, tokens and flops."""
        log_n = np.log(frame["params"].to_numpy(dtype=float))
        ratio = np.log(
            frame["flops"].to_numpy(dtype=float) / (6 * frame["params"] * frame["tokens"]).to_numpy(dtype=float)
        )
        _, first, member = np.unique(np.round(log_n, 9), return_index=True, return_inverse=True)
        return cls(log_params=log_n[first], log_ratio=np.bincount(member, weights=ratio) / np.bincount(member))

    def tokens(self, flops: ArrayLike, params: ArrayLike) -> NDArray[np.float64]:
        """D that C pays for at size N; arguments broadcast."""
        log_n = np.log(np.asarray(params, dtype=float))
        ratio = np.interp(log_n, self.log_params, self.log_ratio)
        return np.asarray(np.exp(np.log(np.asarray(flops, dtype=float)) - np.log(6.0) - log_n - ratio))

    @property
    def ratio_range(self) -> tuple[float, float]:
        """Smallest and largest C / 6ND among the sizes."""
        return float(np.exp(self.log_ratio.min())), float(np.exp(self.log_ratio.max()))
