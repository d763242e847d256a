"""The report's table of compute multipliers, for sweeps with arms."""

from __future__ import annotations

import math

import pandas as pd

from analysis.formatting import format_compute, format_number, format_percent
from analysis.report.tables import TextTable


def multipliers_table(frame: pd.DataFrame) -> TextTable:
    """Multipliers as text, one row an arm and budget."""
    rows = []
    for row in frame.to_dict("records"):
        worth = "not determined"
        if math.isfinite(row["multiplier"]):
            value, lo, hi = (format_number(row[name], 3) for name in ("multiplier", "lo", "hi"))
            worth = f"{value} ({lo} to {hi})"
        best = format_percent(row["p_best"], 2)
        cells = (str(row["arm"]), format_compute(row["flops"]), worth, str(row["verdict"]), best)
        rows.append((*cells, str(row["reason"] or "")))
    over = f"multiplier over {frame['reference'].iloc[0]}"
    head = ("arm", "compute of the arm", over, "with scale", "best of all", "note")
    return TextTable(head=head, rows=tuple(rows), left=(0, 5))
