"""Arms of a sweep against the first of them, by paired differences. It must not know what was varied."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from analysis.estimate import Estimate
from analysis.figures.drawing.plate import Plate
from analysis.figures.paired import draw_arms
from analysis.findings.base import Finding, FoundTable
from analysis.formatting import format_percent
from analysis.paired.arms import arm_table, at_best_rates, pooled
from analysis.study.arms import arm_axis
from analysis.study.study import Study


def arms(study: Study) -> Finding | None:
    """Pool the paired differences of every arm over cells of equal shape, tokens and seed.

    Parameters
    ----------
    study : Study
        With the records of its runs.

    Returns
    -------
    Finding or None
        None for a sweep without arms or without records, and arms whose losses count other tokens. In a tuned sweep
        each arm is taken at its own best rate.
    """
    axis = arm_axis(study.manifest, study.table.frame)
    if axis is None or study.manifest is None or not study.records:
        return None
    records, best = at_best_rates(study.records, axis)
    frame = arm_table(records, axis, reference=study.choices.reference, level=study.choices.level)
    summary = pooled(frame, level=study.choices.level)
    if not len(summary):
        return None
    reference = str(frame.loc[frame["reason"] == "the reference", "arm"].iloc[0])
    level = study.choices.level
    ordered = summary.sort_values("difference").to_dict("records")
    measured = [(str(row["arm"]), _estimate(row, level)) for row in ordered]
    words = "; ".join(f"{arm} {_signed(estimate)}" for arm, estimate in measured)
    cells = int(summary["num_cells"].max())
    return Finding(
        sentences=(
            f"Loss less that of {reference} on the same validation text, after the same order of training tokens, in "
            f"nats per token over up to {cells} pairs{at_rates(best)}: {words}.",
        ),
        plate=Plate(
            name="arms",
            title="Arms against the reference",
            draw=partial(draw_arms, frame),
            size=(8.0, 1.5 + 0.42 * len(summary)),
            caption="Every point is a pair of runs of one shape, budget and seed, with its interval over validation "
            f"documents. Means below have {format_percent(level)} intervals over pairs.",
        ),
        tables=(_table(summary, measured),),
        cards=tuple((f"{arm} less {reference}, nats", estimate) for arm, estimate in measured[:1]),
    )


def at_rates(best: pd.DataFrame) -> str:
    """That each arm has its own best rate, and where that is an outermost one; empty where rates were not tried."""
    if best.empty:
        return ""
    outer = int((best["edge"] != "").sum())
    edges = f" ({outer} of {len(best)} of them outermost, so that a better one may lie beyond)" if outer else ""
    return f", each arm at the best of the peak rates that were tried{edges}"


def _estimate(row: Mapping[Any, Any], level: float) -> Estimate:
    if pd.isna(row["lo"]):
        return Estimate(value=row["difference"], level=level, reason=row["reason"])
    return Estimate(value=row["difference"], lo=row["lo"], hi=row["hi"], level=level)


def _signed(estimate: Estimate) -> str:
    """A difference with its sign to three decimals."""
    if estimate.lo is None or estimate.hi is None:
        return f"{estimate.value:+.3f} (no interval: {estimate.reason})"
    return f"{estimate.value:+.3f} ({estimate.lo:+.3f}, {estimate.hi:+.3f})"


def _table(summary: pd.DataFrame, measured: list[tuple[str, Estimate]]) -> FoundTable:
    counts = dict(zip(summary["arm"].astype(str), summary["num_cells"], strict=True))
    rows = tuple((arm, str(counts[arm]), _signed(estimate)) for arm, estimate in measured)
    head = ("arm", "pairs", "mean difference, nats per token")
    return FoundTable(name="arms", heading="Mean differences", frame=summary, head=head, rows=rows)
