"""The compute-optimal frontier: N_opt, D_opt and L_opt by C, each with an interval, whichever approach it came from.

Owns the result that envelope, IsoFLOP minima and parametric fits share, its exponents a and b, and its extension as
a power law. It must not know how any approach finds its points. C in floating-point operations, N in parameters, D
in tokens, L in nats per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.files import json_ready

MIN_DRAWS = 20
"""Fewest draws of a power law that make an interval."""
SHOWN_POINTS = 12
"""Budgets that a notebook shows of a frontier."""
SHOWN_COLUMNS = ("flops", "params", "params_lo", "params_hi", "tokens", "tokens_lo", "tokens_hi", "loss")
"""Columns that a notebook shows of a frontier."""


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
    line_draws: Array | None = None
    """Bootstrap draws of `line`, shape (draws, 4), NaN rows where a draw failed; None without draws."""
    level: float = 0.95
    """Nominal coverage of every interval."""
    warnings: tuple[str, ...] = ()
    """What the reader must know before using it."""

    def at(self, flops: ArrayLike) -> pd.DataFrame:
        """N_opt and D_opt of the fitted power laws, with intervals from the draws.

        Parameters
        ----------
        flops : array, shape (m,)
            C.

        Returns
        -------
        DataFrame
            The columns of `points` less loss.

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
            out[f"{name}_lo"], out[f"{name}_hi"] = self._line_ends(offset, grid)
        return out

    def _line_ends(self, offset: int, grid: Array) -> tuple[Array, Array]:
        """Ends of the interval of N_opt (offset 0) or D_opt (2) by the draws of the power law; NaN with too few."""
        none = np.full(grid.shape, math.nan)
        if self.line_draws is None:
            return none, none
        needed = slice(None) if offset else slice(0, 2)  # tokens need params too
        draws = self.line_draws[np.isfinite(self.line_draws[:, needed]).all(axis=1)][:, offset : offset + 2]
        if len(draws) < MIN_DRAWS:
            return none, none
        curves = np.exp(draws[:, [0]] + draws[:, [1]] * np.log(grid))
        lo, hi = np.quantile(curves, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return lo, hi

    def to_dict(self) -> dict[str, Any]:
        """{"method", "convention", "a", "b", "points", "warnings"} as plain JSON; null, never NaN."""
        ready: dict[str, Any] = json_ready(
            {
                "method": self.method,
                "convention": self.convention,
                "a": self.a.to_dict(),
                "b": self.b.to_dict() if self.b else None,
                "points": self.points.to_dict(orient="records"),
                "warnings": list(self.warnings),
            }
        )
        return ready

    def __repr__(self) -> str:
        return f"Frontier({self.method}, {self.convention}, a = {self.a}, {len(self.points)} points)"

    def _repr_html_(self) -> str:
        """Exponents, the first points and the warnings, for notebooks."""
        names = [name for name in SHOWN_COLUMNS if name in self.points.columns]
        rows = self.points.head(SHOWN_POINTS)[names].to_html(
            border=0, index=False, na_rep="", float_format=lambda value: f"{value:.4g}"
        )
        b = "" if self.b is None else f"; D_opt ~ C^b, b = {self.b}"
        head = f"{self.method}, compute {self.convention}: N_opt ~ C^a, a = {self.a}{b}"
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.warnings)
        return f"<p>{escape(head)}</p>{rows}" + (f"<ul>{notes}</ul>" if notes else "")


def fit_line(log_flops: ArrayLike, log_y: ArrayLike) -> tuple[float, float]:
    """Least squares of log y on log C.

    Parameters
    ----------
    log_flops : array, shape (m,)
        log C of each budget; points with a value that is not finite are left out.
    log_y : array, shape (m,)
        log y of each budget.

    Returns
    -------
    intercept, slope : float
        NaN for fewer than two budgets.
    """
    x, y = np.asarray(log_flops, dtype=float), np.asarray(log_y, dtype=float)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if x.size < 2 or np.ptp(x) == 0:
        return math.nan, math.nan
    centre = x.mean()
    slope = float(((x - centre) * (y - y.mean())).sum() / ((x - centre) ** 2).sum())
    return float(y.mean() - slope * centre), slope


def fit_lines(log_flops: Array, log_y: Array) -> Array:
    """`fit_line` for many draws at once.

    Parameters
    ----------
    log_flops : Array, shape (budgets,)
        log C.
    log_y : Array, shape (draws, budgets)
        log y; NaN entries are left out of their draw's fit.

    Returns
    -------
    Array, shape (draws, 2)
        Intercepts and slopes, NaN where fewer than two budgets are left.
    """
    keep = np.isfinite(log_y)
    weight = keep.astype(float)
    x = np.broadcast_to(log_flops, log_y.shape)
    y = np.where(keep, log_y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = weight.sum(axis=1)
        mean_x = (weight * x).sum(axis=1) / count
        mean_y = y.sum(axis=1) / count
        squares = (weight * (x - mean_x[:, None]) ** 2).sum(axis=1)
        slope = (weight * (x - mean_x[:, None]) * (y - mean_y[:, None] * weight)).sum(axis=1) / squares
        intercept = mean_y - slope * mean_x
    out = np.column_stack([intercept, slope])
    out[(count < 2) | (squares <= 0)] = math.nan
    return out
