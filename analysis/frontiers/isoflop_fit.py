"""Approach 2: the loss-optimal size of each compute budget, and the exponents of N_opt ~ C^a and D_opt ~ C^b.

Owns the minimum of each budget with its interval, the known bias of a curve on its grid, and the warnings. It must not
know how runs are grouped (runs/budgets.py), how a curve finds its minimum (curves.py) or how draws are made (draws.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.spec import DrawOptions, FitSpec, spec_from
from analysis.formatting import format_compute, format_percent, format_size
from analysis.frontiers.curves import DEFAULT_LOG_LOSS, METHODS, MIN_SIZES, Method, curve_minima, evaluate_curves
from analysis.frontiers.draws import draw_losses
from analysis.frontiers.frontier import Frontier, fit_line, fit_lines
from analysis.runs.budgets import BudgetRuns, budget_runs
from analysis.runs.conventions import flops_convention
from analysis.runs.table import RunTable

REFERENCE_EXPONENTS = (0.34, 0.28)
"""(alpha, beta) of Hoffmann et al. 2022, approach 3: the surface on which a curve's bias is reckoned."""
NUM_DRAWS = 1000
"""Draws of an interval where none are named."""
BIAS_WARNING = 0.02
"""A bias of N_opt above this fraction is warned of."""
OFF_CENTRE_WARNING = 0.25
"""A minimum this far from the middle of its grid, as a fraction of the grid's half-width, is called off-centre."""
BIAS_ITERATIONS, BIAS_TOLERANCE = 30, 1e-10
"""Steps in which the true optimum behind a found one is looked for, and the step at which it is found, in ln N."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Which curve goes through the runs of a budget."""

    method: Method
    """parabola, cubic or akima."""
    log_loss: bool
    """Whether it is fitted to ln L instead of L."""

    def scaled(self, losses: Array) -> Array:
        """Losses as the curve takes them."""
        return np.log(losses) if self.log_loss else losses


@dataclass(frozen=True, kw_only=True)
class IsoflopFit:
    """What approach 2 says about one table."""

    method: Method
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
    samples: tuple[Array, ...]
    """Per budget (1 + draws, sizes) losses: row 0 as measured, then the draws; for bands."""

    def losses_at(self, place: int, log_params: Array) -> Array:
        """Losses on the curves of one budget.

        Parameters
        ----------
        place : int
            Which of `budgets`.
        log_params : Array, shape (m,)
            ln N.

        Returns
        -------
        Array, shape (1 + draws, m)
            Row 0 is the curve through the runs as measured, the others those through the draws.
        """
        curve = Curve(method=self.method, log_loss=self.log_loss)
        runs = self.budgets[place]
        values = evaluate_curves(self.method, runs.x, curve.scaled(self.samples[place]), log_params, runs.count)
        return np.exp(values) if self.log_loss else values

    def to_dict(self) -> dict[str, object]:
        """The JSON of `isoflop --json`."""
        raw = self.frontier.to_dict()
        names = {"params_lo": "lo", "params_hi": "hi"}
        minima = [{names.get(key, key): value for key, value in point.items()} for point in raw["points"]]
        out = {"method": self.method, "log_loss": self.log_loss, "convention": raw["convention"], "a": raw["a"]}
        return {**out, "b": raw["b"], "minima": minima, "warnings": raw["warnings"]}

    def __repr__(self) -> str:
        return f"IsoflopFit({self.method}, {len(self.budgets)} budgets, a = {self.frontier.a})"

    def _repr_html_(self) -> str:
        """The frontier, for notebooks."""
        return self.frontier._repr_html_()


def fit_isoflop(
    table: RunTable,
    spec: FitSpec | None = None,
    *,
    method: Method = "parabola",
    log_loss: bool | None = None,
    exponents: tuple[float, float] | None = REFERENCE_EXPONENTS,
    **options: Unpack[DrawOptions],
) -> IsoflopFit:
    """Find each budget's loss-optimal size, and the power laws through the minima that runs bracket.

    Parameters
    ----------
    table : RunTable
        Runs with params, flops and loss; with tokens D_opt is found too.
    spec : FitSpec, optional
        Draws (1,000 by default), clusters of rows that deviate together, level and seed; the rest has no part in it.
    method : {"parabola", "cubic", "akima"}
        The curve on ln N.
    log_loss : bool, optional
        Whether to fit ln L instead of L; by default for akima only.
    exponents : (float, float), optional
        (alpha, beta) of the Hoffmann surface on which the curve's bias is reckoned; None for no reckoning.
    **options
        Fields of the FitSpec by keyword; they go before those of `spec`.

    Returns
    -------
    IsoflopFit
        The minima, the frontier through them, and warnings.

    Raises
    ------
    UserError
        When no budget has enough sizes, the method is unknown, or log losses are asked of losses that are not positive.
    """
    spec = spec_from(spec, options, bootstrap=NUM_DRAWS)
    if method not in METHODS:
        raise UserError(f"--method {method} is not known; choose among {', '.join(METHODS)}")
    curve = Curve(method=method, log_loss=DEFAULT_LOG_LOSS[method] if log_loss is None else log_loss)
    positive = bool((table.frame["loss"] > 0).all())
    if curve.log_loss and not positive:
        raise UserError("log losses need positive losses; use --loss-scale raw or leave the rows out with --where")
    budgets, notes = _usable_budgets(table, method)
    drawn = draw_losses(
        budgets,
        method,
        spec.bootstrap,
        positive=positive,
        cluster=spec.cluster_labels(table.frame),
        rng=spec.generator,
    )
    columns = [_minima_of(runs, sample, curve) for runs, sample in zip(budgets, drawn.samples, strict=True)]
    setting = _Setting(curve=curve, exponents=exponents, level=spec.level, reason=drawn.reason)
    points = pd.DataFrame([_point(runs, one, setting) for runs, one in zip(budgets, columns, strict=True)])
    warnings = (*notes, *_grid_warnings(points, exponents))
    return IsoflopFit(
        method=method,
        log_loss=curve.log_loss,
        budgets=tuple(budgets),
        frontier=_frontier(points, columns, setting, flops_convention(table.conventions), warnings),
        residual_scale=drawn.scale,
        samples=drawn.samples,
    )


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What the minima of all budgets have in common."""

    curve: Curve
    """The curve."""
    exponents: tuple[float, float] | None
    """Of the surface on which the curve's bias is reckoned."""
    level: float
    """Nominal coverage of the intervals."""
    reason: str | None
    """Why there are no draws; None when there are."""


@dataclass(frozen=True, kw_only=True)
class _Minima:
    """Minima of one budget, each of shape (1 + draws,): row 0 is the runs as they are, the others are draws."""

    log_params: Array
    log_tokens: Array
    loss: Array
    interior: NDArray[np.bool_]


def _usable_budgets(table: RunTable, method: Method) -> tuple[list[BudgetRuns], list[str]]:
    """Budgets with enough sizes for a curve, and what the reader should know about the others."""
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
    return usable, notes


def _minima_of(runs: BudgetRuns, sample: Array, curve: Curve) -> _Minima:
    """Minima of one budget's curves, with D_opt from the budget's own N D."""
    minima = curve_minima(curve.method, runs.x, curve.scaled(sample), runs.count)
    log_tokens = np.full(minima.log_params.shape, math.nan)
    if runs.log_nd is not None:
        inside = np.clip(minima.log_params, runs.x[0], runs.x[-1])
        log_tokens = np.interp(inside, runs.x, runs.log_nd) - inside
    loss = np.where(minima.interior, np.exp(minima.loss) if curve.log_loss else minima.loss, sample.min(axis=1))
    return _Minima(log_params=minima.log_params, log_tokens=log_tokens, loss=loss, interior=minima.interior)


def curve_bias(runs: BudgetRuns, log_params: float, exponents: tuple[float, float], curve: Curve) -> float:
    """How far a curve's minimum lies from the true one, on the grid of sizes of one budget.

    A parabola is exact only where alpha = beta and the grid is centred (Czech et al. 2026, arXiv 2603.22339). Along
    a budget L(N) - E is proportional to (N/N*)^-alpha / alpha + (N/N*)^beta / beta; the N* is looked for whose
    noise-free curve has its minimum at `log_params`.

    Parameters
    ----------
    runs : BudgetRuns
        Sizes of the budget.
    log_params : float
        ln N of the minimum that was found.
    exponents : (float, float)
        alpha and beta of the surface.
    curve : Curve
        The curve.

    Returns
    -------
    float
        ln of (found / true) N_opt; NaN where the curve finds no interior minimum.
    """
    alpha, beta = exponents

    def found_at(optimum: float) -> float:
        offset = runs.x - optimum
        surface = np.exp(-alpha * offset) / alpha + np.exp(beta * offset) / beta
        loss = np.log1p(0.1 * surface / (1 / alpha + 1 / beta)) if curve.log_loss else surface
        found = curve_minima(curve.method, runs.x, loss[None, :], runs.count)
        return float(found.log_params[0]) if found.interior[0] else math.nan

    optimum = log_params
    for _ in range(BIAS_ITERATIONS):
        step = log_params - found_at(optimum)
        optimum += step
        if abs(step) < BIAS_TOLERANCE:
            break
    return log_params - optimum


def _point(runs: BudgetRuns, minima: _Minima, setting: _Setting) -> dict[str, object]:
    """One budget: the minimum, its intervals, whether runs bracket it, and the bias of the curve on this grid."""
    bracketed = bool(minima.interior[0])
    best = int(runs.loss.argmin())
    place = float(minima.log_params[0]) if bracketed else float(runs.x[best])
    row: dict[str, object] = {"flops": runs.flops, "bracketed": bracketed, "num_runs": len(runs.rows)}
    row["num_sizes"] = runs.x.size
    middle, half = (runs.x[0] + runs.x[-1]) / 2, float(np.ptp(runs.x)) / 2
    row["off_centre"] = (place - middle) / half
    row["bias"] = math.nan
    if bracketed and setting.exponents is not None:
        row["bias"] = math.expm1(curve_bias(runs, place, setting.exponents, setting.curve))
    log_tokens = math.nan if runs.log_nd is None else float(np.interp(place, runs.x, runs.log_nd)) - place
    values = {"params": place, "tokens": log_tokens, "loss": minima.loss[0] if bracketed else runs.loss[best]}
    draws = {"params": np.clip(minima.log_params[1:], runs.x[0], runs.x[-1])}
    draws["tokens"], draws["loss"] = minima.log_tokens[1:], minima.loss[1:]
    drawn = bracketed and setting.reason is None
    for name, value in values.items():
        back = float if name == "loss" else math.exp
        row[name] = back(value)
        ends = Estimate.from_draws(value, draws[name] if drawn else [], level=setting.level)
        for end, number in (("lo", ends.lo), ("hi", ends.hi)):
            row[f"{name}_{end}"] = math.nan if number is None else back(number)
    return row


def _grid_warnings(points: pd.DataFrame, exponents: tuple[float, float] | None) -> list[str]:
    """Sentences about budgets without a bracketed minimum and about off-centre grids.

    They give the size of the known bias.
    """
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
    points: pd.DataFrame, columns: Sequence[_Minima], setting: _Setting, convention: str, warnings: tuple[str, ...]
) -> Frontier:
    """Power laws through the bracketed minima, as they are and for every draw."""
    log_flops = np.log(points["flops"].to_numpy(dtype=float))
    bracketed = points["bracketed"].to_numpy(dtype=bool)
    interior = np.column_stack([one.interior for one in columns]) & bracketed
    line: list[float] = []
    draws: list[Array] = []
    for name in ("params", "tokens"):
        values = np.where(bracketed, np.log(points[name].to_numpy(dtype=float)), math.nan)
        line += fit_line(log_flops, values)
        stack = np.column_stack([one.log_params if name == "params" else one.log_tokens for one in columns])
        draws.append(fit_lines(log_flops, np.where(interior, stack, math.nan)[1:]))
    reason = setting.reason
    if int(bracketed.sum()) < 2:
        reason = f"{int(bracketed.sum())} budget(s) with a bracketed minimum; an exponent needs two"
    a, b = (
        Estimate.from_draws(value, drawn[:, 1], level=setting.level)
        if reason is None
        else Estimate(value=value, level=setting.level, reason=reason)
        for value, drawn in zip((line[1], line[3]), draws, strict=True)
    )
    return Frontier(
        method=f"isoflop {setting.curve.method}",
        convention=convention,
        a=a,
        b=b if bool(points["tokens"].notna().all()) else None,
        points=points,
        line=(line[0], line[1], line[2], line[3]) if math.isfinite(line[1]) else None,
        line_draws=np.hstack(draws) if reason is None else None,
        level=setting.level,
        warnings=warnings,
    )
