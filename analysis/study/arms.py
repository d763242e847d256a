"""Compute multipliers of a sweep's arms, for its report.

Which arms there are is what the sweep's `vary` says; the first is the reference. It must not know HTML.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.paired.multiplier import compute_multiplier
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


def multipliers_of(manifest: Manifest | None, table: RunTable, *, level: float, notes: list[str]) -> pd.DataFrame:
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

    Returns
    -------
    DataFrame
        arm, reference, flops, multiplier, lo, hi, reason, verdict, p_best; empty for a sweep without arms.
    """
    axis = arm_axis(manifest, table.frame)
    if axis is None:
        return pd.DataFrame()
    frame = table.frame[table.frame["role_shown"] != "mid-run"]
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    try:
        found = compute_multiplier(columns, arm=axis, bootstrap=BOOTSTRAP, level=level)
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
