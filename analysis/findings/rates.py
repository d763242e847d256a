"""Peak learning rates: the best one of every cell, by arm, and how it moves with size and tokens.

It must not know which rule set the rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.figures.drawing.plate import Plate
from analysis.figures.findings.bowls import draw_bowls
from analysis.findings.base import Finding, FoundTable
from analysis.formatting import format_number, format_size
from analysis.paired.best_rates import Tuned, tune
from analysis.paired.cells import make_cells, varying
from analysis.study.arms import arm_axis
from analysis.study.study import Study

ONE = "all runs"
"""The name of the one arm of a sweep without arms."""


def rates(study: Study) -> Finding | None:
    """Find the best peak rate of every cell of a tuned sweep, and its law.

    Parameters
    ----------
    study : Study
        Any.

    Returns
    -------
    Finding or None
        None for a sweep that is not tuned.
    """
    if study.manifest is None or study.manifest.sweep.get("design") != "tuned":
        return None
    frame = study.table.frame
    axis = arm_axis(study.manifest, frame)
    arms = frame[axis].astype(str) if axis is not None else pd.Series(ONE, index=frame.index)
    try:
        found = {arm: tuned_arm(frame[arms == arm]) for arm in dict.fromkeys(arms)}
    except UserError:
        return None  # too few cells for a law of the best rate
    every = pd.concat([cells.assign(arm=arm) for arm, (_, cells) in found.items()], ignore_index=True)
    return Finding(
        sentences=tuple(_sentence(arm, tuned) for arm, (tuned, _) in found.items()),
        plate=Plate(
            name="rates",
            title="The best peak learning rate",
            draw=partial(draw_bowls, frame.assign(arm=arms), every),
            size=(10.5, 3.9),
            caption="Loss over the least of its cell, by peak learning rate; one colour for each size, lighter lines "
            "for fewer tokens. Triangles on the axis are the best rates that the runs of all cells tell together.",
        ),
        tables=(_table(every),),
        cards=tuple(
            (f"power of N in the best rate, {arm}", tuned.exponents["params"])
            for arm, (tuned, _) in found.items()
            if "params" in tuned.exponents
        ),
    )


def tuned_arm(frame: pd.DataFrame) -> tuple[Tuned, pd.DataFrame]:
    """The best rates of the cells of one arm.

    Parameters
    ----------
    frame : DataFrame
        Runs with params, tokens, lr and loss.

    Returns
    -------
    tuned : Tuned
        The law.
    cells : DataFrame
        params, tokens, rate, lo, hi, loss, num_runs, edge.

    Raises
    ------
    UserError
        When the runs are of one cell, or no cell has three runs.
    """
    names = varying({str(name): frame[name].to_numpy() for name in frame})
    cells, values = make_cells({name: frame[name].to_numpy(dtype=float) for name in ("lr", "loss", *names)}, names)
    tuned = tune(cells)
    rows: list[dict[str, Any]] = []
    for cell, value in zip(tuned.cells, values, strict=True):
        row: dict[str, Any] = dict(zip(names, map(float, value), strict=True))
        row |= {"rate": cell.rate.value, "lo": cell.rate.lo, "hi": cell.rate.hi, "loss": cell.loss.value}
        rows.append(row | {"num_runs": cell.num_runs, "edge": cell.edge or ""})
    return tuned, pd.DataFrame(rows)


def _sentence(arm: str, tuned: Tuned) -> str:
    """The law of one arm in words."""
    moves = []
    for name, word in (("params", "N"), ("tokens", "D")):
        power = tuned.exponents.get(name)
        if power is not None:
            still = " (it may stand still)" if power.covers(0.0) else ""
            moves.append(f"{word}^{power.text(2)}{still}")
    edges = sum(cell.edge is not None for cell in tuned.cells)
    at_edge = f"; in {edges} of {len(tuned.cells)} cells the best run has an outermost rate" if edges else ""
    name = "The" if arm == ONE else f"In the arm {arm} the"
    return f"{name} best peak rate moves as {' '.join(moves)}{at_edge}."


def _table(cells: pd.DataFrame) -> FoundTable:
    rows = tuple(
        (
            str(row["arm"]),
            format_size(row.get("params", float("nan"))),
            format_size(row.get("tokens", float("nan"))),
            _rate(row),
            f"{row['loss']:.4f}",
            str(row["num_runs"]),
            {"low": "the lowest rate tried was best", "high": "the highest rate tried was best"}.get(row["edge"], ""),
        )
        for row in cells.to_dict("records")
    )
    head = ("arm", "N", "tokens", "best peak rate", "loss there", "runs", "note")
    return FoundTable(name="rates", heading="Cell by cell", frame=cells, head=head, rows=rows)


def _rate(row: Mapping[Any, Any]) -> str:
    value = Estimate(value=row["rate"], reason="one cell alone")
    if pd.notna(row["lo"]):
        ends = (format_number(row["lo"], 2), format_number(row["hi"], 2))
        return f"{format_number(value.value, 2)} ({ends[0]}, {ends[1]})"
    return f"{format_number(value.value, 2)} (no interval)"
