"""The three approaches side by side, and a test of whether they disagree by more than design and noise explain.

The approaches see the same runs and each has a bias of its own (a parabola on a finite grid, the discrete winners of an
envelope), so intervals that fail to overlap, or overlap, prove little. The test simulates: losses are drawn from
the fitted law at the very design with residuals of the fit, all three approaches are applied to every simulated
table, and the observed differences of a are compared with the simulated ones (Mahalanobis distance, rank among
simulations). It must not know figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.files import json_ready
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitOptions, FitSpec, spec_from
from analysis.formatting import html_table
from analysis.frontiers.curves import Method
from analysis.frontiers.envelope import fit_envelope
from analysis.frontiers.flops_per_token import Shapes
from analysis.frontiers.frontier import Frontier
from analysis.frontiers.isoflop_fit import REFERENCE_EXPONENTS, IsoflopFit, fit_isoflop
from analysis.frontiers.parametric import parametric_frontier
from analysis.laws.allocation import exponents
from analysis.laws.base import Law
from analysis.runs.columns import as_columns
from analysis.runs.conventions import flops_convention
from analysis.runs.table import RunTable
from analysis.solver.newton import polish
from analysis.solver.problem import make_problem

NUM_DRAWS = 1000
"""Draws of an interval where none are named."""
SIMULATIONS = 99
"""Simulated tables of the test: the smallest p-value is 1 / 100."""
MIN_SIMULATIONS = 20
"""Fewest simulated tables, of which every approach made an exponent, that make a test."""
NUM_GRID = 25
"""Budgets of the parametric frontier where none are named."""
MIN_EXPONENT = 0.01
"""alpha and beta below this are no basis for the bias of an IsoFLOP curve."""


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

    def __repr__(self) -> str:
        exponents_text = ", ".join(f"{frontier.method} {frontier.a}" for frontier in self.frontiers)
        return f"Comparison(a by {exponents_text})"

    def _repr_html_(self) -> str:
        """Exponents side by side and the verdict, for notebooks."""
        rows = [(one.method, str(one.a), "" if one.b is None else str(one.b)) for one in self.frontiers]
        rows += [(name, reason, "") for name, reason in self.missing.items()]
        head = ("approach", "a of N_opt ~ C^a", "b of D_opt ~ C^b")
        return f"{html_table(head, rows)}<p>{escape(self.verdict)}</p>"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ready: dict[str, Any] = json_ready(
            {
                "frontiers": [frontier.to_dict() for frontier in self.frontiers],
                "missing": self.missing,
                "differences": {name: item.to_dict() for name, item in self.differences.items()},
                "p_value": self.p_value,
                "verdict": self.verdict,
            }
        )
        return ready


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One table, the law fitted to it, and how the approaches are applied to it and to simulated copies of it."""

    table: RunTable
    fit: Fit
    shapes: Shapes
    method: Method
    allow_undecayed: bool
    spec: FitSpec


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """What the test found."""

    differences: dict[str, Estimate]
    p_value: float | None
    verdict: str


def compare_approaches(
    table: RunTable,
    spec: FitSpec | None = None,
    *,
    law: str | Law | Fit = "hoffmann",
    method: Method = "parabola",
    allow_undecayed: bool = False,
    flops: Array | None = None,
    simulations: int = SIMULATIONS,
    **options: Unpack[FitOptions],
) -> Comparison:
    """Apply all three approaches to the runs of a table and test whether they disagree.

    Parameters
    ----------
    table : RunTable
        Runs with params, tokens, flops and loss.
    spec : FitSpec, optional
        How the law is fitted; draws (1,000 by default), clusters, level and seed of every interval.
    law : str, Law or Fit
        Law of the parametric fit, or a fit of the same rows when there is one already.
    method : {"parabola", "cubic", "akima"}
        The IsoFLOP curve.
    allow_undecayed : bool
        Whether points in mid-run may enter the envelope.
    flops : Array, shape (m,), optional
        Compute at which the parametric frontier is wanted; the range of the table by default.
    simulations : int
        Simulated tables of the test; 0 for none.
    **options
        Fields of the FitSpec by keyword; they go before those of `spec`.

    Returns
    -------
    Comparison
        The frontiers, their differences and the verdict.

    Raises
    ------
    UserError
        When the law cannot be fitted.
    """
    spec = spec_from(spec, options, bootstrap=NUM_DRAWS).reseeded()
    frame = table.frame
    if isinstance(law, Fit):
        fit = law
    else:
        columns = ["params", "tokens", "flops", "loss", *([spec.cluster] if isinstance(spec.cluster, str) else [])]
        fit = fit_law(law, as_columns(frame, columns), spec, conventions=table.conventions)
    setting = _Setting(
        table=table,
        fit=fit,
        shapes=Shapes.from_frame(frame),
        method=method,
        allow_undecayed=allow_undecayed,
        spec=spec,
    )
    found, isoflop, missing = _other_approaches(setting)
    grid = np.geomspace(float(frame["flops"].min()), float(frame["flops"].max()), NUM_GRID) if flops is None else flops
    convention = flops_convention(table.conventions)
    parametric = parametric_frontier(fit, grid, flops_per_token=setting.shapes.ladder, convention=convention)
    others = [one for one in found if math.isfinite(one.a.value)]
    missing |= {one.method: "; ".join(one.warnings) for one in found if not math.isfinite(one.a.value)}
    tested = _tested(setting, others, parametric.a.value, simulations)
    return Comparison(
        fit=fit,
        isoflop=isoflop,
        frontiers=(*found, parametric),
        missing=missing,
        differences=tested.differences,
        p_value=tested.p_value,
        verdict=tested.verdict,
    )


def _other_approaches(setting: _Setting) -> tuple[list[Frontier], IsoflopFit | None, dict[str, str]]:
    """The envelope and the IsoFLOP minima as far as the table has them, and why not."""
    table, fit, spec = setting.table, setting.fit, setting.spec
    drawn = FitSpec(bootstrap=spec.bootstrap, cluster=spec.cluster, level=spec.level, seed=spec.seed)
    found: list[Frontier] = []
    missing: dict[str, str] = {}
    isoflop: IsoflopFit | None = None
    try:
        found.append(fit_envelope(table, drawn, allow_undecayed=setting.allow_undecayed))
    except UserError as error:
        missing["envelope"] = str(error)
    try:
        skew = tuple(fit.params.get(name, 0.0) for name in ("alpha", "beta"))
        bias = (skew[0], skew[1]) if min(skew) > MIN_EXPONENT else REFERENCE_EXPONENTS
        isoflop = fit_isoflop(table, drawn, method=setting.method, exponents=bias)
        found.append(isoflop.frontier)
    except UserError as error:
        missing["isoflop"] = str(error)
    return found, isoflop, missing


def _tested(setting: _Setting, others: Sequence[Frontier], centre: float, simulations: int) -> _Finding:
    """Whether the exponents of the other approaches differ from the parametric one by more than simulated ones do."""
    level = setting.spec.level
    observed = np.array([one.a.value - centre for one in others])
    if not others or simulations <= 0 or not math.isfinite(centre):
        why = "no test was asked for" if others else "only one approach gives an exponent"
        differences = {
            one.method: Estimate(value=float(value), level=level, reason=why)
            for one, value in zip(others, observed, strict=True)
        }
        return _Finding(differences=differences, p_value=None, verdict=f"Not tested: {why}.")
    simulated = _simulate(setting, [one.method for one in others], simulations)
    finite = simulated[np.isfinite(simulated).all(axis=1)]
    middle = finite.mean(axis=0) if len(finite) else np.zeros(len(others))
    differences = {
        one.method: Estimate.from_draws(float(value), value + drawn - mean, level=level)
        for one, value, drawn, mean in zip(others, observed, finite.T, middle, strict=True)
    }
    if len(finite) < MIN_SIMULATIONS:
        verdict = f"Not tested: {len(finite)} of {simulations} simulated tables gave an exponent by every approach"
        verdict += (
            f", and {MIN_SIMULATIONS} are needed; raise --simulations."
            if len(finite) == simulations
            else f", and {MIN_SIMULATIONS} are needed; the table is too small or too noisy for one of them."
        )
        return _Finding(differences=differences, p_value=None, verdict=verdict)
    p_value = rank_of(observed, finite)
    word = "disagree beyond" if p_value < 1 - level else "do not disagree beyond"
    verdict = (
        f"The approaches {word} what design and noise explain (p = {p_value:.2g}, {len(finite)} simulated tables; "
        f"the smallest p that can be found is {1 / (1 + len(finite)):.2g})."
    )
    return _Finding(differences=differences, p_value=p_value, verdict=verdict)


def rank_of(observed: Array, simulated: Array) -> float:
    """p-value of observed differences by their rank among simulated ones.

    Parameters
    ----------
    observed : Array, shape (k,)
        Differences of the approaches.
    simulated : Array, shape (m, k)
        The same of simulated tables.

    Returns
    -------
    float
        Rank of the Mahalanobis distance from the simulated mean, between 1 / (m + 1) and 1.
    """
    middle = simulated.mean(axis=0)
    covariance = np.atleast_2d(np.cov(simulated, rowvar=False))
    inverse = np.linalg.pinv(covariance + 1e-12 * np.trace(covariance) * np.eye(len(middle)))

    def distance(values: Array) -> Array:
        centred = np.atleast_2d(values) - middle
        return np.asarray(np.einsum("ij,jk,ik->i", centred, inverse, centred))

    return float((1 + (distance(simulated) >= distance(observed)[0]).sum()) / (1 + len(simulated)))


def _simulate(setting: _Setting, wanted: Sequence[str], count: int) -> Array:
    """(count, approaches) differences of a from the parametric one on tables simulated from the fitted law.

    Deviations are the fit's own residuals of log loss, widened for the parameters fitted; with clusters, every
    cluster's residuals are multiplied by one random sign instead of being shuffled.
    """
    fit, frame = setting.fit, setting.table.frame
    smooth = fit.predict(as_columns(frame, fit.law.inputs), interval="none")["loss"].to_numpy()
    residual = np.log(frame["loss"].to_numpy(dtype=float)) - np.log(smooth)
    residual = residual * math.sqrt(len(frame) / max(len(frame) - len(fit.params), 1))
    seed = setting.spec.seed
    assert isinstance(seed, int)  # reseeded
    rng = np.random.default_rng([seed, 1])
    labels = setting.spec.cluster_labels(frame)
    names: NDArray[np.intp] | None = None if labels is None else pd.factorize(labels.astype(str))[0]
    span = (math.log(float(frame["flops"].min())), math.log(float(frame["flops"].max())))
    out = np.full((count, len(wanted)), math.nan)
    for index in range(count):
        if names is None:
            noise = rng.choice(residual - residual.mean(), size=len(frame))
        else:
            noise = residual * rng.choice([-1.0, 1.0], size=int(names.max()) + 1)[names]
        copy = replace(setting.table, frame=frame.assign(loss=smooth * np.exp(noise)))
        centre = _parametric_exponent(setting, copy, span)
        out[index] = [_exponent(setting, copy, name) - centre for name in wanted]
    return out


def _parametric_exponent(setting: _Setting, copy: RunTable, span: tuple[float, float]) -> float:
    """a of the law fitted to a simulated table, from the fit to the real one."""
    fit = setting.fit
    data = as_columns(copy.frame, ("params", "tokens", "loss"))
    problem = make_problem(fit.law, data, objective=fit.loss_term, residuals=fit.options["residuals"])
    theta = fit.law.to_public(polish(problem, fit.predictor.phi[None, :]).phi, problem.log_refs)
    return float(exponents(fit.law, theta, span, setting.shapes.ladder)[0][0])


def _exponent(setting: _Setting, copy: RunTable, approach: str) -> float:
    """a of another approach on a simulated table."""
    if approach.startswith("envelope"):
        return fit_envelope(copy, allow_undecayed=setting.allow_undecayed, bootstrap=0).a.value
    return fit_isoflop(copy, method=setting.method, bootstrap=0, exponents=None).frontier.a.value
