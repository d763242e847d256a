"""From a minimum and its draws to a `Fit`: intervals, identification, warnings and the frontier.

Owns how a result is put together; searching, drawing and identifying are done elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.fitting.derived import frontier_exponents
from analysis.fitting.fit import Fit
from analysis.fitting.frontier_exponents import FrontierExponents
from analysis.fitting.prediction import Predictor, kept_residuals
from analysis.fitting.spec import FitSpec
from analysis.laws.allocation import optimum, supports_frontier
from analysis.solver.problem import Problem
from analysis.solver.search import PointFit, Status
from analysis.uncertainty.calibration import Calibration, inflation_for, regime_warnings, truncated, weak_signal
from analysis.uncertainty.covariance import public_covariance, sandwich
from analysis.uncertainty.identifiability import Walk, one_sided, too_few, unidentified
from analysis.uncertainty.lack_of_fit import lack_of_fit
from analysis.uncertainty.region import Region


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A problem with its minimum, and the draws that say how sure it is."""

    problem: Problem
    """What was minimised."""
    point: PointFit
    """The minimum."""
    codes: NDArray[np.intp]
    """Cluster of each row, whole numbers from 0."""
    draws: Array | None
    """Working parameters of the bootstrap draws, shape (B, p); None without them."""
    walks: tuple[Walk, ...] = ()
    """Ends of profiles."""
    region: Region | None = None
    """Profiles in place of draws, where these mislead."""

    @property
    def num_units(self) -> int:
        """Independent units: rows, or clusters of rows."""
        return int(self.codes.max()) + 1


def assemble(
    solved: Solved,
    spec: FitSpec,
    *,
    aliases: Mapping[str, str],
    columns: Mapping[str, str],
    conventions: Mapping[str, Any],
) -> Fit:
    """The `Fit` of a solved problem.

    Parameters
    ----------
    solved : Solved
        The problem, its minimum and the draws.
    spec : FitSpec
        How it was fitted.
    aliases : mapping
        Inputs of the law to the columns that were used for them.
    columns : mapping
        Our names to the table's.
    conventions : mapping
        Which N and which C the table counts.

    Returns
    -------
    Fit
        Without the fitted rows.
    """
    problem, point = solved.problem, solved.point
    calibration = Calibration(
        units=solved.num_units,
        num_params=problem.num_params,
        level=spec.level,
        inflation=inflation_for(problem, point.phi, solved.num_units),
    )
    cov, working = _covariances(solved)
    reasons = unidentified(problem, point, solved.draws, solved.codes, solved.walks)
    if solved.region is not None:
        reasons = solved.region.reasons(problem) | reasons
    residuals = problem.residuals(point.phi[None, :])[0]
    predictor = Predictor(
        phi=point.phi,
        log_refs=problem.log_refs,
        covariance=working,
        calibration=calibration,
        log_residuals=problem.log_residuals,
        residuals=kept_residuals(residuals[problem.weights > 0], problem.num_params),
        draws=solved.draws,
        region=None if solved.region is None else solved.region.phi,
        reason=too_few(problem, solved.codes),
        aliases=aliases,
    )
    frontier = _frontier(problem, predictor, reasons, conventions)
    return Fit(
        law=problem.law,
        estimates=_estimates(problem, predictor, cov, reasons),
        identified={name: reasons.get(name) for name in problem.law.param_names},
        cov=cov,
        objective=point.value,
        status=_status(point, reasons),
        num_rows=problem.num_rows,
        num_clusters=solved.num_units,
        agreement=point.agreement,
        certificate=point.certificate,
        lack_of_fit=lack_of_fit(problem, point.phi, codes=solved.codes),
        condition=point.condition,
        residual_scale=_residual_scale(problem, residuals),
        predictor=predictor,
        frontier_estimates=frontier,
        options=spec.to_options(),
        columns=columns,
        conventions=conventions,
        warnings=(*_warnings(solved, reasons, frontier), *_weak(solved, working, reasons)),
    )


def _covariances(solved: Solved) -> tuple[Array, Array]:
    """Covariance of the public and of the working parameters, each of shape (p, p)."""
    problem, draws = solved.problem, solved.draws
    if draws is None:
        working = sandwich(problem, solved.point.phi, solved.codes)
        return public_covariance(problem, solved.point.phi, working), working
    public = problem.law.to_public(draws, problem.log_refs)
    return np.atleast_2d(np.cov(truncated(public), rowvar=False)), np.atleast_2d(np.cov(draws, rowvar=False))


def _status(point: PointFit, reasons: Mapping[str, str]) -> Status:
    """flat where no parameter at all is identified, else the solver's."""
    if point.status == "converged" and reasons and len(reasons) == point.phi.size:
        return "flat"
    return point.status


def _residual_scale(problem: Problem, residuals: Array) -> float:
    """Standard deviation of one run about the law, on n - p degrees of freedom."""
    dof = max(problem.num_rows - problem.num_params, 1)
    squares = float(problem.weights @ residuals**2 / problem.weights.sum())
    return float(np.sqrt(squares * problem.num_rows / dof))


def _warnings(solved: Solved, reasons: Mapping[str, str], frontier: FrontierExponents | None) -> tuple[str, ...]:
    """What the reader should know before using the fit."""
    warnings = [f"{name} is not identified: {reason}" for name, reason in reasons.items()]
    if frontier is not None and frontier.reason is not None:
        warnings.append(f"the frontier is not identified: {frontier.reason}")
    if solved.point.certificate.verdict == "disagreed":
        warnings.append(solved.point.certificate.text)
    if solved.point.status == "max_iterations":
        warnings.append("the solver ran out of iterations; the optimum may not be reached")
    return (*warnings, *regime_warnings(solved.problem.num_rows, solved.num_units, solved.problem.num_params))


def _weak(solved: Solved, working: Array, reasons: Mapping[str, str]) -> list[str]:
    """Whether exponents that count as identified are hidden by the noise all the same."""
    parameters = solved.problem.law.parameters
    shown = [j for j, p in enumerate(parameters) if p.kind == "exponent" and p.lower > 0 and p.name not in reasons]
    errors = np.sqrt(np.maximum(np.diag(working)[shown], 0.0))
    names, profiled = [parameters[j].name for j in shown], solved.region is not None
    return weak_signal(names, solved.point.phi[shown], errors, profiled=profiled)


def _estimates(problem: Problem, predictor: Predictor, cov: Array, reasons: Mapping[str, str]) -> dict[str, Estimate]:
    """Public parameters by name, with intervals where they are identified."""
    law, level = problem.law, predictor.level
    theta = law.to_public(predictor.phi[None, :], problem.log_refs)[0]
    public = None if predictor.draws is None else law.to_public(predictor.draws, problem.log_refs)
    out = {}
    for j, name in enumerate(law.param_names):
        value, se = float(theta[j]), float(np.sqrt(max(cov[j, j], 0.0)))
        known = se if np.isfinite(se) else None
        if name in reasons:
            out[name] = Estimate(value=value, se=known, level=level, reason=f"not identified: {reasons[name]}")
            continue
        kind = law.parameters[j].kind
        if predictor.region is not None:
            held = law.to_public(predictor.region, problem.log_refs)[:, j]
            lo, hi = float(held.min()), float(held.max())
        elif public is None:
            lo, hi = _delta_ends(value, float(predictor.calibration.half_width(np.array([se]))[0]), kind)
        else:
            lo, hi = _percentile_ends(predictor.calibration, value, public[:, j], kind)
        if kind == "offset" and np.isfinite(problem.lower[j]):
            lo = max(lo, float(problem.lower[j]))
        out[name] = Estimate(value=value, lo=lo, hi=hi, se=known, level=level)
    return out


def _delta_ends(value: float, half: float, kind: str) -> tuple[float, float]:
    """Ends about a parameter; those of an amplitude are taken in its logarithm."""
    if kind == "amplitude" and value > 0:
        return value * float(np.exp(-half / value)), value * float(np.exp(min(half / value, 700.0)))
    return value - half, value + half


def _percentile_ends(calibration: Calibration, value: float, draws: Array, kind: str) -> tuple[float, float]:
    """Ends from the draws of a parameter; those of an amplitude are taken in its logarithm."""
    if kind == "amplitude" and value > 0 and bool((draws > 0).all()):
        lo, hi = calibration.interval(np.log(np.array([value])), np.log(draws[:, None]))
        return float(np.exp(lo[0])), float(np.exp(hi[0]))
    lo, hi = calibration.interval(np.array([value]), draws[:, None])
    return float(lo[0]), float(hi[0])


def _frontier(
    problem: Problem, predictor: Predictor, reasons: Mapping[str, str], conventions: Mapping[str, Any]
) -> FrontierExponents | None:
    """The exponents of the frontier; None for laws without one."""
    law = problem.law
    if not supports_frontier(law):
        return None
    log_flops = (problem.z + problem.log_refs[:, None]).sum(axis=0) + np.log(6.0)
    counted = conventions.get("flops") not in (None, "6ND")
    return frontier_exponents(
        law,
        predictor,
        (float(log_flops.min()), float(log_flops.max())),
        reason=_why_no_frontier(problem, predictor, reasons, log_flops),
        note=f"the table's flops are {conventions['flops']}; a and b are under 6 N D" if counted else None,
    )


def _why_no_frontier(
    problem: Problem, predictor: Predictor, reasons: Mapping[str, str], log_flops: Array
) -> str | None:
    """Why the runs do not determine the frontier; None when they do."""
    law = problem.law
    unknown = [p.name for p in law.parameters if p.kind == "exponent" and p.name in reasons]
    if unknown:
        return f"{', '.join(unknown)} not identified ({reasons[unknown[0]]})"
    log_n = problem.z[law.inputs.index("params")] + problem.log_refs[law.inputs.index("params")]
    theta = law.to_public(predictor.phi[None, :], predictor.log_refs)
    grid = np.linspace(log_flops.min(), log_flops.max() + 1e-9, 64)
    optimal = np.interp(log_flops, grid, optimum(law, theta, grid)[0][0])
    return one_sided(log_n, optimal, problem.weights)
