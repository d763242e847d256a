"""Approach 3: the compute-optimal frontier that a fitted law of params and tokens implies.

Under C = 6 N D the exponents are in closed form where the law has one, else by minimisation along each budget. Under
counted FLOPs the minimum is found along a ladder of shapes: any function from N to training FLOPs per token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.laws.base import Law
from analysis.prediction import Predictor

if TYPE_CHECKING:
    from analysis.fit import Fit
    from analysis.frontier import Frontier

Array = NDArray[np.float64]
FlopsPerToken = Callable[[Array], Array]
"""Training FLOPs per token of a model with N parameters, along the ladder; 6 N is the usual rule."""

GOLDEN = float((np.sqrt(5.0) - 1) / 2)
"""Golden section."""
SIZES = (1e3, 1e15)
"""Smallest and largest N that is looked at."""


def six_n(params: Array) -> Array:
    """C = 6 N D."""
    return 6.0 * params


def ladder(params: ArrayLike, flops_per_token: ArrayLike) -> FlopsPerToken:
    """FLOPs per token between the shapes of a ladder: straight lines in the logarithms, continued at both ends.

    Parameters
    ----------
    params : N of each shape, ascending, at least two
    flops_per_token : counted training FLOPs per token of each shape, ascending
    """
    x, y = np.log(np.asarray(params, dtype=np.float64)), np.log(np.asarray(flops_per_token, dtype=np.float64))
    if x.size < 2 or x.size != y.size or not ((np.diff(x) > 0).all() and (np.diff(y) > 0).all()):
        raise UserError("a ladder needs two shapes or more, with params and FLOPs per token both ascending")

    def at(n: Array) -> Array:
        log_n = np.log(n)
        inside = np.interp(log_n, x, y)
        below = np.minimum(log_n - x[0], 0.0) * (y[1] - y[0]) / (x[1] - x[0])
        above = np.maximum(log_n - x[-1], 0.0) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        return np.asarray(np.exp(inside + below + above))

    return at


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # far from the data a loss may be infinite
def optimum(
    law: Law, theta: Array, log_flops: Array, flops_per_token: FlopsPerToken = six_n
) -> tuple[Array, Array, Array]:
    """log N, log D and loss at the optimum for every draw and budget, each of shape (B, m); golden section in log N.

    Parameters
    ----------
    theta : public parameters, shape (B, p)
    log_flops : log C, shape (m,), or (B, m) when every draw has budgets of its own
    """
    columns = [theta[:, [j]] for j in range(theta.shape[1])]
    shape = np.broadcast_shapes((theta.shape[0], 1), log_flops.shape)

    def at(log_n: Array) -> tuple[Array, Array]:
        params = np.exp(log_n)
        log_d = log_flops - np.log(flops_per_token(params))
        loss = law.value(columns, {"params": params, "tokens": np.exp(log_d)})
        return log_d, np.broadcast_to(np.where(np.isnan(loss), np.inf, loss), shape)

    lo, hi = np.full(shape, np.log(SIZES[0])), np.full(shape, np.log(SIZES[1]))
    inner, outer = hi - GOLDEN * (hi - lo), lo + GOLDEN * (hi - lo)
    f_inner, f_outer = at(inner)[1], at(outer)[1]
    for _ in range(52):
        left = f_inner < f_outer
        lo, hi = np.where(left, lo, inner), np.where(left, outer, hi)
        new_inner, new_outer = hi - GOLDEN * (hi - lo), lo + GOLDEN * (hi - lo)
        fresh = at(np.where(left, new_inner, new_outer))[1]
        f_inner, f_outer = np.where(left, fresh, f_outer), np.where(left, f_inner, fresh)
        inner, outer = new_inner, new_outer
    middle = 0.5 * (lo + hi)
    log_d, loss = at(middle)
    return middle, log_d, np.array(loss)


def exponents(
    law: Law, theta: Array, log_flops: tuple[float, float], flops_per_token: FlopsPerToken | None = None
) -> tuple[Array, Array]:
    """a = d log N_opt / d log C and b = d log D_opt / d log C for every draw (B,): closed form, or the slope between
    two budgets."""
    closed = law.frontier_exponent(theta) if flops_per_token is None else None
    if closed is not None:
        return closed, 1.0 - closed
    first, last = log_flops
    if last - first < 0.5:
        first, last = 0.5 * (first + last) - 0.25, 0.5 * (first + last) + 0.25
    log_n, log_d, _ = optimum(law, theta, np.array([first, last]), flops_per_token or six_n)
    return (log_n[:, 1] - log_n[:, 0]) / (last - first), (log_d[:, 1] - log_d[:, 0]) / (last - first)


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

    from analysis.frontier import Frontier

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


def supports_frontier(law: Law) -> bool:
    """Whether the law is a loss of params and tokens alone."""
    return law.target == "loss" and set(law.inputs) == {"params", "tokens"}


def frontier_summary(law: Law, predictor: Predictor, log_flops: Array) -> dict[str, Any] | None:
    """The `frontier` object of the JSON: a and b under C = 6 N D with intervals, and the range of C fitted."""
    if not supports_frontier(law):
        return None
    span = (float(log_flops.min()), float(log_flops.max()))
    centre, sample, weight = _samples(law, predictor)
    (a, b), (a_draws, b_draws) = exponents(law, centre, span), exponents(law, sample, span)
    return {
        "convention": "6ND",
        "a": _estimate(predictor, float(a[0]), a_draws, weight).to_dict(),
        "b": _estimate(predictor, float(b[0]), b_draws, weight).to_dict(),
        "flops_range": [float(np.exp(span[0])), float(np.exp(span[1]))],
    }


def _samples(law: Law, predictor: Predictor) -> tuple[Array, Array, Array | None]:
    """Public parameters at the estimate (1, p) and of the draws (B, p); without draws, both ends of the covariance's
    axes."""
    centre = law.to_public(predictor.phi[None, :], predictor.log_refs)
    if predictor.draws is not None:
        return centre, law.to_public(predictor.draws, predictor.log_refs), None
    eigenvalues, vectors = np.linalg.eigh(predictor.covariance)
    length = np.sqrt(np.maximum(eigenvalues, 0.0))
    step = np.minimum(length, 1e-4 * np.maximum(length.max(), 1e-12)) + 1e-12
    moved = np.concatenate([predictor.phi + (vectors * step).T, predictor.phi - (vectors * step).T])
    return centre, law.to_public(moved, predictor.log_refs), length / step


def _standard_error(draws: Array, weight: Array) -> Array:
    half = weight.size
    slope = (draws[:half] - draws[half:]) / 2
    return np.asarray(np.sqrt(((slope.T * weight) ** 2).sum(axis=-1)))


def _ends(predictor: Predictor, value: Array, draws: Array, weight: Array | None) -> tuple[Array, Array]:
    if weight is None:
        return predictor.calibration.interval(value, draws)
    half = predictor.calibration.half_width(_standard_error(draws, weight))
    return value - half, value + half


def _estimate(predictor: Predictor, value: float, draws: Array, weight: Array | None) -> Estimate:
    if weight is None:
        return predictor.calibration.estimate(value, draws)
    se = _standard_error(draws[:, None], weight)
    half = float(predictor.calibration.half_width(se)[0])
    return Estimate(value=value, lo=value - half, hi=value + half, se=float(se[0]), level=predictor.level)
