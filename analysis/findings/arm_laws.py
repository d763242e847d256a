"""Arms whose losses count different predictions, each by a law of its own. It must not know what was varied."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.figures.drawing.plate import Plate
from analysis.figures.findings.intervals import Row, draw_intervals
from analysis.findings.base import Finding, FoundTable
from analysis.fitting.fit import Fit
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.formatting import format_percent
from analysis.runs.bootstrap_clusters import choose
from analysis.runs.columns import as_columns
from analysis.runs.roles import OTHER_ARM, OTHER_RATE
from analysis.study.arms import arm_axis
from analysis.study.study import Study

EXPONENTS = {"alpha": "size", "beta": "data"}
"""Parameters of a law that are compared, and what each is the exponent of."""


def arm_laws(study: Study) -> Finding | None:
    """Fit the study's law to every arm, and lay the exponents side by side.

    Losses of different objectives cannot be subtracted from one another; how fast each falls can be compared.

    Parameters
    ----------
    study : Study
        Of a sweep with arms.

    Returns
    -------
    Finding or None
        None where the arms share an objective, or the law has neither exponent.
    """
    axis = arm_axis(study.manifest, study.table.frame)
    frame = study.table.frame
    if axis is None or "objective" not in frame or frame["objective"].nunique() < 2:
        return None
    runs = frame[~frame["role_shown"].isin(["mid-run", OTHER_RATE])]
    runs = runs.iloc[np.argsort(runs["role_shown"] == OTHER_ARM, kind="stable")]  # the reference first
    fits = {str(arm): _fit(study, group) for arm, group in runs.groupby(axis, sort=False)}
    shown = [name for name in EXPONENTS if any(isinstance(fit, Fit) and name in fit.estimates for fit in fits.values())]
    if not shown:
        return None
    found = {name: {arm: _estimate(fit, name, study) for arm, fit in fits.items()} for name in shown}
    return Finding(
        sentences=(
            f"Losses of different objectives count different predictions, so that each {axis} has a law of its own.",
            *(_sentence(name, estimates) for name, estimates in found.items()),
        ),
        plate=Plate(
            name="arm-laws",
            title="How fast each loss falls",
            draw=partial(
                draw_intervals,
                [
                    (f"{name}, exponent of {EXPONENTS[name]}", [Row(arm, one) for arm, one in estimates.items()])
                    for name, estimates in found.items()
                ],
                digits=2,
            ),
            size=(9.4, 1.1 + 0.36 * max(2, len(fits) - 1)),
            caption=f"Exponents of {study.comparison.fit.law.name}'s law, fitted to all runs of each arm, with "
            f"{format_percent(study.choices.level)} intervals. A larger exponent means that the loss falls faster "
            "towards its own floor.",
        ),
        tables=(_table(axis, found),),
        cards=tuple((f"{name} of {arm}", one) for name in shown[-1:] for arm, one in found[name].items()),
    )


def _fit(study: Study, runs: pd.DataFrame) -> Fit | str:
    """The law of an arm, or why it has none."""
    choices = study.choices
    cluster, _ = choose(runs, len(study.comparison.fit.law.parameters))
    names = [name for name in ("params", "tokens", "loss", cluster) if name is not None]
    spec = FitSpec(bootstrap=choices.bootstrap, cluster=cluster, level=choices.level, seed=choices.seed)
    try:
        return fit_law(choices.law, as_columns(runs, names), spec)
    except UserError as error:
        return str(error)


def _estimate(fit: Fit | str, name: str, study: Study) -> Estimate:
    """A parameter of an arm's law, or the reason for none."""
    if isinstance(fit, Fit):
        return fit.estimates[name]
    return Estimate(value=np.nan, level=study.choices.level, reason=fit)


def _sentence(name: str, estimates: dict[str, Estimate]) -> str:
    """An exponent of every arm, and whether the intervals tell the arms apart."""
    words = "; ".join(f"{arm} {one.text(2)}" for arm, one in estimates.items())
    ends = [(one.lo, one.hi) for one in estimates.values() if one.lo is not None and one.hi is not None]
    verdict = ""
    if len(ends) > 1:
        common = max(lo for lo, _ in ends) <= min(hi for _, hi in ends)
        verdict = " All intervals overlap." if common else " Not all intervals overlap."
    return f"The {EXPONENTS[name]} exponent {name} by arm: {words}.{verdict}"


def _table(axis: str, found: dict[str, dict[str, Estimate]]) -> FoundTable:
    listed = [(arm, name, one) for name, estimates in found.items() for arm, one in estimates.items()]
    frame = pd.DataFrame(
        {
            axis: arm,
            "parameter": name,
            "value": one.value,
            "lo": np.nan if one.lo is None else one.lo,
            "hi": np.nan if one.hi is None else one.hi,
            "reason": one.reason or "",
        }
        for arm, name, one in listed
    )
    rows = tuple((arm, name, one.text(3)) for arm, name, one in listed)
    return FoundTable(
        name="arm-laws", heading="Exponents by arm", frame=frame, head=(axis, "exponent", "fitted"), rows=rows
    )
