"""Approach 1: the envelope of loss over compute of decayed end points, and the size that reaches it.

Owns which points may enter (end points of decayed runs; mid-run points only when allowed), the interpolation of
each size's end points over compute, and the power laws through the winning sizes. It must not know IsoFLOP minima
or laws.

Hoffmann et al. 2022, approach 1, take for each of 1,500 values of C the run with the lowest loss, over whole training
curves. A point in mid-run has not decayed its learning rate and overstates the loss of a run that stops there, so
here a size's curve goes through its decayed end points at nested budgets alone (log loss is interpolated over log
C), and C is counted only where the winner is neither the smallest nor the largest size that was trained there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.spec import DrawOptions, FitSpec, spec_from
from analysis.frontiers.frontier import Frontier, fit_line, fit_lines
from analysis.runs.budgets import BUDGET_TOLERANCE
from analysis.runs.conventions import flops_convention
from analysis.runs.roles import undecayed_rows
from analysis.runs.table import RunTable
from analysis.uncertainty.bootstrap import bootstrap_rows

NUM_GRID = 96
"""Values of C, evenly spaced in log C, at which the envelope is taken."""
NUM_DRAWS = 1000
"""Draws of an interval where none are named."""
MIN_SHARE = 0.5
"""Share of the draws that must have a winner where the envelope has an interval."""


@dataclass(frozen=True, kw_only=True)
class _Envelope:
    """The winner at every value of the grid, each of shape (m,); NaN where fewer than two sizes were trained."""

    log_params: Array
    log_tokens: Array
    log_loss: Array
    interior: NDArray[np.bool_]


def fit_envelope(
    table: RunTable,
    spec: FitSpec | None = None,
    *,
    allow_undecayed: bool = False,
    **options: Unpack[DrawOptions],
) -> Frontier:
    """The lower envelope over compute and the power laws of its winners.

    Parameters
    ----------
    table : RunTable
        Runs with params, flops, tokens and a positive loss.
    spec : FitSpec, optional
        Draws over runs (1,000 by default), clusters of rows that are drawn together, level and seed; the rest has no
        part in it.
    allow_undecayed : bool
        Whether points in mid-run may enter; the frontier then carries a warning.
    **options
        Fields of the FitSpec by keyword; they go before those of `spec`.

    Returns
    -------
    Frontier
        The envelope on a grid of compute, and its exponents.

    Raises
    ------
    UserError
        When losses are not positive or no decayed end point is left.
    """
    spec = spec_from(spec, options, bootstrap=NUM_DRAWS)
    if not bool((table.frame["loss"] > 0).all()):
        raise UserError("the envelope interpolates log losses, which must be positive; leave the rows out with --where")
    keep, warnings = _end_points(table.frame, allow_undecayed)
    frame, labels = table.frame[keep], spec.cluster_labels(table.frame)
    if len(frame) < 2:
        raise UserError(
            "fewer than two decayed end points; give finished runs, or fit mid-run ones with --allow-undecayed"
        )
    log_c = np.log(frame["flops"].to_numpy(dtype=float))
    grid = np.linspace(log_c.min(), log_c.max(), NUM_GRID)
    sizes = _Sizes(frame, grid)
    whole = sizes.envelope(np.ones(len(frame)))
    cluster = None if labels is None else labels[keep.to_numpy(dtype=bool)]
    weights = bootstrap_rows(len(frame), spec.bootstrap, rng=spec.generator, cluster=cluster)
    draws = [sizes.envelope(weight) for weight in weights]
    reason = None if draws else "no draws were asked for"
    winners = int(np.unique(np.round(whole.log_params[whole.interior], 9)).size)
    if winners < 2:
        reason = f"{winners} size(s) win between smaller and larger ones; an exponent needs two"
        warnings.append(f"envelope: {reason}")
    line = (*_line(grid, whole, "log_params"), *_line(grid, whole, "log_tokens"))
    line_draws = None if reason is not None else _line_draws(grid, draws)
    fitted_mid_run = allow_undecayed and bool(undecayed_rows(table.frame).any())
    return Frontier(
        method="envelope" + (" with mid-run points" if fitted_mid_run else ""),
        convention=flops_convention(table.conventions),
        a=_exponent(line[1], line_draws, 1, spec.level, reason),
        b=_exponent(line[3], line_draws, 3, spec.level, reason),
        points=_points(grid, whole, draws, spec.level),
        line=line if math.isfinite(line[0]) else None,
        line_draws=line_draws,
        level=spec.level,
        warnings=tuple(warnings),
    )


def _end_points(frame: pd.DataFrame, allow_undecayed: bool) -> tuple[pd.Series, list[str]]:
    """The rows that may enter, and what the reader should know about those in mid-run."""
    mid_run = undecayed_rows(frame)
    count = int(mid_run.sum())
    if not count:
        return ~mid_run, []
    if allow_undecayed:
        text = f"{count} points in mid-run are fitted: their loss is that of an undecayed learning rate"
        return mid_run | True, [text]
    return ~mid_run, [f"{count} points in mid-run left out (--allow-undecayed fits them, flagged)"]


def _line(grid: Array, envelope: _Envelope, name: str) -> tuple[float, float]:
    """Intercept and slope through the winners that lie between smaller and larger sizes."""
    return fit_line(grid, np.where(envelope.interior, getattr(envelope, name), math.nan))


def _line_draws(grid: Array, draws: Sequence[_Envelope]) -> Array:
    """The two lines of every draw, shape (draws, 4); NaN where fewer than two sizes win."""
    params, tokens = (
        np.array([np.where(one.interior, getattr(one, name), math.nan) for one in draws])
        for name in ("log_params", "log_tokens")
    )
    lines = np.hstack([fit_lines(grid, params), fit_lines(grid, tokens)])
    distinct = np.array([np.unique(row[np.isfinite(row)].round(9)).size for row in params])
    lines[distinct < 2] = math.nan
    return lines


def _exponent(value: float, line_draws: Array | None, column: int, level: float, reason: str | None) -> Estimate:
    if line_draws is None:
        return Estimate(value=value, level=level, reason=reason)
    return Estimate.from_draws(value, line_draws[:, column], level=level)


class _Sizes:
    """The end points of every size as nodes over compute, prepared once for all draws."""

    def __init__(self, frame: pd.DataFrame, grid: Array) -> None:
        log_n, log_d, log_c, self.log_l = (
            np.log(frame[name].to_numpy(dtype=float)) for name in ("params", "tokens", "flops", "loss")
        )
        self.grid = grid
        self.sizes, size = np.unique(np.round(log_n, 9), return_inverse=True)
        pairs, self.node = np.unique(np.column_stack([size, np.round(log_c, 9)]), axis=0, return_inverse=True)
        self.node_size = pairs[:, 0].astype(int)
        self.compute = pairs[:, 1]
        edges = np.searchsorted(self.node_size, np.arange(self.sizes.size + 1))
        self.slices = [slice(int(low), int(high)) for low, high in pairwise(edges)]
        log_d_node = np.bincount(self.node, weights=log_d) / np.bincount(self.node)
        self.tokens = np.array([np.interp(grid, self.compute[part], log_d_node[part]) for part in self.slices])

    def envelope(self, weight: Array) -> _Envelope:
        """The winning size at every C of the grid, over the rows that were drawn at least once."""
        grid, reach = self.grid, math.log1p(BUDGET_TOLERANCE)
        node_weight = np.bincount(self.node, weights=weight)
        with np.errstate(invalid="ignore"):
            node_loss = np.bincount(self.node, weights=weight * self.log_l) / node_weight
        losses = np.full((self.sizes.size, grid.size), math.inf)
        for index, part in enumerate(self.slices):
            drawn = node_weight[part] > 0
            if not drawn.any():
                continue
            compute = self.compute[part][drawn]
            low, high = np.searchsorted(grid, (compute[0] - reach, compute[-1] + reach))
            losses[index, low:high] = np.interp(grid[low:high], compute, node_loss[part][drawn])
        best = losses.argmin(axis=0)
        columns = np.arange(grid.size)
        trained = np.isfinite(losses)
        first = trained.argmax(axis=0)
        last = self.sizes.size - 1 - trained[::-1].argmax(axis=0)
        some = trained.sum(axis=0) >= 2
        return _Envelope(
            log_params=np.where(some, self.sizes[best], math.nan),
            log_tokens=np.where(some, self.tokens[best, columns], math.nan),
            log_loss=np.where(some, losses[best, columns], math.nan),
            interior=some & (best > first) & (best < last),
        )


def _points(grid: Array, whole: _Envelope, draws: Sequence[_Envelope], level: float) -> pd.DataFrame:
    """The envelope on the grid with percentile intervals of the draws, where enough of them have a winner."""
    out: dict[str, NDArray[np.float64] | NDArray[np.bool_]] = {"flops": np.exp(grid), "bracketed": whole.interior}
    for name, attribute in (("params", "log_params"), ("tokens", "log_tokens"), ("loss", "log_loss")):
        out[name] = np.exp(getattr(whole, attribute))
        lo, hi = np.full(grid.size, math.nan), np.full(grid.size, math.nan)
        stack = np.array([getattr(one, attribute) for one in draws])
        enough = np.isfinite(stack).mean(axis=0) >= MIN_SHARE if draws else np.zeros(grid.size, dtype=bool)
        if bool(enough.any()):
            lo[enough], hi[enough] = np.exp(
                np.nanquantile(stack[:, enough], [(1 - level) / 2, (1 + level) / 2], axis=0)
            )
        out[f"{name}_lo"], out[f"{name}_hi"] = lo, hi
    frame = pd.DataFrame(out)
    return frame[frame["params"].notna()].reset_index(drop=True)
