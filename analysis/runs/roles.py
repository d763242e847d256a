"""Which rows a fit may use: the role of each run, and whether its schedule decayed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.formatting import format_compute
from analysis.runs.expressions import select_rows
from analysis.runs.table import RunTable


def undecayed_rows(frame: pd.DataFrame) -> pd.Series:
    """Rows that are points in mid-run: `decayed` is false, or a later row of the same `curve` exists."""
    mid_run = pd.Series(False, index=frame.index)
    if "decayed" in frame.columns:
        mid_run |= frame["decayed"].astype(str).str.lower().isin(["false", "0", "0.0", "no"])
    if "curve" in frame.columns:
        order = "tokens" if "tokens" in frame.columns else "flops"
        mid_run |= frame[order] < frame.groupby("curve")[order].transform("max")
    return mid_run


def _roles(frame: pd.DataFrame, holdout: str | None, notes: list[str]) -> pd.Series:
    """fit, heldout, replicate or mid-run for every row."""
    role = pd.Series("fit", index=frame.index, dtype=object)
    given = frame["role"].astype(str) if "role" in frame.columns else pd.Series("", index=frame.index)
    role[given == "replicate"] = "replicate"
    if holdout:
        held = select_rows(holdout, frame)
        if not bool(held.any()):
            largest = format_compute(frame["flops"].max())
            raise UserError(f"--holdout {holdout!r} holds out no run; mend it (the largest C is {largest})")
    elif bool((given == "heldout").any()):
        held = given == "heldout"
    else:
        budget = frame["budget_group"]
        held = budget == budget.max()
        if budget.nunique() >= 3:
            notes.append(f"no --holdout was given: the largest budget, {format_compute(budget.max())}, is held out")
        else:
            held &= False
            notes.append("no run is held out: fewer than three compute budgets and no --holdout")
    role[held & (role == "fit")] = "heldout"
    mid = undecayed_rows(frame)
    if bool(mid.any()):
        role[mid] = "mid-run"
        notes.append(f"{int(mid.sum())} points in mid-run are not fitted: their learning rate was not decayed")
    return role


def _fitted_rows(table: RunTable, notes: list[str]) -> RunTable:
    """The table without replicates, which only tell the noise, and without points in mid-run."""
    frame = table.frame
    keep = np.ones(len(frame), dtype=bool)
    if "role" in frame.columns:
        replicate = (frame["role"].astype(str) == "replicate").to_numpy(dtype=bool)
        keep &= ~replicate
        if replicate.any():
            notes.append(f"{int(replicate.sum())} replicates tell the noise between seeds and are not fitted")
    if "decayed" in frame.columns:
        mid = frame["decayed"].astype(str).str.lower().isin(["false", "0", "0.0", "no"]).to_numpy(dtype=bool)
        if mid.any() and not mid.all():
            keep &= ~mid
            notes.append(f"{int(mid.sum())} points in mid-run are not fitted: their learning rate was not decayed")
    return table.subset(keep)
