"""Which rows a fit may use: the role of each run, and whether its schedule decayed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.formatting import format_compute
from analysis.runs.expressions import select_rows
from analysis.runs.flags import is_decayed
from analysis.runs.table import RunTable

OTHER_ARM, OTHER_RATE = "other arm", "other rate"
"""Roles of runs that no law is fitted to: those of further arms, and those at rates that were not the best."""
ASIDE = ("mid-run", OTHER_ARM, OTHER_RATE)
"""Roles that figures of the law leave out."""
MIN_BUDGETS_TO_HOLD_OUT = 3
"""Fewest compute budgets of which the largest is held out unasked."""


def undecayed_rows(frame: pd.DataFrame) -> pd.Series:
    """Rows that are points in mid-run.

    Parameters
    ----------
    frame : DataFrame
        Runs with tokens or flops, and perhaps `decayed` and `curve`.

    Returns
    -------
    Series of bool
        True where `decayed` is false, or where a later row of the same `curve` exists.
    """
    mid_run = pd.Series(False, index=frame.index)
    if "decayed" in frame.columns:
        mid_run |= ~is_decayed(frame["decayed"])
    if "curve" in frame.columns:
        order = "tokens" if "tokens" in frame.columns else "flops"
        mid_run |= frame[order] < frame.groupby("curve")[order].transform("max")
    return mid_run


def assign_roles(
    frame: pd.DataFrame, holdout: str | None, notes: list[str], *, among: pd.Series | None = None
) -> pd.Series:
    """The role of every row in a study.

    Parameters
    ----------
    frame : DataFrame
        Runs with flops and `budget_group`, and perhaps `role`, `decayed` and `curve`.
    holdout : str or None
        Expression that is true for the rows to hold out. By default these are the rows whose `role` is heldout, else
        the largest of three or more budgets.
    notes : list of str
        Sentences for the reader are added here.
    among : Series of bool, optional
        The rows whose largest budget is held out by default; all of them if not given.

    Returns
    -------
    Series of str
        fit, heldout, replicate or mid-run.

    Raises
    ------
    UserError
        When `holdout` is true for no row.
    """
    role = pd.Series("fit", index=frame.index, dtype=object)
    given = frame["role"].astype(str) if "role" in frame.columns else pd.Series("", index=frame.index)
    role[given == "replicate"] = "replicate"
    if holdout:
        held = select_rows(holdout, frame)
        if not bool(held.any()):
            largest = format_compute(frame["flops"].max())
            raise UserError(f"--holdout {holdout!r} holds out no run; fix it (the largest C is {largest})")
    elif bool((given == "heldout").any()):
        held = given == "heldout"
    else:
        budget = frame["budget_group"]
        budget = budget if among is None else budget[among]
        held = frame["budget_group"] == budget.max()
        if budget.nunique() >= MIN_BUDGETS_TO_HOLD_OUT:
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


def rows_to_fit(table: RunTable, notes: list[str]) -> RunTable:
    """The table without replicates, which only tell the noise, and without points in mid-run.

    Parameters
    ----------
    table : RunTable
        All runs.
    notes : list of str
        Sentences about what was left out are added here.

    Returns
    -------
    RunTable
        The rows that a law is fitted to.
    """
    frame = table.frame
    keep = np.ones(len(frame), dtype=bool)
    if "role" in frame.columns:
        replicate = (frame["role"].astype(str) == "replicate").to_numpy(dtype=bool)
        keep &= ~replicate
        if replicate.any():
            notes.append(f"{int(replicate.sum())} replicates tell the noise between seeds and are not fitted")
    if "decayed" in frame.columns:
        mid = (~is_decayed(frame["decayed"])).to_numpy(dtype=bool)
        if mid.any() and not mid.all():
            keep &= ~mid
            notes.append(f"{int(mid.sum())} points in mid-run are not fitted: their learning rate was not decayed")
    return table.subset(keep)
