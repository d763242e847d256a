"""Compute multipliers of a sweep's arms, for its report.

Which arms there are is what the sweep's `vary` says; the first is the reference. It must not know HTML.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.paired.multiplier import compute_multiplier
from analysis.runs.roles import OTHER_ARM, OTHER_RATE
from analysis.runs.table import RunTable
from experiments.manifests import Manifest

OWN_LABELS = {"budget", "role", "sweep"}
"""Labels that every sweep gives its runs; others are of what it varies."""
BOOTSTRAP = 500
"""Draws of the intervals."""


def arm_axis(manifest: Manifest | None, frame: pd.DataFrame) -> str | None:
    """The one field that a sweep varies; None where it varies none or several."""
    if manifest is None:
        return None
    varied = {name for labels in manifest.runs.values() for name in labels} - OWN_LABELS
    axes = [name for name in varied if name in frame and len(set(frame[name])) > 1]
    return axes[0] if len(axes) == 1 else None


def reference_of(arm: pd.Series, reference: str | None) -> str:
    """The arm that others are compared with: the one that was asked for, else the first."""
    known = list(dict.fromkeys(arm.astype(str)))
    if reference is None:
        return known[0]
    if reference not in known:
        raise UserError(f"--reference {reference!r} is no arm of this sweep; arms are {', '.join(known)}")
    return reference


def of_reference(frame: pd.DataFrame, manifest: Manifest | None, reference: str | None = None) -> pd.Series:
    """Which runs are of the reference arm; all of them in a sweep without arms.

    Parameters
    ----------
    frame : DataFrame
        Runs.
    manifest : Manifest or None
        The sweep.
    reference : str, optional
        Name of the arm; the first by default.

    Returns
    -------
    Series of bool
        True for runs of the reference.
    """
    axis = arm_axis(manifest, frame)
    if axis is None:
        return pd.Series(data=True, index=frame.index)
    arm = frame[axis].astype(str)
    return arm == reference_of(arm, reference)


def set_aside(
    frame: pd.DataFrame, manifest: Manifest | None, notes: list[str], *, reference: str | None = None
) -> pd.Series:
    """The roles of a study's rows, with those set aside that one law does not describe.

    Parameters
    ----------
    frame : DataFrame
        Runs with `role_shown`.
    manifest : Manifest or None
        The sweep.
    notes : list of str
        Sentences about what is set aside are added here.
    reference : str, optional
        The arm that stays; the first by default.

    Returns
    -------
    Series of str
        Runs of every arm but the reference are `other arm`; those of a tuned sweep `other rate`, but for the best rate
        of each cell.
    """
    role = frame["role_shown"].copy()
    if manifest is None:
        return role
    axis = arm_axis(manifest, frame)
    first = of_reference(frame, manifest, reference)
    role[~first] = OTHER_ARM
    if axis is not None:
        name = frame.loc[first, axis].astype(str).iloc[0]
        notes.append(
            f"the law, its figures and its predictions are of {axis} = {name}; other arms are compared with it"
        )
    if manifest.sweep.get("design") == "tuned" and {"lr", "width", "depth", "tokens"} <= set(frame):
        arm = [] if axis is None else [frame[axis].astype(str)]
        cell = [*arm, *(frame[name] for name in ("width", "depth", "tokens"))]
        worse = frame["loss"] > frame.groupby(cell)["loss"].transform("min")
        role[worse & (role != OTHER_ARM)] = OTHER_RATE
        notes.append("the law is fitted to the best rate of every cell; the losses of other rates are in the table")
    return role


def multipliers_of(
    manifest: Manifest | None, table: RunTable, *, level: float, notes: list[str], reference: str | None = None
) -> pd.DataFrame:
    """A row for each arm but the first and each budget.

    Parameters
    ----------
    manifest : Manifest or None
        The sweep.
    table : RunTable
        Its runs with `role_shown`.
    level : float
        Coverage of the intervals.
    notes : list of str
        Warnings and the reason for no multiplier are added here.
    reference : str, optional
        The arm that others are compared with; the first by default.

    Returns
    -------
    DataFrame
        arm, reference, flops, multiplier, lo, hi, reason, verdict, p_best; empty for a sweep without arms.
    """
    axis = arm_axis(manifest, table.frame)
    if axis is None:
        return pd.DataFrame()
    frame = table.frame[~table.frame["role_shown"].isin(["mid-run", OTHER_RATE])]
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    try:
        found = compute_multiplier(columns, arm=axis, reference=reference, bootstrap=BOOTSTRAP, level=level)
    except UserError as error:
        notes.append(f"no compute multiplier of {axis}: {error}")
        return pd.DataFrame()
    notes += [f"multipliers of {axis}: {warning}" for warning in found.warnings]
    rows = []
    for name, arm in found.arms.items():
        for one, best in zip(arm.by_budget, found.p_best[name], strict=True):
            worth = one.multiplier
            ends = (np.nan,) * 3 if worth is None else (worth.value, worth.lo, worth.hi)
            row = {"arm": name, "reference": found.reference, "flops": one.flops}
            row |= dict(zip(("multiplier", "lo", "hi"), ends, strict=True))
            rows.append(row | {"reason": one.reason, "verdict": arm.verdict, "p_best": float(best)})
    return pd.DataFrame(rows)
