"""From a minimum and its draws to a `Fit`: intervals, identification, warnings and the frontier.

Owns how a result is put together; searching, drawing and identifying are done elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.estimate import Estimate
from analysis.fitting.derived import frontier_summary
from analysis.fitting.fit import Fit
from analysis.fitting.prediction import Predictor, kept_residuals
from analysis.laws.allocation import optimum, supports_frontier
from analysis.solver.problem import Problem
from analysis.solver.search import PointFit
from analysis.uncertainty.calibration import Calibration, regime_warnings, stretch_for, truncated
from analysis.uncertainty.covariance import public_covariance, sandwich
from analysis.uncertainty.identifiability import one_sided, too_few, unidentified


def assemble(
    problem: Problem,
    point: PointFit,
    codes: NDArray[np.intp],
    draws: Array | None,
    *,
    level: float,
    aliases: Mapping[str, str],
    columns: Mapping[str, str],
    conventions: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Fit:
    """The `Fit` of a solved problem.

    Parameters
    ----------
    codes : cluster of each row, whole numbers from 0
    draws : working parameters of the bootstrap draws (B, p), or None
    level : coverage of intervals
    aliases, columns, conventions, options : carried into the result
    """
    law, phi = problem.law, point.phi
    units = int(codes.max()) + 1
    stretch = stretch_for(problem, phi, units)
    calibration = Calibration(units=units, num_params=problem.num_params, level=level, stretch=stretch)
    if draws is None:
        working = sandwich(problem, phi, codes)
        cov = public_covariance(problem, phi, working)
        public = None
    else:
        public = law.to_public(draws, problem.log_refs)
        cov = np.atleast_2d(np.cov(truncated(public), rowvar=False))
        working = np.atleast_2d(np.cov(draws, rowvar=False))
    reasons = unidentified(problem, point, draws, codes)
    residuals = problem.residuals(phi[None, :])[0]
    dof = max(problem.num_rows - problem.num_params, 1)
    squares = float(problem.weights @ residuals**2 / problem.weights.sum())
    predictor = Predictor(
        phi=phi,
        log_refs=problem.log_refs,
        covariance=working,
        calibration=calibration,
        log_residuals=problem.log_residuals,
        residuals=kept_residuals(residuals, problem.num_params),
        draws=draws,
        reason=too_few(problem, codes),
        aliases=aliases,
    )
    frontier, frontier_reason = _frontier(problem, predictor, reasons)
    if frontier is not None and conventions.get("flops") not in (None, "6ND"):
        frontier["note"] = f"the table's flops are {conventions['flops']}; a and b are under 6 N D"
    warnings = [f"{name} is not identified: {reason}" for name, reason in reasons.items()]
    if frontier_reason:
        warnings.append(f"the frontier is not identified: {frontier_reason}")
    if point.status == "max_iterations":
        warnings.append("the solver ran out of iterations; the optimum may not be reached")
    warnings += regime_warnings(problem.num_rows, units, problem.num_params)
    return Fit(
        law=law,
        estimates=_estimates(problem, phi, cov, public, calibration, reasons),
        identified={name: reasons.get(name) for name in law.param_names},
        cov=cov,
        objective=point.value,
        status="flat" if reasons and point.status == "converged" and len(reasons) == phi.size else point.status,
        num_rows=problem.num_rows,
        num_clusters=units,
        agreement=point.agreement,
        condition=point.condition,
        residual_scale=float(np.sqrt(squares * problem.num_rows / dof)),
        predictor=predictor,
        frontier_estimates=frontier,
        options=options,
        columns=columns,
        conventions=conventions,
        warnings=tuple(warnings),
    )


def _estimates(
    problem: Problem,
    phi: Array,
    cov: Array,
    public: Array | None,
    calibration: Calibration,
    reasons: Mapping[str, str],
) -> dict[str, Estimate]:
    law = problem.law
    theta = law.to_public(phi[None, :], problem.log_refs)[0]
    out = {}
    for j, name in enumerate(law.param_names):
        value, se = float(theta[j]), float(np.sqrt(max(cov[j, j], 0.0)))
        known = se if np.isfinite(se) else None
        if name in reasons:
            out[name] = Estimate(
                value=value, se=known, level=calibration.level, reason=f"not identified: {reasons[name]}"
            )
            continue
        if public is not None:
            positive = law.parameters[j].kind == "amplitude" and value > 0 and bool((public[:, j] > 0).all())
            there, back = (np.log, np.exp) if positive else (np.asarray, np.asarray)
            ends = calibration.interval(there(theta[[j]]), there(public[:, [j]]))
            lo, hi = float(back(ends[0][0])), float(back(ends[1][0]))
        else:
            half = float(calibration.half_width(np.array([se]))[0])
            lo, hi = value - half, value + half
            if law.parameters[j].kind == "amplitude" and value > 0:
                lo, hi = value * float(np.exp(-half / value)), value * float(np.exp(min(half / value, 700.0)))
        if law.parameters[j].kind == "offset" and np.isfinite(problem.lower[j]):
            lo = max(lo, float(problem.lower[j]))
        out[name] = Estimate(value=value, lo=lo, hi=hi, se=known, level=calibration.level)
    return out


def _frontier(
    problem: Problem, predictor: Predictor, reasons: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str | None]:
    """The frontier object, and why it is not identified (None when it is)."""
    law = problem.law
    if not supports_frontier(law):
        return None, None
    logs = problem.z + problem.log_refs[:, None]
    log_n = logs[law.inputs.index("params")]
    log_flops = logs.sum(axis=0) + np.log(6.0)
    summary = frontier_summary(law, predictor, log_flops)
    exponents = [p.name for p in law.parameters if p.kind == "exponent" and p.name in reasons]
    reason = f"{', '.join(exponents)} not identified ({reasons[exponents[0]]})" if exponents else None
    if reason is None:
        theta = law.to_public(predictor.phi[None, :], predictor.log_refs)
        grid = np.linspace(log_flops.min(), log_flops.max() + 1e-9, 64)
        optimal = np.interp(log_flops, grid, optimum(law, theta, grid)[0][0])
        reason = one_sided(log_n, optimal, problem.weights)
    assert summary is not None
    if reason:
        for name in ("a", "b"):
            summary[name] = {**summary[name], "lo": None, "hi": None, "reason": reason}
    return {**summary, "identified": reason is None, "reason": reason}, reason
