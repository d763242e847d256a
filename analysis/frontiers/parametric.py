"""Approach 3: the compute-optimal frontier that a fitted law of params and tokens implies.

Under C = 6 N D the exponents are in closed form where the law has one, else by minimisation along each budget. Under
counted FLOPs the minimum is found along a ladder of shapes: any function from N to training FLOPs per token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from analysis.errors import UserError
from analysis.fitting.derived import _ends, _estimate, _samples
from analysis.laws.allocation import Array, FlopsPerToken, exponents, optimum, six_n, supports_frontier

if TYPE_CHECKING:
    from analysis.fitting.fit import Fit
    from analysis.frontiers.frontier import Frontier


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def parametric_frontier(
    fit: Fit,
    flops: ArrayLike | None = None,
    *,
    flops_per_token: FlopsPerToken | None = None,
    convention: str | None = None,
) -> Frontier:
    """N_opt, D_opt and L_opt of a fit at the budgets `flops`, with intervals.

    Parameters
    ----------
    flops : C of each budget; by default nine from the smallest to ten times the largest C fitted
    flops_per_token : N -> training FLOPs per token along the ladder of shapes (see `ladder`); 6 N by default
    convention : how C is counted, for the output; "6ND" or "counted" by default

    Raises
    ------
    UserError
        When the law is not one of params and tokens.
    """
    import pandas as pd

    from analysis.frontiers.frontier import Frontier

    law, predictor = fit.law, fit.predictor
    if fit.frontier_estimates is None or not supports_frontier(law):
        raise UserError(f"{law.name} is no law of params and tokens, so it has no compute-optimal frontier")
    low, high = fit.frontier_estimates["flops_range"]
    grid = np.geomspace(low, 10 * high, 9) if flops is None else np.atleast_1d(np.asarray(flops, dtype=np.float64))
    if not (np.isfinite(grid) & (grid > 0)).all():
        raise UserError("budgets must be finite and above zero")
    centre, sample, weight = _samples(law, predictor)
    span = (float(np.log(low)), float(np.log(high)))
    points: dict[str, Array] = {"flops": grid}
    middle = optimum(law, centre, np.log(grid), flops_per_token or six_n)
    spread = optimum(law, sample, np.log(grid), flops_per_token or six_n)
    for name, value, draws in zip(("params", "tokens", "loss"), middle, spread, strict=True):
        value, draws = (
            (np.log(value), np.log(np.maximum(draws, 1e-300)))
            if name == "loss" and (value > 0).all()
            else (value, draws)
        )
        lo, hi = _ends(predictor, value[0], draws, weight)
        back = np.exp if name != "loss" or (middle[2] > 0).all() else np.asarray
        points[name], points[f"{name}_lo"], points[f"{name}_hi"] = back(value[0]), back(lo), back(hi)
    a, b = exponents(law, centre, span, flops_per_token)
    a_draws, b_draws = exponents(law, sample, span, flops_per_token)
    line = draws_of_line = None
    if flops_per_token is None and law.frontier_exponent(centre) is not None:
        anchor = np.log(grid[0])
        line = (
            float(middle[0][0, 0] - a[0] * anchor),
            float(a[0]),
            float(middle[1][0, 0] - b[0] * anchor),
            float(b[0]),
        )
        draws_of_line = np.stack(
            [spread[0][:, 0] - a_draws * anchor, a_draws, spread[1][:, 0] - b_draws * anchor, b_draws], axis=1
        )
    return Frontier(
        method=f"parametric {law.name}",
        convention=convention or ("6ND" if flops_per_token is None else "counted"),
        a=_estimate(predictor, float(a[0]), a_draws, weight),
        b=_estimate(predictor, float(b[0]), b_draws, weight),
        points=pd.DataFrame(points),
        line=line,
        line_draws=draws_of_line,
        level=fit.level,
        warnings=tuple(w for w in fit.warnings),
    )
