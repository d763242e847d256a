"""Approach 3: the compute-optimal frontier that a fitted law of params and tokens implies.

Under C = 6 N D the exponents are in closed form where the law has one, else by minimisation along each budget. Under
counted FLOPs the minimum is found along a ladder of shapes: any function from N to training FLOPs per token.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.derived import Neighbourhood, frontier_reason, neighbourhood
from analysis.laws.allocation import FlopsPerToken, exponents, optimum, six_n, supports_frontier
from analysis.runs.conventions import COUNTED, SIX_ND

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit
    from analysis.frontiers.frontier import Frontier

NUM_BUDGETS, BEYOND_RUNS = 9, 10.0
"""Budgets of a frontier where none are named: from the smallest C fitted to this many times the largest."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def parametric_frontier(
    fit: Fit,
    flops: ArrayLike | None = None,
    *,
    flops_per_token: FlopsPerToken | None = None,
    convention: str | None = None,
) -> Frontier:
    """N_opt, D_opt and L_opt of a fit, with intervals.

    Parameters
    ----------
    fit : Fit
        A law of params and tokens.
    flops : array, shape (m,), optional
        C of each budget; by default nine from the smallest to ten times the largest C fitted.
    flops_per_token : callable, optional
        N -> training FLOPs per token along the ladder of shapes (see `ladder`); 6 N by default.
    convention : str, optional
        How C is counted, for the output; "6ND" or "counted" by default.

    Returns
    -------
    Frontier
        The points and the exponents.

    Raises
    ------
    UserError
        When the law is not one of params and tokens, or a budget is not above zero.
    """
    from analysis.frontiers.frontier import Frontier

    law = fit.law
    if fit.frontier_estimates is None or not supports_frontier(law):
        raise UserError(f"{law.name} is no law of params and tokens, so it has no compute-optimal frontier")
    low, high = fit.frontier_estimates.flops_range
    if flops is None:
        grid = np.geomspace(low, BEYOND_RUNS * high, NUM_BUDGETS)
    else:
        grid = np.atleast_1d(np.asarray(flops, dtype=np.float64))
    if not (np.isfinite(grid) & (grid > 0)).all():
        raise UserError("budgets must be finite and above zero")
    near = neighbourhood(fit)
    middle, about = (optimum(law, at, np.log(grid), flops_per_token or six_n) for at in (near.centre, near.about))
    span = (math.log(low), math.log(high))
    slopes, drawn = (exponents(law, at, span, flops_per_token) for at in (near.centre, near.about))
    reason = frontier_reason(fit)
    a, b = (near.estimate(float(one[0]), many) for one, many in zip(slopes, drawn, strict=True))
    if reason is not None:
        a, b = (Estimate(value=one.value, level=fit.level, reason=reason) for one in (a, b))
    points = _points(near, grid, middle, about)
    line = line_draws = None
    if flops_per_token is None and law.frontier_exponent(near.centre) is not None:
        anchor = float(np.log(grid[0]))
        first = _lines(middle, slopes, anchor)[0]
        line = (float(first[0]), float(first[1]), float(first[2]), float(first[3]))
        line_draws = _lines(about, drawn, anchor) if near.has_draws and reason is None else None
    return Frontier(
        method=f"parametric {law.name}",
        convention=convention or (SIX_ND if flops_per_token is None else COUNTED),
        a=a,
        b=b,
        points=_without_intervals(points) if reason is not None else points,
        line=line,
        line_draws=line_draws,
        level=fit.level,
        warnings=tuple(fit.warnings),
    )


def _without_intervals(points: pd.DataFrame) -> pd.DataFrame:
    """The points of a frontier that the runs do not identify."""
    ends = [name for name in points.columns if name.endswith(("_lo", "_hi"))]
    return points.assign(**dict.fromkeys(ends, math.nan))


def _lines(optima: tuple[Array, Array, Array], slopes: tuple[Array, Array], anchor: float) -> Array:
    """(ln k_N, a, ln k_D, b) of the power laws through the optima of the first budget, shape (B, 4)."""
    (log_n, log_d, _), (a, b) = optima, slopes
    return np.stack([log_n[:, 0] - a * anchor, a, log_d[:, 0] - b * anchor, b], axis=1)


def _points(
    near: Neighbourhood, grid: Array, middle: tuple[Array, Array, Array], about: tuple[Array, Array, Array]
) -> pd.DataFrame:
    """N, D and loss at each budget with their intervals.

    Intervals are taken in logarithms; losses of a law that may be negative are taken as they are.
    """
    import pandas as pd

    positive = bool((middle[2] > 0).all())
    points: dict[str, Array] = {"flops": grid}
    for name, value, values in zip(("params", "tokens", "loss"), middle, about, strict=True):
        logs = name != "loss" or positive
        if name == "loss" and positive:
            value, values = np.log(value), np.log(np.maximum(values, 1e-300))
        lo, hi = near.ends(value[0], values)
        for end, number in (("", value[0]), ("_lo", lo), ("_hi", hi)):
            points[f"{name}{end}"] = np.asarray(np.exp(number) if logs else number)
    return pd.DataFrame(points)
