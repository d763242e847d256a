"""Which laws a table can be fitted with, and what each says about it.

Each has its fit, whether it is identified, and its predictions of held-out runs.

Owns the list of candidates and one `Candidate` for each. It must not know how a law is chosen, tables or figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.laws.base import Law
from analysis.laws.registry import LAWS, MAKERS, get_law
from analysis.runs.columns import count_from
from analysis.selection.extrapolation import Redraws, Score, information_criteria, predict_windows, score
from analysis.selection.windows import Window, compute_axis
from analysis.uncertainty.identifiability import SAME_VALUE, tied_inputs


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One law on one table."""

    name: str
    """Name as it was asked for, such as bnsl:2."""
    law: Law
    """The law."""
    fit: Fit
    """Fitted to all runs, or to those that a given hold-out leaves."""
    predicted: Array
    """What it predicts for every run in every window, shape (W, n); only held-out runs are scored."""
    score: Score
    """Errors on the held-out runs."""
    aic: float | None
    """Of `fit`; None when the law runs through every run."""
    bic: float | None
    """The same."""
    reason: str | None
    """Why it cannot be chosen: what the runs do not determine; None when they determine all of it."""

    @property
    def num_params(self) -> int:
        """Free parameters."""
        return len(self.law.parameters)


def available_columns(data: Mapping[str, Any]) -> set[str]:
    """The columns of a table, tokens where params and flops give them, and x where there is an axis of compute."""
    present = {str(name) for name in data}
    if {"params", "flops"} <= present:
        present.add("tokens")
    if present & {"flops", "tokens", "params", "step"}:
        present.add("x")
    return present


def available(data: Mapping[str, Any]) -> list[str]:
    """Names of the laws of a loss all of whose inputs are in the table.

    Parameters
    ----------
    data : mapping
        Columns by name.

    Returns
    -------
    list of str
        In the order of the registry. Optional inputs must be there too; a law of one input x reads x, or else flops.
        Laws of mixtures come with as many domains as there are columns share_1, share_2, ...
    """
    present = available_columns(data)
    offered = {name: law for name, law in LAWS.items() if law.target == "loss" and law.by_default}
    domains = sum(f"share_{j}" in present for j in range(1, len(present) + 1))
    if domains > 1:
        mixtures = [name for name in offered if MAKERS.get(name, ("", None))[0] == "domains"]
        offered = {f"{name}:{domains}" if name in mixtures else name: law for name, law in offered.items()}
        offered = {name: get_law(name) for name in offered}
    return [name for name, law in offered.items() if {*law.inputs, *law.optional} <= present]


def law_named(name: str, data: Mapping[str, Any]) -> Law:
    """The law that was asked for by name.

    Parameters
    ----------
    name : str
        Such as hoffmann or bnsl:2.
    data : mapping
        Columns by name.

    Returns
    -------
    Law
        The law.

    Raises
    ------
    UserError
        When there is none, it is not of a loss, or the table lacks an input.
    """
    law = get_law(name)
    if law.target != "loss":
        raise UserError(f"{name} gives {law.target}, not a loss, and cannot be held against laws of the loss")
    if not {*law.inputs} <= {*available_columns(data)}:
        raise UserError(f"{name} reads {', '.join(law.inputs)}, which the table does not have; leave it out of --laws")
    return law


def inputs_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The columns with tokens = flops / 6 params and x = the axis of compute where they are not there themselves.

    Parameters
    ----------
    data : mapping or DataFrame
        Columns by name.

    Returns
    -------
    dict
        Arrays by name. Values are not checked here: the fits say which rows are bad.
    """
    out = {str(name): np.asarray(data[name]) for name in data}
    if "tokens" not in out and {"params", "flops"} <= set(out):
        out["tokens"] = count_from("tokens", {name: out[name].astype(np.float64) for name in ("params", "flops")})
    if "x" not in out:
        axis, values = compute_axis(out)
        if axis != "share_1":
            out["x"] = values
    return out


def undeterminable(law: Law, data: Mapping[str, Any]) -> str | None:
    """Why no fit of a law to these rows could be identified, whatever the losses.

    An input of one value, or tokens that follow params: seen before anything is fitted, because fits of such tables are
    slow and say nothing.

    Parameters
    ----------
    law : Law
        The law.
    data : mapping
        Its inputs.

    Returns
    -------
    str or None
        The reason; None when a fit might be identified.
    """
    if not law.row_by_row:
        return None
    for name in law.inputs:
        values = np.asarray(data[name], dtype=np.float64)
        if np.ptp(values if name in law.zero_inputs else np.log(values)) < SAME_VALUE:
            return f"{name} takes one value"
    if {"params", "tokens"} <= set(law.inputs):
        logs = [np.log(np.asarray(data[name], dtype=np.float64)) for name in ("params", "tokens")]
        return tied_inputs(*logs)
    return None


def consider(
    name: str,
    data: Mapping[str, Any],
    windows: Sequence[Window],
    redraws: Redraws,
    *,
    spec: FitSpec,
    rows: NDArray[np.bool_],
) -> Candidate:
    """Fit, predict and score one law.

    Whether it is identified is asked of the rows: clusters of runs matter to the redraws, and to intervals of its
    parameters, which are not wanted here.

    Parameters
    ----------
    name : str
        Name of the law.
    data : mapping
        Columns with loss, as `inputs_of` gives them.
    windows : sequence of Window
        The splits.
    redraws : Redraws
        Draws of runs and windows.
    spec : FitSpec
        Objective, residuals, weights, bounds and level of every fit; clusters and draws have no part in it.
    rows : array of bool, shape (n,)
        What the candidate's own fit sees.

    Returns
    -------
    Candidate
        The law with its fit and its score.

    Raises
    ------
    UserError
        When it cannot be fitted to the runs or to a window of them.
    """
    law = law_named(name, data)
    seen = {key: column[rows] for key, column in data.items()}
    hopeless = undeterminable(law, seen)
    if hopeless:
        raise UserError(f"it is not identified: {hopeless}")
    smallest = min(int(window.fitted.sum()) for window in windows)
    if smallest <= len(law.parameters):
        raise UserError(f"the smallest window has {smallest} runs for {len(law.parameters)} parameters")
    losses = np.asarray(data["loss"], dtype=np.float64)
    weights = _weights(spec, data)
    single = replace(spec, weights=weights, cluster=None, strata=None, bootstrap=0)
    fit = fit_law(law, seen, replace(single, weights=None if weights is None else weights[rows]))
    predicted = predict_windows(law, data, windows, single)
    scored = score(predicted, losses, windows, redraws, level=spec.level)
    aic, bic = information_criteria(
        spec.loss_term,
        fit.objective,
        losses=losses[rows],
        weights=np.ones(int(rows.sum())) if weights is None else weights[rows],
        num_params=len(law.parameters),
        log_residuals=spec.residuals == "log",
    )
    reason = _why_not(fit, scored, windows)
    return Candidate(name=name, law=law, fit=fit, predicted=predicted, score=scored, aic=aic, bic=bic, reason=reason)


def _weights(spec: FitSpec, data: Mapping[str, Any]) -> Array | None:
    """Row weights, shape (n,), wherever they were given."""
    if spec.weights is None:
        return None
    return np.asarray(data[spec.weights] if isinstance(spec.weights, str) else spec.weights, dtype=np.float64)


def _why_not(fit: Fit, scored: Score, windows: Sequence[Window]) -> str | None:
    """What keeps a law from being chosen."""
    unknown = {name: why for name, why in fit.identified.items() if why}
    if unknown:
        by_reason: dict[str, list[str]] = {}
        for name, why in unknown.items():
            by_reason.setdefault(why, []).append(name)
        return "not identified: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
    if fit.status == "max_iterations":
        return "the solver did not reach an optimum"
    for window, error in zip(windows, scored.by_window, strict=True):
        if not math.isfinite(error):
            return f"its fit gives no finite loss for {window.name}"
    return None
