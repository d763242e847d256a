"""The compute-optimal frontier: N_opt, D_opt and L_opt by C, each with an interval, whichever approach it came from.

Owns the result that envelope, IsoFLOP minima and parametric fits share, its exponents a and b, and its extension as
a power law. It must not know how any approach finds its points. C in floating-point operations, N in parameters, D
in tokens, L in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.estimate import Estimate
from analysis.files import json_ready

POINT_COLUMNS = tuple(f"{name}{end}" for name in ("params", "tokens", "loss") for end in ("", "_lo", "_hi"))
"""Columns of `Frontier.points` after `flops`; an end is NaN where there is no interval."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """N_opt, D_opt and L_opt by C, with intervals, and the exponents of N_opt ~ C^a and D_opt ~ C^b."""

    method: str
    """Where it comes from: "envelope", "isoflop parabola", "parametric hoffmann"."""
    convention: str
    """How C was counted: "counted", "6ND" or "as given"."""
    a: Estimate
    """d log N_opt / d log C."""
    b: Estimate | None
    """d log D_opt / d log C; None when the table has no tokens."""
    points: pd.DataFrame
    """flops, params, tokens, loss, each with _lo and _hi (NaN without interval), and what the approach adds
    (bracketed, budget)."""
    line: tuple[float, float, float, float] | None = None
    """(ln k_N, a, ln k_D, b) of N_opt = k_N C^a and D_opt = k_D C^b; None where the frontier is no power law."""
    line_draws: NDArray[np.float64] | None = None
    """(draws, 4) bootstrap draws of `line`, NaN rows where a draw failed."""
    level: float = 0.95
    """Nominal coverage of every interval."""
    warnings: tuple[str, ...] = ()
    """What the reader must know before using it."""

    def at(self, flops: ArrayLike) -> pd.DataFrame:
        """N_opt and D_opt of the fitted power laws at `flops`, with intervals from the draws; the columns of
        `points` less loss.

        Raises
        ------
        ValueError
            When the frontier has no power law.
        """
        if self.line is None:
            raise ValueError(
                f"the {self.method} frontier has no power law; it needs at least two compute budgets with a minimum"
            )
        grid = np.atleast_1d(np.asarray(flops, dtype=float))
        out = pd.DataFrame({"flops": grid})
        for offset, name in ((0, "params"), (2, "tokens")):
            out[name] = np.exp(self.line[offset] + self.line[offset + 1] * np.log(grid))
            lo = hi = np.full(grid.shape, math.nan)
            if self.line_draws is not None:
                draws = (
                    self.line_draws[np.isfinite(self.line_draws).all(axis=1)] if name == "tokens" else self.line_draws
                )
                draws = draws[np.isfinite(draws[:, offset : offset + 2]).all(axis=1)]
                if len(draws) >= 20:
                    curves = np.exp(draws[:, [offset]] + draws[:, [offset + 1]] * np.log(grid))
                    lo, hi = np.quantile(curves, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
            out[f"{name}_lo"], out[f"{name}_hi"] = lo, hi
        return out

    def to_dict(self) -> dict[str, Any]:
        """{"method", "convention", "a", "b", "points", "warnings"} as plain JSON; null, never NaN."""
        return json_ready(
            {
                "method": self.method,
                "convention": self.convention,
                "a": self.a.to_dict(),
                "b": self.b.to_dict() if self.b else None,
                "points": self.points.to_dict(orient="records"),
                "warnings": list(self.warnings),
            }
        )


def fit_line(log_flops: ArrayLike, log_y: ArrayLike) -> tuple[float, float]:
    """Least squares of log y on log C: (intercept, slope); NaN for fewer than two budgets."""
    x, y = np.asarray(log_flops, dtype=float), np.asarray(log_y, dtype=float)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if x.size < 2 or np.ptp(x) == 0:
        return math.nan, math.nan
    centre = x.mean()
    slope = float(((x - centre) * (y - y.mean())).sum() / ((x - centre) ** 2).sum())
    return float(y.mean() - slope * centre), slope


def fit_lines(log_flops: NDArray[np.float64], log_y: NDArray[np.float64]) -> NDArray[np.float64]:
    """`fit_line` for every row of `log_y` (draws, budgets) at once; NaN entries are left out of their row's fit.

    Returns
    -------
    (draws, 2) intercepts and slopes, NaN where fewer than two budgets are left.
    """
    keep = np.isfinite(log_y)
    weight = keep.astype(float)
    x = np.broadcast_to(log_flops, log_y.shape)
    y = np.where(keep, log_y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = weight.sum(axis=1)
        mean_x = (weight * x).sum(axis=1) / count
        mean_y = y.sum(axis=1) / count
        spread = (weight * (x - mean_x[:, None]) ** 2).sum(axis=1)
        slope = (weight * (x - mean_x[:, None]) * (y - mean_y[:, None] * weight)).sum(axis=1) / spread
        intercept = mean_y - slope * mean_x
    out = np.column_stack([intercept, slope])
    out[(count < 2) | (spread <= 0)] = math.nan
    return out


def empty_points(extra: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """A frame with the columns of `points` and no rows."""
    return pd.DataFrame({name: pd.Series(dtype=float) for name in ("flops", *POINT_COLUMNS, *(extra or {}))})
