"""Approach 2: the loss-optimal size of each compute budget, and the exponents of N_opt ~ C^a and D_opt ~ C^b.

Owns the minimum of each budget with its interval, the known bias of a curve on its grid, and the warnings. It must not
know how runs are grouped (isoflop_budgets), how a curve finds its minimum (isoflop_curves) or how draws are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.formatting import format_compute, format_percent, format_size
from analysis.frontiers.curves import DEFAULT_LOG_LOSS, METHODS, MIN_SIZES, curve_minima
from analysis.frontiers.draws import draw_losses
from analysis.frontiers.frontier import Frontier, fit_line, fit_lines
from analysis.runs.budgets import BudgetRuns, budget_runs
from analysis.runs.table import RunTable

REFERENCE_EXPONENTS = (0.34, 0.28)
"""(alpha, beta) of Hoffmann et al. 2022, approach 3: the surface on which a curve's bias is reckoned."""
BIAS_WARNING = 0.02
"""A bias of N_opt above this fraction is warned of."""
OFF_CENTRE_WARNING = 0.25
"""A minimum this far from the middle of its grid, as a fraction of the grid's half-width, is called off-centre."""


@dataclass(frozen=True, kw_only=True)
class IsoflopFit:
    """What approach 2 says about one table."""

    method: str
    """parabola, cubic or akima."""
    log_loss: bool
    """Whether the curve is fitted to ln L instead of L."""
    budgets: tuple[BudgetRuns, ...]
    """The budgets that have enough sizes for a curve, ascending."""
    frontier: Frontier
    """Minima (all budgets with a curve; `bracketed` says which count) and the power laws through the bracketed ones."""
    residual_scale: float | None
    """Standard deviation of a run about its budget's curve (of ln L where losses are positive); None without spare
    runs."""

    samples: tuple[NDArray[np.float64], ...]
    """Per budget (1 + draws, sizes) losses: row 0 as measured, then the draws; for bands."""

    def to_dict(self) -> dict[str, object]:
        """The JSON of `python -m analysis isoflop --json`."""
        raw = self.frontier.to_dict()
        names = {"params_lo": "lo", "params_hi": "hi"}
        minima = [{names.get(key, key): value for key, value in point.items()} for point in raw["points"]]
        out = {"method": self.method, "log_loss": self.log_loss, "convention": raw["convention"], "a": raw["a"]}
        return {**out, "b": raw["b"], "minima": minima, "warnings": raw["warnings"]}


def fit_isoflop(
    table: RunTable,
    *,
    method: str = "parabola",
    log_loss: bool | None = None,
    bootstrap: int = 1000,
    cluster: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    exponents: tuple[float, float] | None = REFERENCE_EXPONENTS,
) -> IsoflopFit:
    """Find each budget's loss-optimal size, and the power laws through the minima that runs bracket.

    Parameters
    ----------
    table : runs with params, flops and loss; with tokens D_opt is found too.
    method : parabola, cubic or akima on ln N.
    log_loss : fit ln L instead of L; by default for akima only.
    bootstrap : draws of the deviations; 0 for no intervals.
    cluster : column whose rows deviate together (a training trunk).
    level : nominal coverage of the intervals.
    rng : generator of the draws; seed 0 by default.
    exponents : (alpha, beta) of the Hoffmann surface on which the curve's bias is reckoned; None for no reckoning.

    Raises
    ------
    UserError
        When no budget has enough sizes, the method is unknown, or log losses are asked of losses that are not positive.
    """
    if method not in METHODS:
        raise UserError(f"--method {method} is not known; choose among {', '.join(METHODS)}")
    use_log = DEFAULT_LOG_LOSS[method] if log_loss is None else log_loss
    positive = bool((table.frame["loss"] > 0).all())
    if use_log and not positive:
        raise UserError("log losses need positive losses; use --loss-scale raw or leave the rows out with --where")
    every, warnings = budget_runs(table.frame)
    usable = [runs for runs in every if runs.x.size >= MIN_SIZES[method]]
    if not usable:
        most = max(runs.x.size for runs in every)
        raise UserError(
            f"no compute budget has the {MIN_SIZES[method]} sizes that a {method} needs: {len(every)} budget(s) hold "
            f"at most {most}; add sizes, or name the budgets with --columns budget=COLUMN"
        )
    notes = list(warnings)
    if len(usable) < len(every):
        thin = ", ".join(format_compute(runs.flops) for runs in every if runs.x.size < MIN_SIZES[method])
        notes.append(f"no curve for budgets {thin}: fewer than {MIN_SIZES[method]} sizes")
    generator = np.random.default_rng(0) if rng is None else rng
    labels = None if cluster is None else table.frame[cluster].to_numpy()
    samples, scale, reason = draw_losses(usable, method, bootstrap, positive, labels, generator)
    columns = [_minimum_of(runs, sample, method, use_log) for runs, sample in zip(usable, samples, strict=True)]
    points = _points(usable, columns, level, reason, exponents, method, use_log)
    notes += _grid_warnings(points, exponents)
    frontier = _frontier(
        points, columns, table.conventions.get("flops", "as given"), method, level, reason, tuple(notes)
    )
    return IsoflopFit(
        method=method,
        log_loss=use_log,
        budgets=tuple(usable),
        frontier=frontier,
        residual_scale=scale,
        samples=tuple(samples),
    )


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Minima of one budget: row 0 is the runs as they are, the others are draws."""

    log_params: NDArray[np.float64]
    log_tokens: NDArray[np.float64]
    loss: NDArray[np.float64]
    interior: NDArray[np.bool_]


def _minimum_of(runs: BudgetRuns, sample: NDArray[np.float64], method: str, use_log: bool) -> _Column:
    """Minima of one budget's curves, with D_opt from the budget's own N D."""
    minima = curve_minima(method, runs.x, np.log(sample) if use_log else sample, runs.count)
    log_tokens = np.full(minima.log_params.shape, math.nan)
    if runs.log_nd is not None:
        inside = np.clip(minima.log_params, runs.x[0], runs.x[-1])
        log_tokens = np.interp(inside, runs.x, runs.log_nd) - inside
    loss = np.where(minima.interior, np.exp(minima.loss) if use_log else minima.loss, sample.min(axis=1))
    return _Column(log_params=minima.log_params, log_tokens=log_tokens, loss=loss, interior=minima.interior)


def curve_bias(
    runs: BudgetRuns, log_params: float, exponents: tuple[float, float], method: str, use_log: bool
) -> float:
    """ln of (found / true) N_opt for the noise-free Hoffmann surface whose minimum is found at `log_params` on this
    grid.

    A parabola is exact only where alpha = beta and the grid is centred (Czech et al. 2026, arXiv 2603.22339). Along
    a budget L(N) - E is proportional to (N/N*)^-alpha / alpha + (N/N*)^beta / beta. NaN where the curve finds no
    interior minimum.
    """
    alpha, beta = exponents

    def found_at(optimum: float) -> float:
        offset = runs.x - optimum
        surface = np.exp(-alpha * offset) / alpha + np.exp(beta * offset) / beta
        loss = np.log1p(0.1 * surface / (1 / alpha + 1 / beta)) if use_log else surface
        found = curve_minima(method, runs.x, loss[None, :], runs.count)
        return float(found.log_params[0]) if found.interior[0] else math.nan

    optimum = log_params
    for _ in range(30):
        step = log_params - found_at(optimum)
        optimum += step
        if abs(step) < 1e-10:
            break
    return log_params - optimum


def _points(
    usable: list[BudgetRuns],
    columns: list[_Column],
    level: float,
    reason: str | None,
    exponents: tuple[float, float] | None,
    method: str,
    use_log: bool,
) -> pd.DataFrame:
    """One row per budget: the minimum, its intervals, whether runs bracket it, and the bias of the curve on this
    grid."""
    rows = []
    for runs, column in zip(usable, columns, strict=True):
        bracketed = bool(column.interior[0])
        best = int(runs.loss.argmin())
        place = float(column.log_params[0]) if bracketed else float(runs.x[best])
        row: dict[str, object] = {"flops": runs.flops, "bracketed": bracketed, "num_runs": len(runs.rows)}
        row["num_sizes"] = runs.x.size
        middle, half = (runs.x[0] + runs.x[-1]) / 2, float(np.ptp(runs.x)) / 2
        row["off_centre"] = (place - middle) / half
        row["bias"] = math.nan
        if bracketed and exponents is not None:
            row["bias"] = math.expm1(curve_bias(runs, place, exponents, method, use_log))
        log_tokens = math.nan if runs.log_nd is None else float(np.interp(place, runs.x, runs.log_nd)) - place
        values = {"params": place, "tokens": log_tokens, "loss": column.loss[0] if bracketed else runs.loss[best]}
        draws = {"params": np.clip(column.log_params[1:], runs.x[0], runs.x[-1])}
        draws["tokens"], draws["loss"] = column.log_tokens[1:], column.loss[1:]
        for name, value in values.items():
            logarithm = name != "loss"
            row[name] = math.exp(value) if logarithm else float(value)
            ends = Estimate.from_draws(value, draws[name] if bracketed and reason is None else [], level=level)
            for end, number in (("lo", ends.lo), ("hi", ends.hi)):
                row[f"{name}_{end}"] = math.nan if number is None else math.exp(number) if logarithm else number
        rows.append(row)
    return pd.DataFrame(rows)


def _grid_warnings(points: pd.DataFrame, exponents: tuple[float, float] | None) -> list[str]:
    """Sentences about budgets without a bracketed minimum and about off-centre grids, with the size of the known
    bias."""
    out = []
    open_ended = points[~points["bracketed"]]
    if len(open_ended):
        budgets = ", ".join(format_compute(value) for value in open_ended["flops"])
        out.append(
            f"budgets {budgets}: the minimum is not bracketed by runs on both sides, so it is left out of a and b"
        )
    if exponents is None:
        return out
    basis = f"(Czech et al. 2026; alpha {exponents[0]:.2f}, beta {exponents[1]:.2f})"
    off = points[points["bracketed"] & (points["off_centre"].abs() > OFF_CENTRE_WARNING)]
    for _, point in off.iterrows():
        side = "large" if point["off_centre"] > 0 else "small"
        budget, place = format_compute(point["flops"]), format_size(point["params"])
        out.append(
            f"budget {budget}: the minimum {place} lies off the centre of its grid, at "
            f"{abs(point['off_centre']):.2f} of the half-width towards {side} sizes; known bias of N_opt there "
            f"{format_percent(point['bias'])} {basis}"
        )
    biased = points[points["bracketed"] & (points["bias"].abs() > BIAS_WARNING) & ~points.index.isin(off.index)]
    if len(biased):
        worst = biased.iloc[int(biased["bias"].abs().to_numpy().argmax())]
        grids = "1 centred grid biases" if len(biased) == 1 else f"{len(biased)} centred grids bias"
        out.append(
            f"{grids} N_opt by up to {format_percent(worst['bias'])} at {format_compute(worst['flops'])} {basis}; "
            "cubic, akima or a parametric fit would bias it less"
        )
    return out


def _frontier(
    points: pd.DataFrame,
    columns: list[_Column],
    convention: str,
    method: str,
    level: float,
    reason: str | None,
    warnings: tuple[str, ...],
) -> Frontier:
    """Power laws through the bracketed minima, as they are and for every draw."""
    log_flops = np.log(points["flops"].to_numpy(dtype=float))
    bracketed = points["bracketed"].to_numpy(dtype=bool)
    has_tokens = bool(points["tokens"].notna().all())
    line: list[float] = []
    draws: list[NDArray[np.float64]] = []
    for name in ("params", "tokens"):
        values = np.where(bracketed, np.log(points[name].to_numpy(dtype=float)), math.nan)
        line += fit_line(log_flops, values)
        stack = np.column_stack([column.log_params if name == "params" else column.log_tokens for column in columns])
        inside = np.column_stack([column.interior for column in columns]) & bracketed
        draws.append(fit_lines(log_flops, np.where(inside, stack, math.nan)[1:]))
    if int(bracketed.sum()) < 2:
        reason = f"{int(bracketed.sum())} budget(s) with a bracketed minimum; an exponent needs two"
    estimates = []
    for index, value in enumerate((line[1], line[3])):
        if reason is not None:
            estimates.append(Estimate(value=value, level=level, reason=reason))
        else:
            estimates.append(Estimate.from_draws(value, draws[index][:, 1], level=level))
    return Frontier(
        method=f"isoflop {method}",
        convention=convention,
        a=estimates[0],
        b=estimates[1] if has_tokens else None,
        points=points,
        line=(line[0], line[1], line[2], line[3]) if math.isfinite(line[1]) else None,
        line_draws=np.hstack(draws) if reason is None else None,
        level=level,
        warnings=warnings,
    )
