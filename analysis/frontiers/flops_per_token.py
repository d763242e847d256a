"""Compute per token as a function of size, read off the runs of a table.

It turns (C, N) into D under any counting convention.

Along a ladder of shapes, training FLOPs per token are 6 N times a ratio that falls towards one as models grow:
attention scores and logits weigh most in small ones. The ratio is a smooth curve through the runs' own sizes, 1 + k
N^-q where every ratio exceeds one, else a power of N held at its end values. It must not know laws or fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.arrays import Array
from analysis.frontiers.frontier import fit_line
from analysis.laws.allocation import FlopsPerToken

FLAT = 0.01
"""Ratios that differ from their mean by less than this fraction are one constant."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """FLOPs per token over 6 N along the shapes of a table."""

    log_params: Array
    """Distinct ascending ln N of the table's runs."""
    log_ratio: Array
    """Mean ln of C / (6 N D) at each size."""
    form: Literal["constant", "excess", "power"]
    """"constant", "excess" (1 + k N^-q) or "power" (k N^-q within the sizes)."""
    intercept: float
    """ln k of the form, or the constant ln ratio."""
    slope: float
    """-q of the form; 0 for a constant."""

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Shapes:
        """The ratios of a table with params, tokens and flops, one row a run."""
        log_n = np.log(frame["params"].to_numpy(dtype=float))
        log_c, log_d = (np.log(frame[name].to_numpy(dtype=float)) for name in ("flops", "tokens"))
        ratio = log_c - np.log(6.0) - log_n - log_d
        _, first, member = np.unique(np.round(log_n, 9), return_index=True, return_inverse=True)
        sizes, mean = log_n[first], np.bincount(member, weights=ratio) / np.bincount(member)
        form: Literal["constant", "excess", "power"] = "constant"
        intercept, slope = float(mean.mean()), 0.0
        if sizes.size > 1 and np.ptp(mean) > FLAT:
            excess = np.expm1(mean)
            form = "excess" if bool((excess > FLAT).all()) else "power"
            intercept, slope = fit_line(sizes, np.log(excess) if form == "excess" else mean)
            if form == "excess" and slope > 0:
                form, (intercept, slope) = "power", fit_line(sizes, mean)
        return cls(log_params=sizes, log_ratio=mean, form=form, intercept=intercept, slope=slope)

    def ratio(self, params: ArrayLike) -> Array:
        """C / (6 N D) at sizes N of any shape."""
        log_n = np.log(np.asarray(params, dtype=float))
        if self.form == "excess":
            return np.asarray(1 + np.exp(self.intercept + self.slope * log_n))
        held = np.clip(log_n, self.log_params[0], self.log_params[-1])
        return np.asarray(np.exp(self.intercept + self.slope * held))

    def flops_per_token(self, params: Array) -> Array:
        """Training FLOPs per token at sizes N."""
        return np.asarray(6.0 * params * self.ratio(params))

    @property
    def is_six_n(self) -> bool:
        """Whether the table counts C = 6 N D."""
        return self.form == "constant" and abs(self.intercept) < FLAT

    @property
    def ladder(self) -> FlopsPerToken | None:
        """`flops_per_token` where the table does not count C = 6 N D; None where it does."""
        return None if self.is_six_n else self.flops_per_token

    def tokens(self, flops: ArrayLike, params: ArrayLike) -> Array:
        """Tokens that a budget pays for.

        Parameters
        ----------
        flops : array
            C.
        params : array
            N; broadcasts against `flops`.

        Returns
        -------
        Array
            D.
        """
        return np.asarray(np.asarray(flops, dtype=float) / self.flops_per_token(np.asarray(params, dtype=float)))

    @property
    def ratio_range(self) -> tuple[float, float]:
        """Smallest and largest C / 6ND among the sizes."""
        return float(np.exp(self.log_ratio.min())), float(np.exp(self.log_ratio.max()))
