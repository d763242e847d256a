"""The best rate of every cell of a ladder, from few runs in each: quadratics in log rate whose optima follow a law.

In a cell (one shape, one token budget, one batch) log loss is l + k u^2 / 2 + s u^3 near its least value, u = log rate
less that of the best rate. The best rate is a power of the cell's N, D and batch, times a deviation of the cell's own,
whose size is estimated too, so that a cell with few runs borrows from the others. It must not know files or sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import nnls

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.paired.cells import Cells

WINDOW = 0.03
"""Runs whose log loss lies farther above the least of their cell are left out: there the loss is no quadratic."""
SKEWED = 12.0
"""Curvature over the standard deviation of the third-order term before the runs are seen: in a decade of rates either
side of the best one, one side then rises up to a third faster than the other."""
TYPICAL_NOISE, GUESSED = 0.001, 5.0
"""Standard deviation of log losses between seeds as it usually is, and how many runs that guess counts: cells of three
runs each cannot tell noise from curvatures that differ."""
MIN_RUNS = 3
"""Fewest runs in a window that tell a cell's curvature."""
ROUNDS = 30
"""Most passes between cells and what they share."""
LEAST_SD = 0.02
"""Least standard deviation of a cell's own deviation from a law."""
FIRST_SPREAD, FIRST_BEND, FIRST_NOISE, FIRST_MISFIT = 2.0, 0.7, 0.003, 0.1
"""Standard deviations with which the passes begin: of a cell's log rate about the law, of its log curvature, of log
losses, and of what a curve misses as a share of the rise."""
Edge = Literal["low", "high"]
"""Which end of the rates that were tried."""


@dataclass(frozen=True, kw_only=True)
class TunedCell:
    """What is known of one cell."""

    rate: Estimate
    """The best rate."""
    loss: Estimate
    """Loss at the best rate, in nats per token."""
    num_runs: int
    """Runs that were made in it."""
    edge: Edge | None
    """"low" or "high" where the best run has the lowest or the highest rate that was tried; None inside."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The best rates of all cells, and their law."""

    cells: tuple[TunedCell, ...]
    """In the order of the covariates."""
    log_rates: Array
    """Log of the best rate of every cell, shape (m,); the law's where a cell has no run."""
    exponents: Mapping[str, Estimate]
    """Power of each covariate in the law of the best rate."""
    coefficient: float
    """The law's factor: rate = coefficient * product of covariate**exponent."""
    spread: float
    """Standard deviation of a cell's log rate about the law."""
    noise: float
    """Standard deviation of log losses about the quadratics."""
    curvature: float
    """k at the middle cell: a rate off by a factor e costs k / 2 of the loss."""


@dataclass
class _State:
    """Every cell's level, place (log of its best rate) and bend (log curvature), and the laws of the last two."""

    theta: Array
    """Level, place and bend of every cell, shape (m, 3)."""
    covariance: Array
    """Of these, shape (m, 3, 3)."""
    laws: Array
    """Coefficients of place and bend on a constant and the covariates, shape (2, 1 + p)."""
    law_covariance: Array
    """Of the coefficients of place."""
    spreads: Array
    """Standard deviations of a cell's place and bend about their laws, shape (2,)."""
    noise: float
    """Standard deviation of log losses about the cells' curves, at the best rate."""
    misfit: float
    """What a curve misses, as a share of the rise above the least loss."""
    skew: float
    """Third-order term that all cells share."""
    skew_variance: float
    """How well it is known."""


def tune(cells: Cells, *, level: float = 0.95) -> Tuned:
    """Estimate every cell's best rate and the law that they follow.

    Parameters
    ----------
    cells : Cells
        The runs.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Tuned
        Rates and losses with intervals, the law, and cells whose best run lies at an edge.

    Raises
    ------
    UserError
        When no cell has three runs.
    """
    windows = _windows(cells)
    state = _begin(cells, windows)
    for _ in range(ROUNDS):
        before = state.theta[:, 1].copy()
        _solve_cells(cells, windows, state)
        _share(cells, windows, state)
        if float(np.abs(state.theta[:, 1] - before).max()) < 1e-4:
            break
    return _result(cells, windows, state, level)


def _windows(cells: Cells) -> list[NDArray[np.intp]]:
    """Rows of every cell near its least loss; never fewer than the three best."""
    out = []
    for c in range(cells.num_cells):
        rows = np.flatnonzero(cells.cell == c)
        if rows.size:
            order = rows[np.argsort(cells.log_loss[rows], kind="stable")]
            near = cells.log_loss[order] <= cells.log_loss[order[0]] + WINDOW
            near[:MIN_RUNS] = True
            order = order[near]
            best = cells.log_rate[order[0]]
            rows = order[np.abs(cells.log_rate[order] - best) < 2.2]
        out.append(rows)
    return out


def _begin(cells: Cells, windows: list[NDArray[np.intp]]) -> _State:
    """Quadratics of the cells with three runs or more, and the law through their optima."""
    bends, places = [], np.full(cells.num_cells, np.nan)
    for c, rows in enumerate(windows):
        x, y = cells.log_rate[rows], cells.log_loss[rows]
        if rows.size >= MIN_RUNS:
            second, first, _ = np.polyfit(x, y, 2)
            if second > 0:
                bends.append(2 * second)
                places[c] = np.clip(-first / (2 * second), x.min() - 0.7, x.max() + 0.7)
        if rows.size and np.isnan(places[c]):
            places[c] = x[np.argmin(y)]
    if not bends:
        raise UserError(
            "no cell has its lowest loss among three rates or more; give some cell more rates, or rates farther apart"
        )
    known = np.isfinite(places)
    design = cells.design()
    law = np.linalg.lstsq(design[known], places[known], rcond=None)[0]
    bend = math.log(float(np.median(bends)))
    levels = np.array([cells.log_loss[rows].min() if rows.size else np.nan for rows in windows])
    size = cells.num_cells
    return _State(
        theta=np.stack([levels, np.where(known, places, design @ law), np.full(size, bend)], axis=1),
        covariance=np.tile(np.eye(3), (size, 1, 1)),
        laws=np.stack([law, np.array([bend, *[0.0] * cells.covariates.shape[1]])]),
        law_covariance=np.zeros((law.size, law.size)),
        spreads=np.array([FIRST_SPREAD, FIRST_BEND]),
        noise=FIRST_NOISE,
        misfit=FIRST_MISFIT,
        skew=0.0,
        skew_variance=0.0,
    )


def _curve(state: _State, x: Array, theta: Array) -> tuple[Array, Array]:
    """What a cell's curve says at log rates, and its derivatives by level, place and bend, shape (n, 3)."""
    u = np.clip(x - theta[1], -2.5, 2.5)
    bend = math.exp(theta[2])
    value = theta[0] + bend * u**2 / 2 + state.skew * u**3
    return value, np.stack([np.ones_like(u), -bend * u - 3 * state.skew * u**2, bend * u**2 / 2], axis=1)


def _variances(state: _State, y: Array) -> Array:
    """Variance of each log loss about its curve: noise, and a share of how far it lies above the least."""
    return np.asarray(state.noise**2 + (state.misfit * (y - y.min())) ** 2)


def _solve_cells(cells: Cells, windows: list[NDArray[np.intp]], state: _State) -> None:
    """Level, place and bend of every cell, given what all share."""
    wanted = cells.design() @ state.laws.T
    prior = np.diag([1e-9, *(1 / state.spreads**2)])
    for c, rows in enumerate(windows):
        middle = np.array([state.theta[c, 0], *wanted[c]])
        if not rows.size:
            state.theta[c], state.covariance[c] = middle, np.diag([np.nan, *state.spreads**2])
            continue
        x, y, theta = cells.log_rate[rows], cells.log_loss[rows], state.theta[c].copy()
        matrix, weight = prior, 1 / _variances(state, y)
        for _ in range(15):
            value, slopes = _curve(state, x, theta)
            matrix = slopes.T @ (weight[:, None] * slopes) + prior
            right = slopes.T @ (weight * (y - value)) - prior @ (theta - middle)
            step = np.linalg.solve(matrix, right)
            theta = theta + np.clip(step, -0.4, 0.4)
            if float(np.abs(step).max()) < 1e-7:
                break
        inverse = np.linalg.inv(matrix)
        pull = inverse @ (slopes.T @ (weight * np.clip(x - theta[1], -2.5, 2.5) ** 3))
        state.theta[c] = theta
        state.covariance[c] = inverse + state.skew_variance * np.outer(pull, pull)


def _share(cells: Cells, windows: list[NDArray[np.intp]], state: _State) -> None:
    """Skew, noise and the laws of place and bend with their spreads, given the cells (an EM step)."""
    used = np.array([c for c, rows in enumerate(windows) if rows.size])
    design = cells.design()
    parts, top, bottom = [], 0.0, 1e-12
    for c in used:
        x, y = cells.log_rate[windows[c]], cells.log_loss[windows[c]]
        value, slopes = _curve(state, x, state.theta[c])
        variance, residual = _variances(state, y), y - value
        kept = 1 - np.einsum("ni,ij,nj->n", slopes, state.covariance[c], slopes) / variance
        parts.append(np.stack([residual**2, np.clip(kept, 0.0, 1.0), (y - y.min()) ** 2]))
        weighted = slopes / np.sqrt(variance)[:, None]
        cubic = np.clip(x - state.theta[c, 1], -2.5, 2.5) ** 3 / np.sqrt(variance)
        apart = cubic - weighted @ np.linalg.pinv(weighted) @ cubic
        top, bottom = top + float(apart @ (residual / np.sqrt(variance))), bottom + float(apart @ apart)
    squared, kept, rise = np.concatenate(parts, axis=1)
    weight = 1 / (state.noise**2 + state.misfit**2 * rise) ** 2
    columns = np.stack([kept, kept * rise], axis=1) * np.sqrt(weight)[:, None]
    found = nnls(columns, squared * np.sqrt(weight))[0]
    known = float(kept.sum())
    state.noise = math.sqrt((known * float(found[0]) + GUESSED * TYPICAL_NOISE**2) / (known + GUESSED))
    state.misfit = float(np.clip(math.sqrt(float(found[1])), 0.0, 1.0))
    bottom += (SKEWED / math.exp(float(np.median(state.theta[used, 2])))) ** 2
    top -= state.skew * (SKEWED / math.exp(float(np.median(state.theta[used, 2])))) ** 2
    state.skew, state.skew_variance = state.skew + top / bottom, 1 / bottom
    for k, least in enumerate((LEAST_SD, LEAST_SD)):
        places, own = state.theta[used, 1 + k], state.covariance[used, 1 + k, 1 + k]
        information = np.maximum(1 / own - 1 / state.spreads[k] ** 2, 1e-9)  # what the cell's own runs say
        law = design[used] @ state.laws[k]
        raw = law + (places - law) / (information * own)
        weight = 1 / (1 / information + state.spreads[k] ** 2)
        normal = design[used].T @ (weight[:, None] * design[used]) + 1e-9 * np.eye(design.shape[1])
        state.laws[k] = np.linalg.solve(normal, design[used].T @ (weight * raw))
        if k == 0:
            state.law_covariance = np.linalg.inv(normal)
        off = places - design[used] @ state.laws[k]
        state.spreads[k] = float(
            np.clip(math.sqrt(float((off**2 + own).sum()) / max(used.size - design.shape[1], 1)), least, FIRST_SPREAD)
        )


def _result(cells: Cells, windows: list[NDArray[np.intp]], state: _State, level: float) -> Tuned:
    """Rates, losses and the law with their intervals."""
    freedom = max(sum(rows.size for rows in windows) - 2 * sum(bool(rows.size) for rows in windows), 3)
    reach = float(stats.t.ppf((1 + level) / 2, freedom))
    extra = np.einsum("mi,ij,mj->m", cells.design(), state.law_covariance, cells.design())
    out = []
    for c, window in enumerate(windows):
        rows = np.flatnonzero(cells.cell == c)
        sd = math.sqrt(state.covariance[c, 1, 1] + (0.0 if window.size else extra[c]))
        ends = (float(state.theta[c, 1]) + sign * reach * sd for sign in (-1, 1))
        lo, hi = (math.exp(end) for end in ends)
        rate = Estimate(value=math.exp(float(state.theta[c, 1])), lo=lo, hi=hi, level=level)
        out.append(
            TunedCell(rate=rate, loss=_loss(state, c, reach, level), num_runs=rows.size, edge=_edge(cells, rows))
        )
    wide = float(stats.t.ppf((1 + level) / 2, max(cells.num_cells - 1 - len(cells.names), 1)))
    slopes, errors = state.laws[0, 1:], np.sqrt(np.diag(state.law_covariance))[1:]
    exponents = {
        name: Estimate(value=float(v), lo=float(v - wide * s), hi=float(v + wide * s), se=float(s), level=level)
        for name, v, s in zip(cells.names, slopes, errors, strict=True)
    }
    return Tuned(
        cells=tuple(out),
        log_rates=state.theta[:, 1].copy(),
        exponents=exponents,
        coefficient=math.exp(float(state.laws[0, 0] - slopes @ cells.means)),
        spread=float(state.spreads[0]),
        noise=state.noise,
        curvature=math.exp(float(state.laws[1, 0])),
    )


def _loss(state: _State, c: int, reach: float, level: float) -> Estimate:
    """Loss at the best rate of a cell."""
    if not math.isfinite(state.theta[c, 0]):
        return Estimate(value=math.nan, level=level, reason="the cell has no run")
    value, sd = math.exp(float(state.theta[c, 0])), math.sqrt(float(state.covariance[c, 0, 0]))
    lo, hi = value * math.exp(-reach * sd), value * math.exp(reach * sd)
    return Estimate(value=value, lo=lo, hi=hi, se=value * sd, level=level)


def _edge(cells: Cells, rows: NDArray[np.intp]) -> Edge | None:
    """Whether the best run has the lowest or the highest rate of its cell."""
    if not rows.size:
        return None
    rates, best = cells.log_rate[rows], cells.log_rate[rows[np.argmin(cells.log_loss[rows])]]
    if best <= rates.min() + 1e-9:
        return "low"
    return "high" if best >= rates.max() - 1e-9 else None
