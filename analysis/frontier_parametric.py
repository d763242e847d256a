"""Approach 3's frontier along the table's own shapes: N_opt, D_opt and L_opt of a fitted law by compute as the
table counts it.

Under 6ND this is the closed form; under counted FLOPs the loss is minimised over N with D given by `Shapes`. It
must not know how the law was fitted.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fit import Fit
from analysis.frontier import Frontier, fit_line, fit_lines
from analysis.laws.base import Law
from analysis.shapes import Shapes

NUM_SIZES = 240
"""Sizes at which the loss is evaluated along each budget; the minimum is refined by a parabola through three of
them."""
MAX_DRAWS = 400
"""Most bootstrap draws whose frontier is traced, evenly chosen."""


def optima(law: Law, theta: NDArray[np.float64], shapes: Shapes, flops: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln N, ln D and L at the optimum, shape (3, draws, budgets), for public parameters (draws, p); NaN where none
    is interior.

    Sizes are searched from 1/1000 of the table's smallest to 1000 times its largest.
    """
    log_n = np.linspace(shapes.log_params[0] - math.log(1e3), shapes.log_params[-1] + math.log(1e3), NUM_SIZES)
    out = np.full((3, len(theta), flops.size), math.nan)
    for index, compute in enumerate(flops):
        x = {"params": np.exp(log_n), "tokens": shapes.tokens(compute, np.exp(log_n))}
        loss = np.broadcast_to(law.value([column[:, None] for column in theta.T], x), (len(theta), NUM_SIZES))
        best = loss.argmin(axis=1)
        inside = (best > 0) & (best < NUM_SIZES - 1)
        middle = np.clip(best, 1, NUM_SIZES - 2)
        rows = np.arange(len(theta))
        left, centre, right = (loss[rows, middle + step] for step in (-1, 0, 1))
        bend = left - 2 * centre + right
        with np.errstate(invalid="ignore", divide="ignore"):
            shift = np.where(inside & (bend > 0), (left - right) / (2 * bend), math.nan)
        place = log_n[middle] + shift * (log_n[1] - log_n[0])
        finite = np.isfinite(place)
        out[0, :, index] = place
        out[1, finite, index] = np.log(shapes.tokens(compute, np.exp(place[finite])))
        out[2, :, index] = centre - (left - right) ** 2 / (8 * np.where(bend > 0, bend, math.nan))
    return out


def parametric_frontier(
    fit: Fit, shapes: Shapes, flops: ArrayLike, *, convention: str, fitted_range: tuple[float, float]
) -> Frontier:
    """The frontier of `fit` at `flops`, with intervals from its draws.

    Parameters
    ----------
    fit : a law of params and tokens.
    shapes : FLOPs per token by size.
    flops : compute at which points are wanted.
    convention : how the table counts compute.
    fitted_range : compute over which the exponents are taken (least squares of ln N_opt on ln C).
    """
    if not set(fit.law.inputs) <= {"params", "tokens"}:
        raise UserError(
            f"{fit.law.name} has no frontier over params and tokens: its inputs are {', '.join(fit.law.inputs)}"
        )
    grid = np.atleast_1d(np.asarray(flops, dtype=float))
    span = np.geomspace(*fitted_range, 9) if fitted_range[1] > fitted_range[0] else np.array(fitted_range)
    both = np.concatenate([grid, span])
    theta = np.array([[fit.params[name] for name in fit.law.param_names]])
    draws = fit.draws
    if draws is not None and len(draws) > MAX_DRAWS:
        draws = draws[np.linspace(0, len(draws) - 1, MAX_DRAWS).round().astype(int)]
    every = theta if draws is None else np.concatenate([theta, draws])
    traced = optima(fit.law, every, shapes, both)
    points, ends = traced[:, :, : grid.size], traced[:, :, grid.size :]
    calibration = fit.predictor.calibration
    frame = pd.DataFrame({"flops": grid})
    for index, name in enumerate(("params", "tokens", "loss")):
        values = points[index] if name != "loss" else np.log(points[index])
        frame[name] = np.exp(values[0])
        lo = hi = np.full(grid.size, math.nan)
        if len(values) > 20:
            enough = np.isfinite(values[1:]).mean(axis=0) > 0.5
            lo, hi = np.full(grid.size, math.nan), np.full(grid.size, math.nan)
            if bool(enough.any()):
                lower, upper = calibration.interval(values[0, enough], values[1:, enough])
                lo[enough], hi[enough] = np.exp(lower), np.exp(upper)
        frame[f"{name}_lo"], frame[f"{name}_hi"] = lo, hi
    estimates = []
    lines = [fit_line(np.log(span), ends[index][0]) for index in (0, 1)]
    for index in (0, 1):
        slopes = fit_lines(np.log(span), ends[index][1:])[:, 1] if draws is not None else np.array([])
        if slopes.size and bool(np.isfinite(slopes).mean() > 0.5):
            estimates.append(calibration.estimate(lines[index][1], slopes))
        else:
            why = "no draws were asked for" if draws is None else "most draws have no interior optimum"
            estimates.append(Estimate(value=lines[index][1], level=fit.level, reason=why))
    return Frontier(
        method=f"parametric {fit.law.name}",
        convention=convention,
        a=estimates[0],
        b=estimates[1],
        points=frame,
        line=(*lines[0], *lines[1]) if math.isfinite(lines[0][1]) else None,
        level=fit.level,
        warnings=fit.warnings,
    )
