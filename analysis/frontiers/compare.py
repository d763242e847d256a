"""The three approaches side by side, and a test of whether they disagree by more than design and noise explain.

The approaches see the same runs and each has a bias of its own (a parabola on a finite grid, the discrete winners of an
envelope), so intervals that fail to overlap, or overlap, prove little. The test simulates: losses are drawn from
the fitted law at the very design with residuals of the fit, all three approaches are applied to every simulated
table, and the observed differences of a are compared with the simulated ones (Mahalanobis distance, rank among
simulations). It must not know figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.files import json_ready
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.frontiers.envelope import fit_envelope
from analysis.frontiers.flops_per_token import Shapes
from analysis.frontiers.frontier import Frontier
from analysis.frontiers.isoflop import IsoflopFit, fit_isoflop
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import exponents
from analysis.runs.columns import as_columns
from analysis.runs.table import RunTable
from analysis.solver.newton import polish
from analysis.solver.problem import make_problem

SIMULATIONS = 99
"""Simulated tables of the test: the smallest p-value is 1 / 100."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Three frontiers of one table and the test of their agreement."""

    fit: Fit
    """The parametric fit (approach 3)."""
    isoflop: IsoflopFit | None
    """Approach 2; None where no budget has enough sizes."""
    frontiers: tuple[Frontier, ...]
    """Envelope, IsoFLOP, parametric: those that exist."""
    missing: dict[str, str]
    """Approach -> why it gave nothing."""
    differences: dict[str, Estimate]
    """a of an approach less a of the parametric one; the interval is that of the simulated differences about the
    observed."""
    p_value: float | None
    """How often simulated tables disagree at least as much; None without a test."""
    verdict: str
    """The finding in one sentence."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return json_ready(
            {
                "frontiers": [frontier.to_dict() for frontier in self.frontiers],
                "missing": self.missing,
                "differences": {name: item.to_dict() for name, item in self.differences.items()},
                "p_value": self.p_value,
                "verdict": self.verdict,
            }
        )


def compare_approaches(
    table: RunTable,
    *,
    law: str = "hoffmann",
    method: str = "parabola",
    bootstrap: int = 1000,
    cluster: str | None = None,
    level: float = 0.95,
    seed: int = 0,
    allow_undecayed: bool = False,
    flops: NDArray[np.float64] | None = None,
    simulations: int = SIMULATIONS,
    fit: Fit | None = None,
) -> Comparison:
    """Apply all three approaches to the runs of `table` and test whether they disagree.

    Parameters
    ----------
    law, method : of the parametric fit and of the IsoFLOP curves.
    bootstrap, cluster, level, seed : of every interval.
    allow_undecayed : let points in mid-run enter the envelope.
    flops : compute at which the parametric frontier is wanted; the range of the table by default.
    simulations : simulated tables of the test; 0 for none.
    fit : a parametric fit of the same rows, when there is one already.
    """
    frame = table.frame
    columns = [name for name in ("params", "tokens", "flops", "loss", cluster) if name is not None]
    options: dict[str, Any] = {"bootstrap": bootstrap, "cluster": cluster, "level": level}
    if fit is None:
        rng = np.random.default_rng(seed)
        fit = fit_law(law, as_columns(frame, columns), rng=rng, conventions=table.conventions, **options)
    shapes = Shapes.from_frame(frame)
    convention = table.conventions.get("flops", "as given")
    missing: dict[str, str] = {}
    isoflop: IsoflopFit | None = None
    frontiers: list[Frontier] = []
    try:
        envelope = fit_envelope(table, allow_undecayed=allow_undecayed, rng=np.random.default_rng(seed), **options)
        frontiers.append(envelope)
    except UserError as error:
        missing["envelope"] = str(error)
    try:
        skew = (fit.params["alpha"], fit.params["beta"]) if {"alpha", "beta"} <= set(fit.params) else (0.34, 0.28)
        skew = skew if min(skew) > 0.01 else (0.34, 0.28)
        isoflop = fit_isoflop(table, method=method, rng=np.random.default_rng(seed), exponents=skew, **options)
        frontiers.append(isoflop.frontier)
    except UserError as error:
        missing["isoflop"] = str(error)
    grid = np.geomspace(*(float(frame["flops"].min()), float(frame["flops"].max())), 25) if flops is None else flops
    per_token = None if shapes.is_six_n else shapes.flops_per_token
    frontiers.append(parametric_frontier(fit, grid, flops_per_token=per_token, convention=convention))
    others = [one for one in frontiers[:-1] if math.isfinite(one.a.value)]
    missing |= {one.method: "; ".join(one.warnings) for one in frontiers[:-1] if not math.isfinite(one.a.value)}
    centre = frontiers[-1].a.value
    observed = np.array([one.a.value - centre for one in others])
    if not others or simulations <= 0 or not math.isfinite(centre):
        why = "no test was asked for" if others else "only one approach gives an exponent"
        differences = {
            one.method: Estimate(value=float(value), level=level, reason=why)
            for one, value in zip(others, observed, strict=True)
        }
        verdict = f"Not tested: {why}."
        return Comparison(
            fit=fit, isoflop=isoflop, frontiers=tuple(frontiers), missing=missing, differences=differences,
            p_value=None, verdict=verdict,
        )  # fmt: skip
    wanted = [one.method for one in others]
    simulated = _simulate(table, fit, method, shapes, wanted, simulations, seed, allow_undecayed, cluster)
    finite = simulated[np.isfinite(simulated).all(axis=1)]
    differences = {}
    for index, one in enumerate(others):
        spread = observed[index] + finite[:, index] - (finite[:, index].mean() if len(finite) else 0.0)
        differences[one.method] = Estimate.from_draws(float(observed[index]), spread, level=level)
    if len(finite) < 20:
        verdict = f"Not tested: {len(finite)} of {simulations} simulated tables gave an exponent by every approach."
        p_value = None
    else:
        p_value = rank_of(observed, finite)
        word = "disagree beyond" if p_value < 1 - level else "do not disagree beyond"
        verdict = (
            f"The approaches {word} what design and noise explain (p = {p_value:.2g}, {len(finite)} simulated tables; "
            f"the smallest p that can be found is {1 / (1 + len(finite)):.2g})."
        )
    return Comparison(
        fit=fit, isoflop=isoflop, frontiers=tuple(frontiers), missing=missing, differences=differences,
        p_value=p_value, verdict=verdict,
    )  # fmt: skip


def rank_of(observed: NDArray[np.float64], simulated: NDArray[np.float64]) -> float:
    """p-value of the observed differences: their Mahalanobis distance from the simulated mean, ranked among the
    simulated."""
    middle = simulated.mean(axis=0)
    covariance = np.atleast_2d(np.cov(simulated, rowvar=False))
    inverse = np.linalg.pinv(covariance + 1e-12 * np.trace(covariance) * np.eye(len(middle)))

    def distance(values: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = np.atleast_2d(values) - middle
        return np.asarray(np.einsum("ij,jk,ik->i", centred, inverse, centred))

    return float((1 + (distance(simulated) >= distance(observed)[0]).sum()) / (1 + len(simulated)))


def _simulate(
    table: RunTable,
    fit: Fit,
    method: str,
    shapes: Shapes,
    wanted: list[str],
    count: int,
    seed: int,
    allow_undecayed: bool,
    cluster: str | None,
) -> NDArray[np.float64]:
    """(count, approaches) differences of a from the parametric one on tables simulated from the fitted law.

    Deviations are the fit's own residuals of log loss, widened for the parameters fitted; with `cluster`, every
    cluster's residuals are multiplied by one random sign instead of being shuffled.
    """
    frame = table.frame
    smooth = fit.predict(as_columns(frame, fit.law.inputs), interval="none")["loss"].to_numpy()
    residual = np.log(frame["loss"].to_numpy(dtype=float)) - np.log(smooth)
    residual = residual * math.sqrt(len(frame) / max(len(frame) - len(fit.params), 1))
    rng = np.random.default_rng([seed, 1])
    names = None if cluster is None else pd.factorize(frame[cluster].astype(str))[0]
    out = np.full((count, len(wanted)), math.nan)
    span = (math.log(float(frame["flops"].min())), math.log(float(frame["flops"].max())))
    per_token = None if shapes.is_six_n else shapes.flops_per_token
    for index in range(count):
        if names is None:
            noise = rng.choice(residual - residual.mean(), size=len(frame))
        else:
            noise = residual * rng.choice([-1.0, 1.0], size=int(names.max()) + 1)[names]
        fake = frame.assign(loss=smooth * np.exp(noise))
        copy = RunTable(frame=fake, excluded=table.excluded, flags=table.flags, conventions=table.conventions)
        data = as_columns(fake, ("params", "tokens", "loss"))
        problem = make_problem(fit.law, data, objective=fit.loss_term, residuals=fit.options["residuals"], weights=None)
        again = polish(problem, fit.predictor.phi[None, :])
        theta = fit.law.to_public(again.phi, problem.log_refs)
        centre = float(exponents(fit.law, theta, span, per_token)[0][0])
        for place, name in enumerate(wanted):
            if name.startswith("envelope"):
                out[index, place] = fit_envelope(copy, allow_undecayed=allow_undecayed, bootstrap=0).a.value - centre
            else:
                out[index, place] = (
                    fit_isoflop(copy, method=method, bootstrap=0, exponents=None).frontier.a.value - centre
                )
    return out
