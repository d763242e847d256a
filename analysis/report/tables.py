"""The tables of a report as frames of numbers (CSV) and as cells of text (HTML).

Owns columns and wording, no figures, no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.estimate import Estimate
from analysis.formatting import format_compute, format_number, format_percent, format_size
from analysis.published.constants import PUBLISHED_EXPONENTS
from analysis.runs.columns import as_columns
from analysis.study.study import Study


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One table of the page."""

    head: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    muted: tuple[int, ...] = ()
    """Rows that are shown grey: published numbers, rows left out."""
    left: tuple[int, ...] = (0,)
    """Columns aligned to the left."""


def runs_frame(study: Study) -> pd.DataFrame:
    """Every run with its role, prediction, residual and flags; every column of the table is kept."""
    frame = study.table.frame.copy()
    fit = study.comparison.fit
    predicted = fit.predict(as_columns(frame, fit.law.inputs))
    frame["predicted"] = predicted["loss"].to_numpy()
    frame["residual_fraction"] = frame["loss"] / frame["predicted"] - 1
    frame["flops_over_6nd"] = frame["flops"] / (6 * frame["params"] * frame["tokens"])
    frame["flags"] = study.table.flags
    front = [name for name in ("run_id", "source", "row", "role_shown", "budget_group") if name in frame.columns]
    front += ["params", "tokens", "flops", "flops_over_6nd", "loss", "predicted", "residual_fraction", "flags"]
    rest = [name for name in frame.columns if name not in front and name != "status"]
    return frame[front + rest].sort_values(["budget_group", "params"], kind="stable").reset_index(drop=True)


def runs_table(study: Study) -> TextTable:
    """The runs as text: the columns that all tables have, and those of our records where present."""
    frame = runs_frame(study)
    columns: list[tuple[str, list[str]]] = []
    name = "run_id" if "run_id" in frame.columns else "row"
    columns.append(("run", [str(value) for value in frame[name]]))
    columns.append(("role", [str(value) for value in frame["role_shown"]]))
    columns.append(("budget", [format_compute(value) for value in frame["budget_group"]]))
    columns.append(("N", [format_size(value) for value in frame["params"]]))
    columns.append(("D", [format_size(value) for value in frame["tokens"]]))
    columns.append(("C", [format_compute(value, 3) for value in frame["flops"]]))
    columns.append(("C / 6ND", [format_number(value, 3) for value in frame["flops_over_6nd"]]))
    for key in ("width", "depth", "batch", "lr", "seed"):
        if key in frame.columns and len(set(frame[key])) > 1:
            columns.append((key, [_plain(value) for value in frame[key]]))
    columns.append(("loss", _losses(frame)))
    columns.append(("law", [format_number(value, 4) for value in frame["predicted"]]))
    columns.append(("residual", [_signed(value) for value in frame["residual_fraction"]]))
    columns.append(("flags", [str(value) for value in frame["flags"]]))
    rows = tuple(zip(*(cells for _, cells in columns), strict=True))
    return TextTable(head=tuple(label for label, _ in columns), rows=rows, left=(0, 1, len(columns) - 1))


def _losses(frame: pd.DataFrame) -> list[str]:
    """Loss with its standard error over validation documents where it is recorded."""
    errors = frame["loss_se"] if "loss_se" in frame.columns else pd.Series(math.nan, index=frame.index)
    out = []
    for loss, error in zip(frame["loss"], pd.to_numeric(errors, errors="coerce"), strict=True):
        out.append(f"{loss:.4f}" + (f" ± {error:.4f}" if math.isfinite(error) else ""))
    return out


def _plain(value: object) -> str:
    """A setting of a run: whole numbers without a point, others to four digits, absent ones empty."""
    if isinstance(value, (int, float, np.number)):
        number = float(value)
        return "" if not math.isfinite(number) else _setting(number)
    return "" if value is None else str(value)


def _setting(number: float) -> str:
    """A setting: whole as it is or as a size, a fraction to three digits."""
    if number == round(number):
        return f"{number:.0f}" if abs(number) < 1e5 else format_size(number)
    return format_number(number, 3)


def _signed(value: float) -> str:
    """A fraction as a percentage with its sign."""
    return f"{'+' if value >= 0 else '−'}{format_number(abs(100 * value), 2)} %"


def excluded_table(study: Study) -> TextTable:
    """Rows left out, with reasons."""
    excluded = study.table.excluded
    name = "run_id" if "run_id" in excluded.columns else "row"
    rows = []
    for _, row in excluded.head(200).iterrows():
        size = f"{row['params']}" if "params" in excluded.columns else ""
        rows.append((str(row[name]), str(row["source"]), size, str(row["excluded_because"])))
    return TextTable(head=("run", "table", "N", "why"), rows=tuple(rows), left=(0, 1, 3))


def heldout_table(study: Study) -> TextTable:
    """The held-out prediction, run by run."""
    assert study.heldout is not None
    rows = []
    for _, row in study.heldout.rows.iterrows():
        inside = "yes" if row["lo"] <= row["measured"] <= row["hi"] else "no"
        rows.append(
            (
                str(row["run_id"] if row["run_id"] is not None else row["row"]),
                format_size(row["params"]),
                format_size(row["tokens"]),
                format_compute(row["flops"]),
                f"{row['predicted']:.4f}",
                f"{row['lo']:.4f} .. {row['hi']:.4f}",
                f"{row['measured']:.4f}",
                inside,
                _signed(row["error_fraction"]),
                _signed(row["carried_error"]),
            )
        )
    head = ("run", "N", "D", "C", "predicted", "interval", "measured", "covered", "error", "error carried forward")
    return TextTable(head=head, rows=tuple(rows))


def estimates_frame(study: Study) -> pd.DataFrame:
    """Parameters of the law, fitted without and with the held-out runs."""
    rows = []
    fits = [("without held-out runs" if study.refit else "all runs", study.comparison.fit)]
    if study.refit is not None:
        fits.append(("with held-out runs", study.refit))
    for which, fit in fits:
        for parameter in fit.law.parameters:
            item = fit.estimates[parameter.name]
            row = {"fit": which, "parameter": parameter.name, "meaning": parameter.meaning, **item.to_dict()}
            rows.append({**row, "level": item.level, "not_identified": fit.identified.get(parameter.name)})
    return pd.DataFrame(rows)


def estimates_table(study: Study) -> TextTable:
    """Parameters as text."""
    fit, refit = study.comparison.fit, study.refit
    head = ("parameter", "meaning", "value and interval") + (("with held-out runs",) if refit else ())
    rows = []
    for parameter in fit.law.parameters:
        cells = (parameter.name, parameter.meaning, _parameter(fit.estimates[parameter.name]))
        rows.append(cells + ((_parameter(refit.estimates[parameter.name]),) if refit else ()))
    return TextTable(head=head, rows=tuple(rows), left=(0, 1))


def _parameter(estimate: Estimate) -> str:
    """Value and interval, or value and why there is none."""
    return (
        estimate.text(4)
        if estimate.has_interval
        else f"{format_number(estimate.value, 4)}, no interval: {estimate.reason}"
    )


def exponents_frame(study: Study) -> pd.DataFrame:
    """a and b by approach, with the published ones."""
    rows = []
    for frontier in study.comparison.frontiers:
        for name, item in (("a", frontier.a), ("b", frontier.b)):
            if item is not None:
                rows.append(
                    {"approach": frontier.method, "convention": frontier.convention, "exponent": name, **item.to_dict()}
                )
    closed = study.comparison.fit.frontier_estimates
    if closed is not None:
        method = study.comparison.frontiers[-1].method
        for name, item in (("a", closed.a), ("b", closed.b)):
            row = {"approach": f"{method}, closed form", "convention": closed.convention, "exponent": name}
            rows.append({**row, **item.to_dict()})
    for source, item in PUBLISHED_EXPONENTS:
        rows.append({"approach": source, "convention": "as published", "exponent": "a", **item.to_dict()})
    return pd.DataFrame(rows)


def exponents_table(study: Study) -> TextTable:
    """a and b by approach as text; published rows grey."""
    rows: list[tuple[str, str, str, str]] = []
    muted = []
    frame = exponents_frame(study)
    for approach in dict.fromkeys(frame["approach"]):
        group = frame[frame["approach"] == approach]
        cells = {row["exponent"]: _estimate_of(row) for _, row in group.iterrows()}
        if group["convention"].iloc[0] == "as published":
            muted.append(len(rows))
        rows.append((approach, str(group["convention"].iloc[0]), cells.get("a", ""), cells.get("b", "")))
    return TextTable(
        head=("approach", "compute", "a: N_opt ~ C^a", "b: D_opt ~ C^b"),
        rows=tuple(rows),
        muted=tuple(muted),
        left=(0, 1),
    )


def _estimate_of(row: pd.Series) -> str:
    """The text of an estimate that was written as a row."""
    value = row["value"]
    if value is None or not math.isfinite(value):
        return f"none: {row['reason']}" if isinstance(row.get("reason"), str) else "none"
    if row["lo"] is None or not math.isfinite(row["lo"]):
        return f"{value:.3f} (no interval: {row['reason']})"
    return f"{value:.3f} ({row['lo']:.3f}, {row['hi']:.3f})"


def minima_frame(study: Study) -> pd.DataFrame:
    """IsoFLOP minima of the fitted budgets."""
    fit = study.comparison.isoflop
    return pd.DataFrame() if fit is None else fit.frontier.points


def minima_table(study: Study) -> TextTable:
    """IsoFLOP minima as text."""
    rows = []
    for _, row in minima_frame(study).iterrows():
        held = bool(row["bracketed"])
        spans = []
        for name in ("params", "tokens"):
            if held and math.isfinite(row[f"{name}_lo"]):
                spans.append(
                    f"{format_size(row[name])} ({format_size(row[f'{name}_lo'])}, {format_size(row[f'{name}_hi'])})"
                )
            else:
                spans.append(f"{format_size(row[name])} (no interval)" if held else "not bracketed by runs")
        loss = f"{row['loss']:.4f}"
        if held and math.isfinite(row["loss_lo"]):
            loss += f" ({row['loss_lo']:.4f}, {row['loss_hi']:.4f})"
        bias = _signed(row["bias"]) if math.isfinite(row["bias"]) else "n/a"
        rows.append(
            (format_compute(row["flops"]), str(row["num_runs"]), *spans, loss, f"{row['off_centre']:+.2f}", bias)
        )
    head = ("C", "runs", "N_opt", "D_opt", "loss", "off centre", "known bias of N_opt")
    return TextTable(head=head, rows=tuple(rows))


def noise_table(study: Study) -> TextTable:
    """Seed replicates as text."""
    rows = [
        (
            format_compute(row["budget"]),
            format_size(row["params"]),
            format_size(row["tokens"]),
            str(int(row["num_seeds"])),
            f"{row['mean_loss']:.4f}",
            format_percent(row["sd_fraction"]),
        )
        for _, row in study.noise.iterrows()
    ]
    return TextTable(head=("budget", "N", "D", "seeds", "mean loss", "standard deviation"), rows=tuple(rows))


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
