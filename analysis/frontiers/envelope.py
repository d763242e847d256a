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
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.frontiers.frontier import Frontier, fit_line, fit_lines
from analysis.runs.budgets import BUDGET_TOLERANCE
from analysis.runs.roles import undecayed_rows
from analysis.runs.table import RunTable
from analysis.uncertainty.bootstrap import bootstrap_rows

NUM_GRID = 96
"""Values of C, evenly spaced in log C, at which the envelope is taken."""


@dataclass(frozen=True, kw_only=True)
class _Envelope:
    """The winner at every value of the grid; NaN where fewer than two sizes were trained."""

    log_params: NDArray[np.float64]
    log_tokens: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    interior: NDArray[np.bool_]


def fit_envelope(
    table: RunTable,
    *,
    allow_undecayed: bool = False,
    bootstrap: int = 1000,
    cluster: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Frontier:
    """The lower envelope over compute and the power laws of its winners.

    Parameters
    ----------
    table : runs with params, flops, tokens and a positive loss.
    allow_undecayed : let points in mid-run enter; the frontier then carries a warning.
    bootstrap : draws over runs; 0 for no intervals.
    cluster : column whose rows are drawn together (a training trunk).
    level : nominal coverage of the intervals.
    rng : generator of the draws; seed 0 by default.

    Raises
    ------
    UserError
        When losses are not positive or no decayed end point is left.
    """
    frame = table.frame
    if not bool((frame["loss"] > 0).all()):
        raise UserError("the envelope interpolates log losses, which must be positive; leave the rows out with --where")
    mid_run = undecayed_rows(frame)
    warnings = []
    if bool(mid_run.any()) and allow_undecayed:
        warnings.append(
            f"{int(mid_run.sum())} points in mid-run are fitted: their loss is that of an undecayed learning rate"
        )
    elif bool(mid_run.any()):
        warnings.append(f"{int(mid_run.sum())} points in mid-run left out (--allow-undecayed fits them, flagged)")
        frame = frame[~mid_run]
    if len(frame) < 2:
        raise UserError(
            "fewer than two decayed end points; give finished runs, or fit mid-run ones with --allow-undecayed"
        )
    log_c = np.log(frame["flops"].to_numpy(dtype=float))
    grid = np.linspace(log_c.min(), log_c.max(), NUM_GRID)
    sizes = _Sizes(frame, grid)
    whole = sizes.envelope(np.ones(len(frame)))
    generator = np.random.default_rng(0) if rng is None else rng
    labels = None if cluster is None else frame[cluster].to_numpy()
    weights = bootstrap_rows(len(frame), max(bootstrap, 0), rng=generator, cluster=labels)
    draws = [sizes.envelope(weight) for weight in weights]
    reason = None if draws else "no draws were asked for"
    lines = [
        fit_line(grid, np.where(whole.interior, values, math.nan)) for values in (whole.log_params, whole.log_tokens)
    ]
    winners = int(np.unique(np.round(whole.log_params[whole.interior], 9)).size)
    if winners < 2:
        reason = f"{winners} size(s) win between smaller and larger ones; an exponent needs two"
        warnings.append(f"envelope: {reason}")
    line_draws = None
    if reason is None:
        stacks = [
            np.array([np.where(one.interior, one.log_params, math.nan) for one in draws]),
            np.array([np.where(one.interior, one.log_tokens, math.nan) for one in draws]),
        ]
        line_draws = np.hstack([fit_lines(grid, stack) for stack in stacks])
        distinct = np.array([np.unique(row[np.isfinite(row)].round(9)).size for row in stacks[0]])
        line_draws[distinct < 2] = math.nan
    a, b = (
        Estimate(value=lines[index][1], level=level, reason=reason)
        if line_draws is None
        else Estimate.from_draws(lines[index][1], line_draws[:, 2 * index + 1], level=level)
        for index in (0, 1)
    )
    return Frontier(
        method="envelope" + (" with mid-run points" if allow_undecayed and bool(mid_run.any()) else ""),
        convention=table.conventions.get("flops", "as given"),
        a=a,
        b=b,
        points=_points(grid, whole, draws, level),
        line=(*lines[0], *lines[1]) if math.isfinite(lines[0][1]) else None,
        line_draws=line_draws,
        level=level,
        warnings=tuple(warnings),
    )


class _Sizes:
    """The end points of every size as nodes over compute, prepared once for all draws."""

    def __init__(self, frame: pd.DataFrame, grid: NDArray[np.float64]) -> None:
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

    def envelope(self, weight: NDArray[np.float64]) -> _Envelope:
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


def _points(grid: NDArray[np.float64], whole: _Envelope, draws: list[_Envelope], level: float) -> pd.DataFrame:
    """The envelope on the grid with percentile intervals of the draws, where at least half of them have a winner."""
    out: dict[str, NDArray[np.float64] | NDArray[np.bool_]] = {"flops": np.exp(grid), "bracketed": whole.interior}
    for name, attribute in (("params", "log_params"), ("tokens", "log_tokens"), ("loss", "log_loss")):
        out[name] = np.exp(getattr(whole, attribute))
        lo = hi = np.full(grid.size, math.nan)
        if draws:
            stack = np.array([getattr(one, attribute) for one in draws])
            enough = np.isfinite(stack).mean(axis=0) >= 0.5
            lo, hi = np.full(grid.size, math.nan), np.full(grid.size, math.nan)
            if bool(enough.any()):
                lo[enough], hi[enough] = np.exp(
                    np.nanquantile(stack[:, enough], [(1 - level) / 2, (1 + level) / 2], axis=0)
                )
        out[f"{name}_lo"], out[f"{name}_hi"] = lo, hi
    frame = pd.DataFrame(out)
    return frame[frame["params"].notna()].reset_index(drop=True)
