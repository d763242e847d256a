"""Compute multipliers: how many times the compute the reference needs for an arm's loss.

CM(C) = C_reference(L_arm(C)) / C, where L_arm(C) is the arm's compute-optimal loss at budget C and C_reference the
budget at which the reference reaches that loss. The laws of all arms are fitted together, and one bootstrap over pairs
of runs gives every interval. It must not know files, verbs or figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.paired.blocks import pair_runs
from analysis.paired.frontier import ArmFrontier, arm_frontiers
from analysis.paired.gain import ArmMultiplier, AtBudget, Multipliers, Verdict
from analysis.paired.joint import Form, JointLaw, fit_point, fit_squares, polish
from analysis.paired.throughput import relative_throughput

CONSTANT = math.log10(1.1)
"""A multiplier that changes by less than a tenth in a decade of compute is constant."""
TOO_WIDE = 100.0
"""An interval whose ends differ by more than this factor determines nothing."""
MEASURED_PAIRS = 16
"""Fewest pairs of the studies in benchmarks/multiplier.json."""
MIN_DRAWS = 100
"""Fewest draws of an interval."""
DISTINCT = 3
"""Fewest different budgets, or different N and D, from which a law's floor can be told."""
MIN_SURFACE = 6
"""Fewest cells of an arm for a law of N and D."""
BETTER = 0.85
"""Arms have floors of their own where this lowers the error on larger runs below this fraction of the error with one
floor."""
REPLICATES = {"seed", "replicate", "repeat", "rep", "trial", "role", "run_id", "run", "row", "trunk"}
"""Columns that tell runs of one setting apart; so does every other name that ends in seed."""
TREATMENTS = ("family", "optimizer", "positions", "recipe", "objective", "corpus", "tokenizer", "attention", "source")
"""Columns that often say what arms do differently; they are named first where a column cannot be the arm."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals of multipliers are drawn."""

    bootstrap: int = 1000
    """Draws, at least MIN_DRAWS."""
    cluster: str | None = None
    """A column whose equal values join pairs; runs with a shared prefix (`trunk`) are joined by default."""
    level: float = 0.95
    """Nominal coverage of the intervals."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        if self.bootstrap < MIN_DRAWS:
            raise UserError(f"bootstrap is {self.bootstrap}; intervals of multipliers need {MIN_DRAWS} draws or more")
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}; give a coverage between 0 and 1, such as .95")


class ResamplingOptions(TypedDict, total=False):
    """The fields of a Resampling as keyword arguments."""

    bootstrap: int
    cluster: str | None
    level: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """The joint fit and its draws."""

    law: JointLaw
    theta: Array
    draws: Array
    signs: Array
    inflation: float
    level: float


def compute_multiplier(
    columns: Mapping[str, Any],
    *,
    arm: str,
    reference: str | None = None,
    at: Sequence[float] | None = None,
    **options: Unpack[ResamplingOptions],
) -> Multipliers:
    """Fit the arms' laws together and compare what compute each needs for the same loss.

    Parameters
    ----------
    columns : mapping
        Columns by name: the arm, `loss` (nats per token), `flops`; with `params` and `tokens` laws of N and D are
        fitted. `seed`, shape and budget pair the runs (`analysis.paired.blocks`).
    arm : str
        The column that tells arms apart.
    reference : str, optional
        The arm that others are compared with; the first by default.
    at : sequence of float, optional
        Budgets in FLOPs; by default the largest that all arms were trained with, a tenth and ten times it.
    **options
        Fields of a `Resampling`: bootstrap, cluster, level and seed.

    Returns
    -------
    Multipliers
        Multipliers, what becomes of them with scale, and which arm is best.

    Raises
    ------
    UserError
        When a column is missing, fewer than two arms are there, or their losses are of different objectives.
    """
    names = _arms(columns, arm, reference)
    resampling = Resampling(**options)
    rows = tuple(np.flatnonzero(np.asarray([str(value) for value in columns[arm]]) == name) for name in names)
    _check_objectives(columns, names, rows)
    flops = _positive(columns, "flops")
    budgets = _budgets(flops, rows, at)
    warnings: list[str] = []
    law = _choose_law(columns, rows, warnings)
    blocks = pair_runs(columns, cluster=resampling.cluster)
    _check_pairs(blocks, rows, warnings)
    fitted = _fit(law, blocks, resampling)
    frontiers = arm_frontiers(fitted.law, columns, rows)
    log_c = np.log(budgets)
    losses = np.stack([one.log_loss(fitted.draws, log_c) for one in frontiers])
    best = np.argmin(losses, axis=0)
    p_best = {name: np.mean(best == k, axis=0) for k, name in enumerate(names)}
    rates = relative_throughput(columns, rows, blocks, fitted.signs, warnings)
    arms = {name: _compare(fitted, (frontiers[0], frontiers[k]), log_c, rates[k]) for k, name in enumerate(names) if k}
    return Multipliers(
        reference=names[0],
        arms=arms,
        p_best=p_best,
        flops=budgets,
        form=law.form,
        shared_floor=fitted.law.shared_floor,
        num_blocks=int(blocks.max()) + 1,
        level=resampling.level,
        warnings=tuple(warnings),
    )


def _check_objectives(columns: Mapping[str, Any], names: Sequence[str], rows: Sequence[NDArray[np.intp]]) -> None:
    """Refuse arms whose losses count different predictions."""
    if "objective" not in columns:
        return
    objectives = np.asarray([str(value) for value in columns["objective"]])
    found = [sorted(set(objectives[index])) for index in rows]
    for name, one in zip(names, found, strict=True):
        if one != found[0]:
            raise UserError(
                f"the loss of {name} is of the objective {', '.join(one)} and that of {names[0]} of "
                f"{', '.join(found[0])}; such losses count different predictions and have no multiplier: fit a law to "
                "each with --where"
            )


def _arms(columns: Mapping[str, Any], arm: str, reference: str | None) -> list[str]:
    """Names of the arms, the reference first."""
    for name in (arm, "loss", "flops"):
        if name not in columns:
            raise UserError(f"there is no column {name!r}; the table has {', '.join(map(str, columns))}")
    if arm in REPLICATES or arm.lower().endswith("seed"):
        raise UserError(_not_an_arm(columns, arm))
    names = list(dict.fromkeys(str(value) for value in columns[arm]))
    if len(names) < 2:
        raise UserError(f"column {arm!r} has one value, {names[0]!r}; a multiplier compares two arms or more")
    first = names[0] if reference is None else str(reference)
    if first not in names:
        raise UserError(f"reference {first!r} is no value of {arm!r}; its values are {', '.join(names)}")
    return [first, *(name for name in names if name != first)]


def _not_an_arm(columns: Mapping[str, Any], arm: str) -> str:
    """Why runs that differ in `arm` have no multiplier, and which columns of the table may be meant."""
    few = [name for name in TREATMENTS if name in columns and len({str(value) for value in columns[name]}) > 1]
    hint = f"one of {', '.join(few)}" if len(few) > 1 else few[0] if few else "optimizer or model.positions"
    return (
        f"{arm} tells runs of one setting apart, which differ by chance and not by what they do, so that it has no "
        f"multiplier; give --arm the column that says what the arms do differently, such as {hint}"
    )


def _positive(columns: Mapping[str, Any], name: str) -> Array:
    try:
        values = np.asarray(columns[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"column {name!r} holds text; give one number for each run") from None
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        raise UserError(f"{name} is not a positive number in row {bad[0] + 1}; fix or leave out that row")
    return values


def _budgets(flops: Array, rows: Sequence[NDArray[np.intp]], at: Sequence[float] | None) -> Array:
    if at is None:
        top = min(float(flops[members].max()) for members in rows)
        return np.array([top / 10, top, top * 10])
    wanted = np.array(list(at), dtype=np.float64)
    if not wanted.size or not (np.isfinite(wanted) & (wanted > 0)).all():
        raise UserError("budgets are positive numbers of FLOPs, such as flops=1e20")
    return wanted


def _choose_law(columns: Mapping[str, Any], rows: tuple[NDArray[np.intp], ...], warnings: list[str]) -> JointLaw:
    """The richest form that every arm's runs can tell."""
    y, flops = np.log(_positive(columns, "loss")), np.log(_positive(columns, "flops"))
    if {"params", "tokens"} <= set(columns):
        x = np.log(np.stack([_positive(columns, name) for name in ("params", "tokens")]))
        if all(_spread_apart(x[:, members]) for members in rows):
            centred = x - x.mean(axis=1, keepdims=True)
            return JointLaw(form="surface", shared_floor=True, arms=rows, x=centred, y=y)
    num = min(_num_distinct(flops[members]) for members in rows)
    if num < 2:
        raise UserError("an arm has runs of one budget only; give every arm two budgets or more")
    form: Form = "compute" if num >= DISTINCT and all(m.size > DISTINCT for m in rows) else "power"
    if form == "power":
        warnings.append(
            f"an arm has {num} budgets, too few for an irreducible loss: laws are powers of compute with none, and "
            "multipliers beyond the runs are rough"
        )
    return JointLaw(form=form, shared_floor=True, arms=rows, x=(flops - flops.mean())[None], y=y)


def _num_distinct(logs: Array) -> int:
    """Values that differ by more than 1 %."""
    ordered = np.sort(logs)
    return 1 + int((np.diff(ordered) > 0.01).sum())


def _spread_apart(x: Array) -> bool:
    """Whether N and D of one arm vary apart, over enough cells."""
    if min(_num_distinct(axis) for axis in x) < DISTINCT:
        return False
    cells = len({(round(float(a), 2), round(float(b), 2)) for a, b in x.T})
    return cells >= MIN_SURFACE and abs(float(np.atleast_2d(np.corrcoef(x))[0, 1])) < 0.98


def _check_pairs(blocks: NDArray[np.intp], rows: tuple[NDArray[np.intp], ...], warnings: list[str]) -> None:
    base = set(blocks[rows[0]].tolist())
    alone = sum(int(code) not in base for members in rows[1:] for code in blocks[members])
    total = sum(members.size for members in rows[1:])
    if alone:
        warnings.append(
            f"{alone} of {total} runs have no run of the reference in their cell and seed: they are not paired"
        )
    num = int(blocks.max()) + 1
    if num < MEASURED_PAIRS:
        warnings.append(
            f"{num} pairs are few: intervals may miss their nominal coverage, measured from {MEASURED_PAIRS} pairs on"
        )


def _fit(law: JointLaw, blocks: NDArray[np.intp], resampling: Resampling) -> _Fitted:
    """The joint fit, and a wild bootstrap over blocks: a draw turns the residuals of each block's arms together."""
    if law.form != "power" and _own_floors_extrapolate(law):
        law = replace(law, shared_floor=False)
    theta, scale = fit_point(law)
    fitted = law.predict(theta[None])[0]
    residuals = _unshrunk(law, theta, law.y - fitted, blocks)
    rng = np.random.default_rng(resampling.seed)
    num = int(blocks.max()) + 1
    signs = rng.choice(WEBB, size=(resampling.bootstrap, num))
    targets = fitted + signs[:, blocks] * residuals
    draws, _ = polish(law, np.repeat(theta[None], resampling.bootstrap, axis=0), targets, scale)
    dof = max(num * (1 - law.num_params / law.y.size), 2.0)
    tail = (1 + resampling.level) / 2
    inflation = float(stats.t.ppf(tail, dof) / stats.norm.ppf(tail))
    return _Fitted(law=law, theta=theta, draws=draws, signs=signs, inflation=inflation, level=resampling.level)


WEBB = np.array([-math.sqrt(1.5), -1.0, -math.sqrt(0.5), math.sqrt(0.5), 1.0, math.sqrt(1.5)])
"""Weights of a wild bootstrap over few clusters (Webb 2023, Canadian Journal of Economics 56, 839)."""


def _unshrunk(law: JointLaw, theta: Array, residuals: Array, blocks: NDArray[np.intp]) -> Array:
    """What each block deviates from a fit to the others: (I - H)^(-1) r, the jackknife (Bell and McCaffrey 2002)."""
    jacobian = law.jacobian(theta)
    hat = jacobian @ np.linalg.pinv(jacobian, rcond=1e-8)
    out = residuals.copy()
    for code in range(int(blocks.max()) + 1):
        members = np.flatnonzero(blocks == code)
        left = np.eye(members.size) - hat[np.ix_(members, members)]
        values, vectors = np.linalg.eigh(0.5 * (left + left.T))
        out[members] = vectors @ ((vectors.T @ residuals[members]) / np.maximum(values, 0.2))
    return out


def _own_floors_extrapolate(law: JointLaw) -> bool:
    """Whether laws with floors of their own, fitted to the smaller runs, predict the larger ones better."""
    compute = law.x.sum(axis=0) if law.form == "surface" else law.x[0]
    errors = {True: 0.0, False: 0.0}
    for share in (0.6, 0.75):
        keep = compute <= np.quantile(compute, share)
        if keep.all() or min(int(keep[rows].sum()) for rows in law.arms) < law.num_local + 1:
            return False
        for shared in errors:
            candidate = replace(law, shared_floor=shared)
            theta = fit_squares(candidate.rows(keep))
            errors[shared] += float(np.square(candidate.predict(theta[None])[0] - law.y)[~keep].mean())
    return errors[False] < BETTER**2 * errors[True]


def _compare(
    fitted: _Fitted,
    pair: tuple[ArmFrontier, ArmFrontier],
    log_c: Array,
    rate: tuple[float, Array] | None,
) -> ArmMultiplier:
    """One arm against the reference at every budget."""
    (base, one), level = pair, fitted.level
    theta = np.concatenate([fitted.theta[None], fitted.draws])
    needed = base.log_compute_for(theta, one.log_loss(theta, log_c))
    gain = needed - log_c
    tokens = base.log_tokens(theta, needed) - one.log_tokens(theta, np.broadcast_to(log_c, needed.shape))
    time = None if rate is None else gain + np.concatenate([[rate[0]], rate[1]])[:, None]
    at = []
    for j, c in enumerate(log_c):
        multiplier, reason = _estimate(gain[:, j], fitted)
        reach = float(np.exp(needed[0, j] - base.largest)) if multiplier is not None else None
        if multiplier is not None and reach is not None and reach > 1.05:
            reason = f"extrapolated: the reference needs {reach:.2g} times the compute of its largest run"
        others = [
            None if multiplier is None or logs is None else _estimate(logs[:, j], fitted)[0]
            for logs in (tokens if one.has_tokens and base.has_tokens else None, time)
        ]
        budget = float(np.exp(c))
        at.append(
            AtBudget(
                flops=budget,
                multiplier=multiplier,
                reason=reason,
                tokens=others[0],
                seconds=others[1],
                reach=reach,
            )
        )
    slopes = one.exponent(theta) - base.exponent(theta)
    center = float(slopes[0])
    ends = np.quantile(slopes[1:] - center, [(1 - level) / 2, (1 + level) / 2]) * fitted.inflation
    grows = Estimate(value=center, lo=center + float(ends[0]), hi=center + float(ends[1]), level=level)
    return ArmMultiplier(by_budget=tuple(at), grows=grows, verdict=_verdict(grows, float(base.exponent(theta)[0])))


def _verdict(grows: Estimate, exponent: float) -> Verdict:
    if grows.lo is None or grows.hi is None:
        return "not determined"
    if grows.lo > 0:
        return "grows"
    if grows.hi < 0:
        return "shrinks"
    return "constant" if max(-grows.lo, grows.hi) / exponent < CONSTANT else "not determined"


def _estimate(logs: Array, fitted: _Fitted) -> tuple[Estimate | None, str | None]:
    """The multiplier from its logarithm at the fit (first) and in the draws, or the reason why there is none."""
    center, draws, level = float(logs[0]), logs[1:], fitted.level
    if not math.isfinite(center):
        return None, "not determined: by its law the reference never reaches this loss"
    never = float(np.mean(~np.isfinite(draws)))
    if never > (1 - level) / 2:
        return None, f"not determined: in {100 * never:.0f} % of the draws the reference never reaches this loss"
    ends = np.quantile(np.where(np.isfinite(draws), draws, np.inf), [(1 - level) / 2, (1 + level) / 2], method="lower")
    lo, hi = center + fitted.inflation * (ends - center)
    if not hi - lo < math.log(TOO_WIDE):
        return None, f"not determined: its interval spans more than a factor of {TOO_WIDE:g}"
    return Estimate(value=math.exp(center), lo=math.exp(lo), hi=math.exp(hi), level=level), None
