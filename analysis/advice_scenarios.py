"""What is not known when runs are designed: several laws, each at several draws of its parameters.

Owns which laws the existing runs support, and for each scenario (a law at one draw) the gradients of predictions and of
the target and the information of the runs that exist. It must not know how designs are searched or shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.advice_draws import working_draws
from analysis.advice_search import gram
from analysis.errors import UserError
from analysis.fit import Fit
from analysis.fitting import make_problem
from analysis.laws.base import Law
from analysis.laws.registry import get_law
from analysis.objectives import Objective
from analysis.parametric import FlopsPerToken, exponents, optimum, six_n, supports_frontier
from analysis.uncertainty import cluster_codes, sandwich

Array = NDArray[np.float64]

CANDIDATE_LAWS = ("hoffmann", "kaplan", "skaling")
"""Laws that are asked beside the fit's own, where the runs support them."""
NO_SUPPORT = 10.0
"""Difference of Akaike's criterion from the best law's beyond which the runs do not support a law (Burnham and Anderson
2002, section 2.6)."""
OWN_WEIGHT = 0.75
"""Weight of the fit's own law, whose interval will be read; the other laws share the rest."""
STEP = 1e-4
"""Step of central differences in working parameters."""
RIDGE = 1e-9
"""Information added to every direction, as a part of what all cells together say about it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be known best."""

    flops: float | None = None
    """Loss at the compute-optimal point of this C."""
    params: float | None = None
    """Loss at this N, with `tokens`."""
    tokens: float | None = None
    """Loss at this D, with `params`."""
    exponent: str | None = None
    """"a" or "b" of N_opt ~ C^a, D_opt ~ C^b."""

    def __post_init__(self) -> None:
        point = self.params is not None and self.tokens is not None
        if [self.flops is not None, point, self.exponent is not None].count(True) != 1:
            raise UserError("a target is one of flops=C, params=N,tokens=D, or an exponent a or b")
        if self.exponent not in (None, "a", "b"):
            raise UserError(f"there is no exponent {self.exponent!r}; --for takes a or b")
        for name in ("flops", "params", "tokens"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UserError(f"{name} of the target is {value:g}; give a finite number above zero")


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """One candidate law fitted to the existing runs."""

    fit: Fit
    """Its fit."""
    akaike: float
    """Akaike's criterion, up to a constant that all laws share."""
    used: bool
    """Whether the runs support it."""


@dataclass(frozen=True, kw_only=True)
class Scenarios:
    """Gradients by scenario, padded to the largest number of parameters."""

    gradients: Array
    """Of the log loss (of the loss, for raw residuals) at every cell, shape (S, n, p)."""
    target: Array
    """Of the target, shape (S, p): log loss, loss or exponent."""
    information: Array
    """Of the existing runs for noise of one unit, shape (S, p, p)."""
    weights: Array
    """Weight of each scenario: OWN_WEIGHT for the fit's own law, equal for the others and for the draws of a law; shape
    (S,)."""
    law: NDArray[np.intp]
    """Index of each scenario's law, shape (S,)."""


def candidate_fits(fit: Fit, names: Sequence[str] | None, *, draws: int, seed: int) -> list[LawFit]:
    """The fit, and other laws fitted to its runs in the same way, with Akaike's criterion.

    Parameters
    ----------
    names : laws to ask; None: CANDIDATE_LAWS. The fit's own law is always used
    draws : bootstrap draws of each other law
    seed : of their draws
    """
    if fit.runs is None:
        return [LawFit(fit=fit, akaike=0.0, used=True)]
    from analysis.api import fit_law

    options = fit.options
    own: dict[str, Any] = {
        "objective": options["objective"],
        "delta": options["delta"] or 1e-3,
        "residuals": options["residuals"],
        "level": fit.level,
        "weights": fit.runs["weights"],
        "cluster": fit.runs.get("cluster"),
    }
    fits = [fit]
    for name in CANDIDATE_LAWS if names is None else names:
        law = get_law(name)
        if not supports_frontier(law):
            raise UserError(f"{name} is no law of params and tokens; --laws takes such laws, e.g. hoffmann,skaling")
        enough = fit.num_rows > len(law.parameters)
        if name != fit.law.name and (enough or names is not None):
            fits.append(fit_law(law, fit.runs, bootstrap=max(draws, 2), rng=seed, **own))
    criteria = [_akaike(one) for one in fits]
    best = min(criteria)
    return [
        LawFit(fit=one, akaike=value - best, used=one is fit or value - best <= NO_SUPPORT)
        for one, value in zip(fits, criteria, strict=True)
    ]


def _akaike(fit: Fit) -> float:
    """2 p - 2 log likelihood: of normal noise for squared residuals, of Laplace's for the robust ones."""
    assert fit.runs is not None
    value = fit.predict(dict(fit.runs), interval="none")["loss"].to_numpy()
    loss = fit.runs["loss"]
    residuals = np.log(value / loss) if fit.predictor.log_residuals else value - loss
    n, squared = loss.size, fit.options["objective"] == "squared"
    scale = float((residuals**2).mean()) if squared else float(np.abs(residuals).mean()) ** 2
    return float(n * np.log(max(scale, 1e-300)) + 2 * len(fit.law.parameters))


def noise_scale(fit: Fit) -> float:
    """Standard deviation of one run's noise that gives the fit's own precision: sqrt(mean psi^2) / mean psi'.

    For least squares it is the residuals' own; for Huber's objective with a small delta and normal noise it is
    sqrt(pi / 2) times as much. The slope is averaged over a window of the residuals' width, as in the sandwich.
    """
    residuals = fit.predictor.residuals
    if fit.options["objective"] == "squared":
        return float(np.sqrt((residuals**2).mean()))
    psi = Objective(name=fit.options["objective"], delta=fit.options["delta"] or 0.0).psi
    window = 1.06 * 1.4826 * float(np.median(np.abs(residuals))) * max(residuals.size, 2) ** -0.2 + 1e-300
    slope = float(((psi(residuals + window) - psi(residuals - window)) / (2 * window)).mean())
    return float(np.sqrt((psi(residuals) ** 2).mean()) / max(slope, 1e-300))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def noise_at_target(fit: Fit, target: Target, *, flops_per_token: FlopsPerToken, correlation: float) -> float:
    """Standard deviation of one run's noise as it reaches the target: with it the information of the existing runs
    gives the sandwich variance of the target, whatever the noise's distribution and wherever it is large.

    It is `noise_scale` where noise is the same everywhere, and where the fit does not hold its runs.
    """
    plain = noise_scale(fit)
    if fit.runs is None or fit.predictor.reason is not None:
        return plain
    phi, refs = fit.predictor.phi, fit.predictor.log_refs
    options = fit.options
    objective = Objective(name=options["objective"], delta=options["delta"] or 0.0)
    problem = make_problem(
        fit.law, fit.runs, objective=objective, residuals=options["residuals"], weights=fit.runs["weights"]
    )
    codes = cluster_codes(fit.runs.get("cluster"), problem.num_rows)
    covariance = sandwich(problem, phi, codes)
    aim = _target_gradient(fit, phi[None, :], target, flops_per_token)[0]
    rows = _gradients(fit.law, phi[None, :], refs, fit.runs, fit.predictor.log_residuals)
    information = _information(rows, fit.runs["weights"], fit.runs.get("cluster"), correlation)[0]
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    linear = float((aim / scale) @ np.linalg.pinv(information / np.outer(scale, scale), hermitian=True) @ (aim / scale))
    units, p = int(codes.max()) + 1, phi.size
    found = float(np.sqrt(max(aim @ covariance @ aim, 0.0) * units / max(units - p, 1) / max(linear, 1e-300)))
    return found if np.isfinite(found) and found > 0 else plain


def shared_noise(fit: Fit) -> float | None:
    """Share of the variance that runs of one cluster have in common: the intra-class correlation of the residuals by
    analysis of variance, within 0 and 0.9; None without clusters of several runs."""
    if fit.runs is None or "cluster" not in fit.runs:
        return None
    value = fit.predict(dict(fit.runs), interval="none")["loss"].to_numpy()
    residuals = np.log(value / fit.runs["loss"]) if fit.predictor.log_residuals else value - fit.runs["loss"]
    _, codes, sizes = np.unique(fit.runs["cluster"], return_inverse=True, return_counts=True)
    n, groups = residuals.size, sizes.size
    if groups < 2 or n == groups:
        return None
    means = np.bincount(codes, weights=residuals) / sizes
    between = float((sizes * (means - residuals.mean()) ** 2).sum()) / (groups - 1)
    within = float(((residuals - means[codes]) ** 2).sum()) / (n - groups)
    per = (n - float((sizes**2).sum()) / n) / (groups - 1)
    return float(np.clip((between - within) / (between + (per - 1) * within), 0.0, 0.9))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def make_scenarios(
    fits: Sequence[LawFit],
    cells: Mapping[str, Array],
    target: Target,
    *,
    flops_per_token: FlopsPerToken,
    draws: int,
    correlation: float,
) -> Scenarios:
    """Scenarios of all laws that are used.

    Parameters
    ----------
    cells : params and tokens of the cells, each of shape (n,)
    flops_per_token : along the ladder, for the compute-optimal point of a target C
    draws : draws of each law
    correlation : share of the noise's variance that the runs of one cluster have in common
    """
    parts = []
    used = [one.fit for one in fits if one.used]
    width = max(len(fit.law.parameters) for fit in used)
    for index, fit in enumerate(used):
        gradients, aim, information = _law_scenarios(fit, cells, target, flops_per_token, draws, correlation)
        finite = np.isfinite(gradients).all(axis=(1, 2)) & np.isfinite(aim).all(axis=1)
        finite &= np.isfinite(information).all(axis=(1, 2)) & (np.abs(aim).sum(axis=1) > 0)
        if not finite.any():
            raise UserError(f"{fit.law.name} gives no finite gradient at the target; give a target nearer to the runs")
        gradients, aim, information = gradients[finite], aim[finite], information[finite]
        num, extra = gradients.shape[0], width - gradients.shape[2]
        square = np.zeros((num, width, width))
        square[:] = np.eye(width)
        square[:, : width - extra, : width - extra] = information
        parts.append(
            (
                np.pad(gradients, ((0, 0), (0, 0), (0, extra))),
                np.pad(aim, ((0, 0), (0, extra))),
                square,
                np.full(num, _share(index, len(used)) / num),
                np.full(num, index),
            )
        )
    gradients, aim, information, weights, law = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Scenarios(gradients=gradients, target=aim, information=information, weights=weights, law=law)


def _share(index: int, num_laws: int) -> float:
    """Weight of a law; the first is the fit's own."""
    if num_laws == 1:
        return 1.0
    return OWN_WEIGHT if index == 0 else (1 - OWN_WEIGHT) / (num_laws - 1)


def _law_scenarios(
    fit: Fit, cells: Mapping[str, Array], target: Target, per_token: FlopsPerToken, draws: int, correlation: float
) -> tuple[Array, Array, Array]:
    """Gradients (B, n, p), target (B, p) and information (B, p, p) of one law, in units in which all cells together
    say one unit about every direction (so that nothing is singular but for want of runs)."""
    law, refs = fit.law, fit.predictor.log_refs
    phi = working_draws(fit, draws)
    log_residuals = fit.predictor.log_residuals
    gradients = _gradients(law, phi, refs, cells, log_residuals)
    aim = _target_gradient(fit, phi, target, per_token)
    if fit.runs is not None:
        rows = _gradients(law, phi, refs, fit.runs, log_residuals)
        information = _information(rows, fit.runs["weights"], fit.runs.get("cluster"), correlation)
    else:
        inverse = np.linalg.pinv(fit.predictor.covariance, hermitian=True) * noise_scale(fit) ** 2
        information = np.broadcast_to(inverse, (phi.shape[0], *inverse.shape)).copy()
    everything = gram(gradients, np.ones(gradients.shape[1])) + information
    scale = np.sqrt(np.maximum(np.einsum("spp->sp", everything), 1e-300))
    scaled = everything / (scale[:, :, None] * scale[:, None, :])
    scaled = np.where(np.isfinite(scaled), scaled, np.eye(phi.shape[1]))
    values, vectors = np.linalg.eigh(scaled)
    change = (
        vectors / np.sqrt(np.maximum(values, 1e-12))[:, None, :] / scale[:, :, None]
    )  # change' everything change = 1
    information = np.matmul(np.matmul(change.transpose(0, 2, 1), information), change) + RIDGE * np.eye(phi.shape[1])
    return np.matmul(gradients, change), np.matmul(aim[:, None, :], change)[:, 0], information


def _gradients(law: Law, phi: Array, refs: Array, x: Mapping[str, Array], log_residuals: bool) -> Array:
    """d log L / d phi (dL / d phi for raw residuals) at the rows of `x`, shape (B, n, p)."""
    z = np.log(np.stack([x[name] for name in law.inputs])) - refs[:, None]
    value, jacobian = law.working_jacobian(phi, z)
    if log_residuals:
        jacobian = jacobian / np.maximum(value, 1e-300)[:, None, :]
    return np.ascontiguousarray(jacobian.transpose(0, 2, 1))


def _information(rows: Array, weights: Array, cluster: Array | None, correlation: float) -> Array:
    """Sum over runs of w g g', less what the runs of a cluster share."""
    total = gram(rows, weights)
    if cluster is None or not correlation:
        return total
    for label in np.unique(cluster):
        members = cluster == label
        common = (rows[:, members] * weights[members][:, None]).sum(axis=1)
        taken = correlation / (1 - correlation + correlation * float(weights[members].sum()))
        total -= taken * common[:, :, None] * common[:, None, :]
    return total / (1 - correlation)


def _target_gradient(fit: Fit, phi: Array, target: Target, per_token: FlopsPerToken) -> Array:
    """Gradient of the target in working parameters, shape (B, p).

    The loss at the optimum of C moves with the parameters at fixed N and D only (envelope theorem).
    """
    law, refs = fit.law, fit.predictor.log_refs
    if target.exponent is not None:
        return _exponent_gradient(fit, phi, target.exponent, per_token)
    if target.flops is None:
        point = {"params": np.array([target.params]), "tokens": np.array([target.tokens])}
        return _gradients(law, phi, refs, point, fit.predictor.log_residuals)[:, 0]
    log_n, log_d, _ = optimum(law, law.to_public(phi, refs), np.array([np.log(target.flops)]), per_token)
    out = np.empty_like(phi)
    for b in range(phi.shape[0]):
        point = {"params": np.exp(log_n[b]), "tokens": np.exp(log_d[b])}
        out[b] = _gradients(law, phi[b : b + 1], refs, point, fit.predictor.log_residuals)[0, 0]
    return out


def _exponent_gradient(fit: Fit, phi: Array, name: str, per_token: FlopsPerToken) -> Array:
    law, refs = fit.law, fit.predictor.log_refs
    assert fit.frontier_estimates is not None
    span = np.log(fit.frontier_estimates["flops_range"])
    out = np.empty_like(phi)
    for j in range(phi.shape[1]):
        step = STEP * np.maximum(np.abs(phi[:, j]), 0.1)
        ends = []
        for sign in (1, -1):
            moved = phi.copy()
            moved[:, j] += sign * step
            pair = exponents(
                law, law.to_public(moved, refs), (float(span[0]), float(span[1])),
                None if per_token is six_n else per_token,
            )  # fmt: skip
            ends.append(pair["ab".index(name)])
        out[:, j] = (ends[0] - ends[1]) / (2 * step)
    return out
