"""The report's table of registered predictions: what was predicted before a run began, and what it measured."""

from __future__ import annotations

import pandas as pd

from analysis.formatting import format_number, format_percent
from analysis.report.tables import TextTable


def registered_table(frame: pd.DataFrame) -> TextTable:
    """Scored predictions as text, one row a run."""
    head = (
        "registered",
        "run",
        "law",
        "predicted",
        "prediction interval",
        "measured",
        "error",
        "covered",
        "time checked",
    )
    rows = []
    for row in frame.to_dict("records"):
        ends = f"{format_number(row['lo'], 4)} to {format_number(row['hi'], 4)} ({format_percent(row['level'])})"
        cells = [str(row["time"]), str(row["run_id"]), str(row["law"]), format_number(row["predicted"], 4), ends]
        cells += [format_number(row["measured"], 4), format_percent(row["error_fraction"])]
        cells += ["yes" if row["covered"] else "no", "yes" if row["checked"] else "no: the table has no times"]
        rows.append(tuple(cells))
    return TextTable(head=head, rows=tuple(rows), left=(0, 1, 2))
