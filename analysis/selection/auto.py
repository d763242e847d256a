"""`auto`: a weighted set of laws in place of one, whose intervals admit that a law may be wrong.

Every law that the table's columns allow is fitted. `cutoffs` weighs them and says by how much their intervals must be
wider than each law thinks. Owns the fitted set and its predictions; it must not know tables, figures or verbs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.prediction import INTERVALS, Interval
from analysis.fitting.spec import FitOptions, FitSpec, spec_from
from analysis.formatting import counted, format_number
from analysis.laws.base import Law
from analysis.runs.columns import as_columns
from analysis.selection.averaging import thin, weighted_quantiles
from analysis.selection.candidates import available, inputs_of, law_named, undeterminable
from analysis.selection.cutoffs import CutOff, Member, law_weights, track_record, undetermined_break, widening
from analysis.selection.windows import compute_axis, nested_windows
from analysis.solver.problem import make_problem
from analysis.uncertainty.bootstrap import cluster_codes
from analysis.uncertainty.quantiles import student_quantile

if TYPE_CHECKING:
    import pandas as pd

SPARE = 4
"""A law is in the set where there are so many independent runs beyond its parameters."""
BREAK = "hoffmann-break"
"""The law with a break, which has a part in the set where the runs determine the break."""
LEAST_WEIGHT = 1e-3
"""Laws of less weight are left out."""
QUANTILES = (np.arange(199) + 0.5) / 199
"""Probabilities at which each law's deviations are laid out."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What one law says at some points, on the scale of the residuals: Student's t about a middle."""

    middle: Array
    """Shape (n,)."""
    scale: Array
    """Shape (n,)."""
    dof: float
    """Degrees of freedom."""


def mixture_ends(laws: Sequence[Predicted], shares: Array, level: float, residuals: Sequence[Array] | None) -> Array:
    """Ends of the intervals of a weighted set of laws.

    Parameters
    ----------
    laws : sequence of Predicted
        What each law says.
    shares : Array, shape (laws,)
        Weights.
    level : float
        Nominal coverage.
    residuals : sequence of Array, or None
        Residuals of each law, for one new run; None for the expected loss.

    Returns
    -------
    Array, shape (n, 2)
        Lower and upper ends, on the scale of the residuals.
    """
    tails = ((1 - level) / 2, (1 + level) / 2)
    units = [student_quantile(QUANTILES, one.dof) for one in laws]
    out = np.empty((laws[0].middle.size, 2))
    for row in range(len(out)):
        parts = [one.middle[row] + one.scale[row] * unit for one, unit in zip(laws, units, strict=True)]
        if residuals is not None:
            parts = [(p[:, None] + r[None, :]).ravel() for p, r in zip(parts, residuals, strict=True)]
        out[row] = weighted_quantiles(parts, shares.tolist(), tails)
    return out


@dataclass(frozen=True, kw_only=True)
class AutoFit:
    """Laws fitted to the same runs, weighed by how they fit, and widened by how they extrapolated."""

    fits: Mapping[str, Fit]
    """By name of the law, the heaviest first."""
    weights: Mapping[str, float]
    """By name; they sum to one."""
    widening: float
    """Factor on each law's own intervals: how far errors at cut-offs exceeded what was expected."""
    record: tuple[CutOff, ...]
    """What the weighted laws said at cut-offs in compute; empty where runs cannot be split."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why other laws have no part in it."""
    warnings: tuple[str, ...] = ()
    """What the reader should know before using it."""

    @property
    def best(self) -> Fit:
        """The law of the largest weight."""
        return next(iter(self.fits.values()))

    @property
    def law(self) -> Law:
        """The law of the largest weight: its inputs are those of the set."""
        return self.best.law

    @property
    def level(self) -> float:
        """Nominal coverage of every interval."""
        return self.best.level

    @property
    def columns(self) -> Mapping[str, str]:
        """Our names to the table's."""
        return self.best.columns

    def reach_notes(self, data: Mapping[str, Any] | pd.DataFrame) -> list[tuple[str | None, str | None]]:
        """Say of each row of `data` how far it lies beyond the fitted runs; every prediction has an interval."""
        return [(beyond, None) for beyond, _ in self.best.reach_notes(data)]

    def at_level(self, level: float) -> AutoFit:
        """The same with intervals of another coverage."""
        return replace(self, fits={name: fit.at_level(level) for name, fit in self.fits.items()})

    def predict(self, data: Mapping[str, Any] | pd.DataFrame, interval: Interval = "both") -> pd.DataFrame:
        """Losses at new inputs, with intervals that hold the disagreement of laws and their record at cut-offs.

        Parameters
        ----------
        data : mapping or DataFrame
            Inputs of the laws; of params, tokens and flops any two suffice (C = 6 N D).
        interval : {"both", "confidence", "prediction", "none"}
            Of the expected loss, of one new run, both or neither.

        Returns
        -------
        DataFrame
            The loss and, as asked, confidence_lo, confidence_hi, prediction_lo, prediction_hi.

        Raises
        ------
        UserError
            When an input is absent, or not finite and above zero.
        """
        import pandas as pd

        if interval not in INTERVALS:
            raise UserError(f"interval is both, confidence, prediction or none, not {interval!r}")
        given = as_columns(data)
        log = self.best.predictor.log_residuals
        laws = [self._at(fit, given) for fit in self.fits.values()]
        shares = np.array(list(self.weights.values()))
        centre = shares @ np.stack([one.middle for one in laws])
        out = {"loss": np.exp(centre) if log else centre}
        for kind in ("confidence", "prediction"):
            if interval in ("both", kind):
                residuals = (
                    [thin(fit.predictor.residuals) for fit in self.fits.values()] if kind == "prediction" else None
                )
                ends = mixture_ends(laws, shares, self.level, residuals)
                ends = np.exp(ends) if log else ends
                out |= {f"{kind}_lo": ends[:, 0], f"{kind}_hi": ends[:, 1]}
        return pd.DataFrame(out)

    def _at(self, fit: Fit, given: Mapping[str, Any]) -> Predicted:
        """What one law says, its deviations widened."""
        frame = fit.predictor.predict(fit.law, fit.inputs_at(given), "confidence")
        centre, lo, hi = (frame[name] for name in (fit.law.target, "confidence_lo", "confidence_hi"))
        if fit.predictor.log_residuals:
            centre, lo, hi = (np.log(np.maximum(column, 1e-300)) for column in (centre, lo, hi))
        calibration = fit.predictor.calibration
        unit = float(student_quantile(np.array([0.5 + calibration.level / 2]), calibration.dof)[0])
        return Predicted(middle=centre, scale=self.widening * (hi - lo) / (2 * unit), dof=calibration.dof)

    @cached_property
    def shares(self) -> str:
        """The laws with their weights, in words."""
        return ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in self.weights.items() if weight >= 0.005)

    @property
    def verdict(self) -> str:
        """What cut-offs showed, in one sentence."""
        if not self.record:
            return "runs could not be split by compute: how these laws extrapolate is untested"
        count = len(self.record)
        where = f"at {counted(count, 'cut-off')} in compute"
        if self.widening <= 1.05:
            return f"{where} these laws were off by no more than they expected"
        return (
            f"{where} these laws were off by {format_number(self.widening, 2)} times what they expected: "
            "intervals are wider by that"
        )

    def summary(self) -> str:
        """Weights, the record at cut-offs and the laws left out, in plain text."""
        lines = [f"auto: {len(self.fits)} laws, {self.best.num_rows} rows", self.verdict]
        lines += [
            f"{name:18}{100 * weight:6.1f} %  {self.fits[name].law.formula}" for name, weight in self.weights.items()
        ]
        lines += [f"left out: {name} ({why})" for name, why in self.left_out.items()]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def __repr__(self) -> str:
        return f"AutoFit({self.shares}; {self.best.num_rows} rows)"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def fit_auto(
    data: Mapping[str, Any] | pd.DataFrame,
    spec: FitSpec | None = None,
    *,
    laws: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    conventions: Mapping[str, Any] | None = None,
    **options: Unpack[FitOptions],
) -> AutoFit:
    """Fit every law that the columns allow, and weigh them.

    Intervals of each law come from its sandwich covariance; no draws are made.

    Parameters
    ----------
    data : mapping or DataFrame
        Loss, and params and tokens (or flops), or one input.
    spec : FitSpec, optional
        How to fit; draws and strata have no part in it.
    laws : sequence of str, optional
        Names; by default every law of the loss that reads both params and tokens where the table has them, else every
        law of one input.
    columns, conventions : mapping, optional
        As `fit_law` takes them.
    **options
        Fields of the FitSpec by keyword.

    Returns
    -------
    AutoFit
        The laws with their weights, and the factor of their intervals.

    Raises
    ------
    UserError
        When no law can be fitted.
    """
    given = inputs_of(as_columns(data))
    spec = replace(spec_from(spec, options), bootstrap=0, strata=None)
    labels = spec.cluster_labels(given)
    codes = cluster_codes(labels, np.size(given["loss"]))
    fits: dict[str, Fit] = {}
    left_out: dict[str, str] = {}
    names = laws_for(given) if laws is None else laws
    _refuse_few(names, given, int(codes.max()) + 1)
    for name in names:
        law = law_named(name, given)
        try:
            hopeless = undeterminable(law, given)
            if hopeless:
                raise UserError(hopeless)
            if int(codes.max()) + 1 < len(law.parameters) + SPARE:
                raise UserError(
                    f"{int(codes.max()) + 1} independent runs are too few for {len(law.parameters)} parameters"
                )
            fit = fit_law(law, given, spec, columns=columns, conventions=conventions)
            unsure = undetermined_break(law, fit.predictor.phi, fit.predictor.covariance) if name == BREAK else None
            if unsure:
                raise UserError(unsure)
            fits[name] = fit
        except UserError as error:
            left_out[name] = str(error)
    if not fits:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UserError(f"no law can be fitted to these runs ({why}); give more runs, or name one with --law")
    members = [_member(fit, given, spec, codes) for fit in fits.values()]
    try:
        record = track_record(members, nested_windows(given), compute_axis(given)[1])
    except UserError:  # one value of compute: nothing to extrapolate from
        record = ()
    factor = widening(record)
    units = int(codes.max()) + 1
    found = law_weights(
        [fit.objective for fit in fits.values()],
        [len(fit.law.parameters) for fit in fits.values()],
        units,
        dispersion=factor**2,
    )
    kept = {name: float(w) for name, w in zip(fits, found, strict=True) if w >= LEAST_WEIGHT}
    order = sorted(kept, key=lambda name: -kept[name])
    left_out |= {name: "no weight: it fits these runs far worse" for name in fits if name not in kept}
    total = sum(kept.values())
    return AutoFit(
        fits={name: fits[name] for name in order},
        weights={name: kept[name] / total for name in order},
        widening=factor,
        record=record,
        left_out=left_out,
        warnings=_warnings(fits[order[0]]),
    )


def _refuse_few(names: Sequence[str], given: Mapping[str, Any], units: int) -> None:
    """Say so in one sentence when there are too few independent runs for any of the laws."""
    needed = min((len(law_named(name, given).parameters) + SPARE for name in names), default=0)
    if units < needed:
        raise UserError(
            f"weighing laws takes {needed} independent runs, and these are {units}; give more runs, or name one law "
            "with --law"
        )


def laws_for(data: Mapping[str, Any]) -> list[str]:
    """The laws of a loss that say how it changes with size and data, or with the one input that the table has.

    Beside those that `select` offers stands the law with a break.

    Parameters
    ----------
    data : mapping
        Columns by name.

    Returns
    -------
    list of str
        In the order of the registry.
    """
    names = available(data)
    both = [name for name in names if {"params", "tokens"} <= set(law_named(name, data).inputs)]
    return [*both, BREAK] if both else [name for name in names if law_named(name, data).inputs == ("x",)]


def _member(fit: Fit, given: Mapping[str, Any], spec: FitSpec, codes: Any) -> Member:
    """A fit as the cut-offs take it."""
    weights = given[spec.weights] if isinstance(spec.weights, str) else spec.weights
    problem = make_problem(
        fit.law, given, objective=spec.loss_term, residuals=spec.residuals, weights=weights, bounds=spec.bounds
    )
    return Member(problem=problem, phi=fit.predictor.phi, codes=codes)


def _warnings(best: Fit) -> tuple[str, ...]:
    """What the law of the largest weight says of few runs and clusters; not that parameters are unknown."""
    return tuple(text for text in best.warnings if "few for" in text)
