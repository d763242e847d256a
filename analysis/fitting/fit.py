"""`Fit`: the frozen result of fitting one law.

It holds parameters with intervals, covariance, predictions and the frontier, and is saved as JSON.

It holds numbers only; how they were found is elsewhere. Public parameters are in the units of the data, predictions
in the unit of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.frontier_exponents import FrontierExponents
from analysis.fitting.prediction import Interval, Predictor
from analysis.fitting.reach import Reach, why_no_interval
from analysis.formatting import format_number
from analysis.laws.base import Law
from analysis.runs.columns import as_columns, completed
from analysis.solver.certificate import Certificate
from analysis.solver.objectives import Objective
from analysis.solver.search import Status
from analysis.uncertainty.lack_of_fit import LackOfFit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted law."""

    law: Law
    """The law."""
    estimates: Mapping[str, Estimate]
    """Public parameters with standard errors and intervals, by name."""
    identified: Mapping[str, str | None]
    """By parameter: None when the data determine it, else the reason why not."""
    cov: Array
    """Covariance of the public parameters, shape (p, p)."""
    objective: float
    """The minimised sum."""
    status: Status
    """How the search ended: at a minimum, at a bound, in a flat valley, or before it was done."""
    num_rows: int
    """Rows fitted."""
    num_clusters: int
    """Independent units: rows, or clusters of rows."""
    agreement: float
    """Fraction of the polished starts that ended at this minimum."""
    certificate: Certificate | None
    """Which starts ended at the minimum, and whether they agree; None for fits saved before there was one."""
    lack_of_fit: LackOfFit | None
    """Whether its residuals hold a pattern that the law misses; None for fits saved before this was tested."""
    condition: float
    """Condition number of the scaled Gauss-Newton Hessian."""
    residual_scale: float
    """Standard deviation of one run about the law, on n - p degrees of freedom, in the unit of the residuals."""
    predictor: Predictor
    """Working parameters, draws and residuals: what predictions need."""
    frontier_estimates: FrontierExponents | None
    """Exponents of the frontier; None for laws without sizes and tokens."""
    options: Mapping[str, Any]
    """Objective, delta, residuals, level, bootstrap, seed and cluster as asked for."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our names to the table's."""
    conventions: Mapping[str, Any] = field(default_factory=dict)
    """Which N and which C."""
    warnings: tuple[str, ...] = ()
    """What the reader should know before using it."""
    runs: Mapping[str, Array] | None = None
    """The fitted rows: inputs, loss, weights, clusters and what is known of their shapes; None when they were not kept.
    Advice needs them."""

    # -- scipy and statsmodels manners ---------------------------------------------------------------------------------
    @property
    def params(self) -> dict[str, float]:
        """Point estimates by name."""
        return {name: e.value for name, e in self.estimates.items()}

    @property
    def bse(self) -> dict[str, float]:
        """Standard errors by name; NaN where there is none."""
        return {name: float("nan") if e.se is None else e.se for name, e in self.estimates.items()}

    @property
    def doubt(self) -> str | None:
        """The line that says that the law misses a pattern of the data; None where it does not."""
        return None if self.lack_of_fit is None else self.lack_of_fit.text

    @property
    def loss_term(self) -> Objective:
        """The term of the residuals that was summed and minimised."""
        return Objective.from_options(self.options)

    @property
    def level(self) -> float:
        """Nominal coverage of every interval."""
        return self.predictor.level

    @property
    def draws(self) -> Array | None:
        """Bootstrap draws of the public parameters, shape (B, p), or None."""
        p = self.predictor
        return None if p.draws is None else self.law.to_public(p.draws, p.log_refs)

    def conf_int(self) -> pd.DataFrame:
        """Intervals of the parameters: a frame indexed by name with columns lo and hi (NaN where there is none)."""
        import pandas as pd

        rows = {name: (e.lo, e.hi) for name, e in self.estimates.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["lo", "hi"], dtype=float)

    def predict(self, data: Mapping[str, Any] | pd.DataFrame, interval: Interval = "both") -> pd.DataFrame:
        """Losses (or whatever the law's target is) at new inputs, with intervals.

        Parameters
        ----------
        data : mapping or DataFrame
            The law's inputs; of params, tokens and flops any two suffice (C = 6 N D).
        interval : {"both", "confidence", "prediction", "none"}
            Of the law, of one new run, both or neither.

        Returns
        -------
        DataFrame
            The target and, as asked, confidence_lo, confidence_hi, prediction_lo, prediction_hi; one row per row of
            `data`.

        Raises
        ------
        UserError
            When an input is absent, or not finite and above zero.
        """
        import pandas as pd

        inputs = self.inputs_at(data)
        frame = pd.DataFrame(self.predictor.predict(self.law, inputs, interval))
        unknown = np.array([reason is not None for reason in why_no_interval(self, inputs)])
        frame.loc[unknown, frame.columns[1:]] = np.nan
        return frame

    def reach_notes(self, data: Mapping[str, Any] | pd.DataFrame) -> list[tuple[str | None, str | None]]:
        """Say of each row of `data` how far it lies beyond the fitted runs, and why it has no interval.

        Parameters
        ----------
        data : mapping or DataFrame
            As `predict` takes it.

        Returns
        -------
        list of (str or None, str or None)
            How far the prediction extrapolates, and why it has no interval; None where there is nothing to say.
        """
        inputs, reach = self.inputs_at(data), Reach.of(self)
        reasons = why_no_interval(self, inputs)
        return [(None if reach is None else reach.sentence(inputs, row), why) for row, why in enumerate(reasons)]

    def samples(
        self, data: Mapping[str, Any] | pd.DataFrame, num: int, *, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Draws of what the law may say at new inputs, and of one new run for each.

        Parameters
        ----------
        data : mapping or DataFrame
            As for `predict`.
        num : int
            How many draws.
        rng : Generator
            What draws them.

        Returns
        -------
        expected, new : Array, shape (num, n)
            The law's values, and the same with a residual added.

        Raises
        ------
        UserError
            When the fit has no intervals.
        """
        if self.predictor.reason is not None:
            raise UserError(f"this fit has no intervals: {self.predictor.reason}")
        return self.predictor.sample(self.law, self.inputs_at(data), num, rng=rng)

    def inputs_at(self, data: Mapping[str, Any] | pd.DataFrame) -> dict[str, Array]:
        """The law's inputs at new points, each of shape (n,); UserError where one is absent or cannot be."""
        given = self.law.prepare(as_columns(data))
        for name, column in self.predictor.aliases.items():
            if name not in given and column in given:
                given[name] = given[column]
        given = completed(given, self.law.inputs)
        missing = [n for n in self.law.inputs if n not in given]
        if missing:
            raise UserError(f"{self.law.name} needs {', '.join(missing)} to predict; give {', '.join(self.law.inputs)}")
        out = {n: np.atleast_1d(np.asarray(given[n], dtype=np.float64)) for n in self.law.inputs}
        for name, values in out.items():
            zero = name in self.law.zero_inputs
            good = np.isfinite(values) & ((values >= 0) if zero else (values > 0))
            if not good.all():
                bad, least = int(np.argmax(~good)), "at or above zero" if zero else "above zero"
                raise UserError(f"{name} must be finite and {least} to predict, not {values[bad]} (row {bad + 1})")
        return out

    def at_level(self, level: float) -> Fit:
        """The same with predictions whose intervals have another coverage."""
        calibration = replace(self.predictor.calibration, level=level)
        return replace(self, predictor=replace(self.predictor, calibration=calibration))

    def summary(self) -> str:
        """A table of the parameters, the status and the warnings, in plain text."""
        lines = [
            f"{self.law.name}: {self.law.formula}",
            f"{self.num_rows} rows, objective {self.objective:.9g} ({self.options.get('objective')}, "
            f"{self.options.get('residuals')} residuals), status {self.status}, "
            f"condition number {format_number(self.condition)}",
            f"{'':12}{'value':>12}{'se':>12}{'lo':>12}{'hi':>12}",
        ]
        if self.certificate is not None:
            lines.insert(2, self.certificate.text)
        for name, e in self.estimates.items():
            cells = "".join(f"{format_number(v):>12}" for v in (e.value, e.se, e.lo, e.hi))
            reason = self.identified.get(name)
            lines.append(f"{name:12}{cells}" + (f"  not identified: {reason}" if reason else ""))
        if self.frontier_estimates is not None:
            a = self.frontier_estimates.a
            text = a.text() if math.isfinite(a.value) else "none"
            counted = "C = 6 N D" if self.frontier_estimates.convention == "6ND" else "C as counted in the table"
            lines.append(f"N_opt ~ C**a, a = {text} with {counted}")
        if self.doubt is not None:
            lines.append(f"warning: {self.doubt}")
        lines += [f"warning: {w}" for w in self.warnings]
        return "\n".join(lines)

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={format_number(value)}" for name, value in self.params.items())
        return f"Fit({self.law.name}: {params}; {self.num_rows} rows, {self.status})"

    def _repr_html_(self) -> str:
        """Parameters with intervals, status and warnings, for notebooks."""
        rows = []
        for name, e in self.estimates.items():
            numbers = (format_number(v) for v in (e.value, e.se, e.lo, e.hi))
            cells = (name, *numbers, self.identified.get(name) or "")
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th>{name}</th>" for name in ("", "value", "se", "lo", "hi", ""))
        title = f"{self.law.name}: {self.law.formula}; {self.num_rows} rows, {self.status}"
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.warnings)
        table = f"<p>{escape(title)}</p><table><tr>{head}</tr>{''.join(rows)}</table>"
        return table + (f"<ul>{notes}</ul>" if notes else "")

    # -- JSON --------------------------------------------------------------------------------------------------------
    def to_dict(self, *, draws: str | None = None, runs: str | None = None) -> dict[str, Any]:
        """The JSON object of `fit --json`.

        Parameters
        ----------
        draws : str, optional
            Name of the file beside it that holds the draws.
        runs : str, optional
            Name of the file beside it that holds the fitted rows.

        Returns
        -------
        dict
            Plain JSON: null for what is absent, never NaN.
        """
        from analysis.fitting.fit_json import fit_to_dict

        return fit_to_dict(self, draws=draws, runs=runs)

    @classmethod
    def from_dict(
        cls,
        raw: Mapping[str, Any],
        *,
        draws: Array | None = None,
        law: Law | None = None,
        runs: Mapping[str, Array] | None = None,
    ) -> Fit:
        """The inverse of `to_dict`.

        Parameters
        ----------
        raw : mapping
            The JSON object.
        draws : Array, shape (B, p), optional
            Working parameters, read from the file that it names.
        law : Law, optional
            The law, where it is not one of the registry.
        runs : mapping, optional
            The fitted rows, read from the file that it names.

        Returns
        -------
        Fit
            As it was.

        Raises
        ------
        UserError
            When the object is not a fit of this version, or lacks a field.
        """
        from analysis.fitting.fit_json import fit_from_dict

        return fit_from_dict(raw, draws=draws, law=law, runs=runs)

    def save(self, path: str | Path) -> Path:
        """Write the fit as JSON, with its draws and its rows as Parquet beside it; each file atomically.

        Parameters
        ----------
        path : str or Path
            The JSON file; the others are `<stem>.draws.parquet` and `<stem>.runs.parquet`.

        Returns
        -------
        Path
            The JSON file.
        """
        from analysis.fitting.fit_json import save_fit

        return save_fit(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Fit:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            The JSON file. Without the draws' file beside it, intervals come from the covariance.

        Returns
        -------
        Fit
            As it was.

        Raises
        ------
        UserError
            When there is no such file, or it does not hold a fit.
        """
        from analysis.fitting.fit_json import load_fit

        return load_fit(Path(path))
