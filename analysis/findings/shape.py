"""Width and depth: what the law of N and D misses by depth, and a law in which both stand apart.

It must not know how shapes were chosen.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.estimate import Estimate, percent_text
from analysis.figures.drawing.plate import Plate
from analysis.figures.findings.intervals import Row, draw_intervals
from analysis.findings.base import Finding, FoundTable
from analysis.fitting.fit_law import fit_law
from analysis.fitting.spec import FitSpec
from analysis.formatting import format_percent
from analysis.runs.columns import as_columns
from analysis.study.arms import arm_axis
from analysis.study.study import Study

MIN_DEPTHS = 3
"""Fewest depths of a study of shapes."""
LAW = "gemstones-shape"
"""Width, depth and tokens, each with a power of its own."""
DRAWS = 400
"""Bootstrap draws of that law."""


def shape(study: Study) -> Finding | None:
    """Say whether a parameter is worth the same in width and in depth.

    Parameters
    ----------
    study : Study
        Any.

    Returns
    -------
    Finding or None
        None with fewer than three depths, where each width has one depth, and for a sweep with arms.
    """
    frame = study.table.frame[study.fitted]
    if not {"width", "depth"} <= set(frame) or arm_axis(study.manifest, study.table.frame) is not None:
        return None
    if frame["depth"].nunique() < MIN_DEPTHS or frame.groupby("width")["depth"].nunique().max() < 2:
        return None
    off = misfit_by_depth(study)
    names = ["width", "depth", "tokens", "loss", *([study.choices.cluster] if study.choices.cluster else [])]
    spec = FitSpec(bootstrap=DRAWS, cluster=study.choices.cluster, level=study.choices.level, seed=study.choices.seed)
    fit = fit_law(LAW, as_columns(frame, names), spec)
    powers = {name: fit.estimates[name] for name in ("alpha", "beta", "zeta")}
    terms = {"alpha": "width", "beta": "depth", "zeta": "tokens"}
    rows = [Row(f"depth {depth}", _percent(estimate), 0.0) for depth, estimate in off.items()]
    words = "; ".join(f"depth {depth} {percent_text(estimate)}" for depth, estimate in off.items())
    return Finding(
        sentences=(
            f"At equal N and D, loss above what the law of N and D says, by depth: {words}.",
            "Where width and depth stand apart, the loss falls by a power of each: "
            + ", ".join(f"{terms[name]} {estimate.text(2)}" for name, estimate in powers.items())
            + f" (law {LAW}).",
        ),
        plate=Plate(
            name="shape",
            title="Width and depth",
            draw=partial(
                draw_intervals,
                [
                    ("loss above the law of N and D, per cent", rows),
                    ("power of the loss", [Row(terms[name], estimate) for name, estimate in powers.items()]),
                ],
                digits=2,
            ),
            size=(10.5, 0.9 + 0.36 * max(len(rows), 3)),
            caption=f"Left: mean residual of {study.comparison.fit.law.name}'s law by depth, with "
            f"{format_percent(study.choices.level)} t intervals over shapes; the strokes stand where depth does not "
            f"matter. Right: the powers of width, depth and tokens in {fit.law.formula}.",
        ),
        tables=(_table(off, powers, terms),),
        percent_cards=tuple(
            (f"loss at depth {depth} against the law", estimate) for depth, estimate in list(off.items())[-1:]
        ),
    )


def misfit_by_depth(study: Study) -> dict[int, Estimate]:
    """Mean residual of the study's law by depth, with a t interval over shapes.

    Parameters
    ----------
    study : Study
        With widths and depths.

    Returns
    -------
    dict of int to Estimate
        Depth -> loss over the law's, less one.
    """
    frame = study.table.frame[study.fitted]
    fit = study.comparison.fit
    predicted = fit.predict(as_columns(frame, fit.law.inputs), interval="none")["loss"].to_numpy(dtype=float)
    residual = pd.DataFrame({name: frame[name].to_numpy() for name in ("width", "depth")})
    residual["off"] = frame["loss"].to_numpy(dtype=float) / predicted - 1
    out = {}
    for depth, group in residual.groupby("depth"):
        means = group.groupby("width")["off"].mean().to_numpy()
        value, level = float(means.mean()), study.choices.level
        if means.size < 2:
            out[int(str(depth))] = Estimate(value=value, level=level, reason="one width has this depth")
            continue
        reach = float(stats.t.ppf((1 + level) / 2, means.size - 1) * means.std(ddof=1) / np.sqrt(means.size))
        out[int(str(depth))] = Estimate(value=value, lo=value - reach, hi=value + reach, level=level)
    return out


def _percent(estimate: Estimate) -> Estimate:
    if estimate.lo is None or estimate.hi is None:
        return Estimate(value=100 * estimate.value, level=estimate.level, reason=estimate.reason)
    return Estimate(value=100 * estimate.value, lo=100 * estimate.lo, hi=100 * estimate.hi, level=estimate.level)


def _table(off: dict[int, Estimate], powers: dict[str, Estimate], terms: dict[str, str]) -> FoundTable:
    rows: list[tuple[str, str]] = [(f"residual at depth {depth}", percent_text(item)) for depth, item in off.items()]
    rows += [(f"power of {terms[name]}", item.text(3)) for name, item in powers.items()]
    every: list[tuple[str, Estimate]] = [(f"residual at depth {depth}", item) for depth, item in off.items()]
    every += [(f"power of {terms[name]}", item) for name, item in powers.items()]
    frame: Any = pd.DataFrame(
        {"quantity": name, "value": item.value, "lo": item.lo, "hi": item.hi} for name, item in every
    )
    return FoundTable(
        name="shape",
        heading="By depth, and in a law of both",
        frame=frame,
        head=("quantity", "value"),
        rows=tuple(rows),
    )
