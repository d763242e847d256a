"""What is not known when runs are designed: which law holds, and its parameters.

It owns the scenarios: every law that the runs support at draws of its parameters, and the fit's own law where another
one holds. For each it gives the gradients of predictions and of the target, and what the existing runs say. It must not
know how designs are searched or shown. Shapes: S scenarios, n cells, p parameters, B draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.design.candidates import LawFit, noise_scale
from analysis.design.criterion import Discrepancy, gram
from analysis.design.target import Target, gradients, target_gradients, target_values, values
from analysis.errors import UserError
from analysis.fitting.derived import working_draws
from analysis.fitting.fit import Fit
from analysis.laws.allocation import FlopsPerToken
from analysis.solver.problem import make_problem
from analysis.uncertainty.bootstrap import cluster_codes
from analysis.uncertainty.covariance import sandwich

OWN, OTHERS, MISSPECIFIED = 0.5, 0.25, 0.25
"""Weights of the variance under the fit's own law, of that under the other laws, and of the squared error of the own
law's prediction where another law holds. Without other laws the first is all."""
RIDGE = 1e-9
"""Information added to every direction, as a part of what all cells together say about it."""


@dataclass(frozen=True, kw_only=True)
class Scenarios:
    """Gradients by scenario, padded to the largest number of parameters."""

    gradients: Array
    """Of the log loss (of the loss, for raw residuals) at every cell, shape (S, n, p)."""
    target: Array
    """Of the target, shape (S, p): log loss, loss or exponent."""
    information: Array
    """Of the existing runs for noise of one unit, shape (S, p, p)."""
    discrepancy: Discrepancy
    """What another law would have in its place; zero where the scenario's own law holds."""
    weights: Array
    """Weight of each scenario, shape (S,), adding up to one."""
    law: NDArray[np.intp]
    """Index of the law that predicts, shape (S,)."""
    truth: NDArray[np.intp]
    """Index of the law that holds, shape (S,)."""

    @property
    def well_specified(self) -> NDArray[np.bool_]:
        """Whether the law that predicts holds, shape (S,)."""
        return np.asarray(self.law == self.truth)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What every scenario is asked."""

    cells: Mapping[str, Array]
    """params and tokens of the cells, each of shape (n,)."""
    target: Target
    """What is to be known best."""
    per_token: FlopsPerToken
    """N -> training FLOPs per token along the ladder, for the compute-optimal point of a target C."""
    correlation: float
    """Share of the noise's variance that runs of one cluster have in common."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def noise_at_target(fit: Fit, target: Target, *, flops_per_token: FlopsPerToken, correlation: float) -> float:
    """Standard deviation of one run's noise as it reaches the target.

    With it the information of the existing runs gives the sandwich variance of the target, whatever the noise's
    distribution and wherever it is large.

    Parameters
    ----------
    fit : Fit
        With its runs.
    target : Target
        What is to be known best.
    flops_per_token : callable
        N -> training FLOPs per token along the ladder.
    correlation : float
        Share of the noise's variance that runs of one cluster have in common.

    Returns
    -------
    float
        `noise_scale` where noise is the same everywhere, and where the fit does not hold its runs.
    """
    plain = noise_scale(fit)
    if fit.runs is None or fit.predictor.reason is not None:
        return plain
    phi = fit.predictor.phi
    problem = make_problem(
        fit.law, fit.runs, objective=fit.loss_term, residuals=fit.options["residuals"], weights=fit.runs["weights"]
    )
    codes = cluster_codes(fit.runs.get("cluster"), problem.num_rows)
    covariance = sandwich(problem, phi, codes)
    aim = target_gradients(fit, phi[None, :], target, flops_per_token)[0]
    rows = gradients(fit, phi[None, :], fit.runs)
    information = weighed(rows, rows, fit.runs, correlation)[0]
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    linear = float((aim / scale) @ np.linalg.pinv(information / np.outer(scale, scale), hermitian=True) @ (aim / scale))
    units, p = int(codes.max()) + 1, phi.size
    found = float(np.sqrt(max(aim @ covariance @ aim, 0.0) * units / max(units - p, 1) / max(linear, 1e-300)))
    return found if np.isfinite(found) and found > 0 else plain


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def make_scenarios(fits: Sequence[LawFit], question: Question, *, draws: int) -> Scenarios:
    """Scenarios of all laws that are used.

    Parameters
    ----------
    fits : sequence of LawFit
        The fit's own law first.
    question : Question
        Cells and target.
    draws : int
        Draws of the fit's own law; half as many of every other.

    Returns
    -------
    Scenarios
        With finite gradients.

    Raises
    ------
    UserError
        When a law gives no finite gradient.
    """
    own, *others = (one.fit for one in fits if one.used)
    share = 1 / max(len(others), 1)
    parts = [_well_specified(own, working_draws(own, draws), question, law=0, weight=OWN if others else 1.0)]
    for index, other in enumerate(others, start=1):
        drawn = working_draws(other, max(draws // 2, 2))
        parts.append(_well_specified(other, drawn, question, law=index, weight=OTHERS * share))
        parts.append(_misspecified(own, other, drawn, question, truth=index, weight=MISSPECIFIED * share))
    num_params = max(part.target.shape[1] for part in parts)
    return _joined([_padded(_finite(part, question.target), num_params) for part in parts])


def _joined(parts: Sequence[Scenarios]) -> Scenarios:
    """All scenarios of some parts, which have the same number of parameters."""
    return Scenarios(
        gradients=np.concatenate([part.gradients for part in parts]),
        target=np.concatenate([part.target for part in parts]),
        information=np.concatenate([part.information for part in parts]),
        discrepancy=Discrepancy(
            cells=np.concatenate([part.discrepancy.cells for part in parts]),
            target=np.concatenate([part.discrepancy.target for part in parts]),
            moment=np.concatenate([part.discrepancy.moment for part in parts]),
        ),
        weights=np.concatenate([part.weights for part in parts]),
        law=np.concatenate([part.law for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
    )


def _well_specified(fit: Fit, phi: Array, question: Question, *, law: int, weight: float) -> Scenarios:
    """One law that holds, at draws of its parameters (B, p).

    Its units are those in which all cells together say one unit about every direction, so that nothing is singular but
    for want of runs.
    """
    (num, p), cells = phi.shape, gradients(fit, phi, question.cells)
    aim = target_gradients(fit, phi, question.target, question.per_token)
    if fit.runs is not None:
        rows = gradients(fit, phi, fit.runs)
        information = weighed(rows, rows, fit.runs, question.correlation)
    else:
        inverse = np.linalg.pinv(fit.predictor.covariance, hermitian=True) * noise_scale(fit) ** 2
        information = np.broadcast_to(inverse, (num, p, p)).copy()
    change = _whitening(gram(cells, np.ones(cells.shape[1])) + information)
    return Scenarios(
        gradients=np.matmul(cells, change),
        target=np.matmul(aim[:, None, :], change)[:, 0],
        information=np.matmul(np.matmul(change.transpose(0, 2, 1), information), change) + RIDGE * np.eye(p),
        discrepancy=Discrepancy(cells=np.zeros(cells.shape[:2]), target=np.zeros(num), moment=np.zeros((num, p))),
        weights=np.full(num, weight),
        law=np.full(num, law, dtype=np.intp),
        truth=np.full(num, law, dtype=np.intp),
    )


def _misspecified(fit: Fit, other: Fit, phi: Array, question: Question, *, truth: int, weight: float) -> Scenarios:
    """The fit's own law at its estimate, where another law holds at draws of its parameters (B, q)."""
    centre, num, runs = fit.predictor.phi[None, :], len(phi), fit.runs
    assert runs is not None
    noise = noise_scale(fit)
    own = _well_specified(fit, centre, question, law=0, weight=weight)
    at_runs = (values(other, phi, runs) - values(fit, centre, runs)) / noise
    at_cells = (values(other, phi, question.cells) - values(fit, centre, question.cells)) / noise
    theirs = target_values(other, phi, question.target, question.per_token)
    ours = target_values(fit, centre, question.target, question.per_token)
    rows = gradients(fit, centre, runs)
    cells = gradients(fit, centre, question.cells)
    change = _whitening(gram(cells, np.ones(cells.shape[1])) + weighed(rows, rows, runs, question.correlation))
    moment = weighed(np.matmul(rows, change).repeat(num, axis=0), at_runs[:, :, None], runs, question.correlation)
    return replace(
        own,
        gradients=own.gradients.repeat(num, axis=0),
        target=own.target.repeat(num, axis=0),
        information=own.information.repeat(num, axis=0),
        discrepancy=Discrepancy(cells=at_cells, target=(theirs - ours) / noise, moment=moment[:, :, 0]),
        weights=np.full(num, weight),
        law=np.zeros(num, dtype=np.intp),
        truth=np.full(num, truth, dtype=np.intp),
    )


def _whitening(everything: Array) -> Array:
    """T with T' everything T = 1 (less where nothing is said), shape (S, p, p)."""
    scale = np.sqrt(np.maximum(np.einsum("spp->sp", everything), 1e-300))
    scaled = everything / (scale[:, :, None] * scale[:, None, :])
    sound = np.isfinite(scaled).all(axis=(1, 2))
    scaled[~sound] = np.eye(scale.shape[1])
    eigenvalues, vectors = np.linalg.eigh(scaled)
    return np.asarray(vectors / np.sqrt(np.maximum(eigenvalues, 1e-12))[:, None, :] / scale[:, :, None])


def weighed(rows: Array, others: Array, runs: Mapping[str, Array], correlation: float) -> Array:
    """Sum over existing runs of w g h', less what the runs of a cluster share.

    Parameters
    ----------
    rows : Array, shape (S, n, p)
        g.
    others : Array, shape (S, n, q)
        h.
    runs : mapping
        weights (n,), and cluster (n,) where runs share noise.
    correlation : float
        Share of the noise's variance that runs of one cluster have in common.

    Returns
    -------
    Array, shape (S, p, q)
        The sums.
    """
    weights, cluster = runs["weights"], runs.get("cluster")
    heavy = (rows * weights[:, None]).transpose(0, 2, 1)
    total = np.asarray(np.matmul(heavy, others))
    if cluster is None or not correlation:
        return total
    for label in np.unique(cluster):
        mine = cluster == label
        left = heavy[:, :, mine].sum(axis=2)
        right = (others[:, mine] * weights[mine][:, None]).sum(axis=1)
        taken = correlation / (1 - correlation + correlation * float(weights[mine].sum()))
        total -= taken * left[:, :, None] * right[:, None, :]
    return total / (1 - correlation)


def _finite(part: Scenarios, target: Target) -> Scenarios:
    """Without scenarios that hold a number that is not finite; the weight of the part stays.

    Parameters
    ----------
    part : Scenarios
        Scenarios of one law.
    target : Target
        What is to be known, for the message.

    Returns
    -------
    Scenarios
        Those whose numbers are finite.

    Raises
    ------
    UserError
        When none is left.
    """
    discrepancy = part.discrepancy
    keep = np.abs(part.target).sum(axis=1) > 0
    everything = (part.gradients, part.target, part.information)
    for array in (*everything, discrepancy.cells, discrepancy.target, discrepancy.moment):
        keep &= np.isfinite(array.reshape(len(keep), -1)).all(axis=1)
    if not keep.any():
        aim = "the exponent" if target.exponent is not None else "the target"
        raise UserError(f"the laws give no finite gradient of {aim}; give a target nearer to the runs")
    return Scenarios(
        gradients=part.gradients[keep],
        target=part.target[keep],
        information=part.information[keep],
        discrepancy=Discrepancy(
            cells=discrepancy.cells[keep], target=discrepancy.target[keep], moment=discrepancy.moment[keep]
        ),
        weights=part.weights[keep] / keep.sum(),
        law=part.law[keep],
        truth=part.truth[keep],
    )


def _padded(part: Scenarios, num_params: int) -> Scenarios:
    """With `num_params` parameters, of which those that are new are known."""
    num, old = part.target.shape
    information = np.zeros((num, num_params, num_params))
    information[:] = np.eye(num_params)
    information[:, :old, :old] = part.information
    extra = ((0, 0), (0, num_params - old))
    return replace(
        part,
        gradients=np.pad(part.gradients, ((0, 0), *extra)),
        target=np.pad(part.target, extra),
        information=information,
        discrepancy=replace(part.discrepancy, moment=np.pad(part.discrepancy.moment, extra)),
    )
