"""A choice of law as JSON, as lines for people and as files. Computes nothing; draws nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimate import Estimate, percent_text
from analysis.files import json_ready
from analysis.formatting import format_number, format_percent
from analysis.selection.candidates import Candidate
from analysis.selection.extrapolation import Score
from analysis.selection.select import SelectionResult

SCHEMA = "isoflop.select/1"
"""Name and version of the JSON."""
SHOWN_OUTLIERS = 8
"""Outliers listed on the terminal."""


def to_dict(selection: SelectionResult, rows: Sequence[Any], **more: Any) -> dict[str, Any]:
    """The JSON object of `select`: null for what is absent, never NaN.

    Parameters
    ----------
    selection : SelectionResult
        What was found.
    rows : sequence
        How every row of the data is named.
    **more
        Further fields, such as columns and conventions.

    Returns
    -------
    dict
        Plain JSON.
    """
    out = {
        "schema": SCHEMA,
        "chosen": selection.chosen,
        "why": selection.why,
        "ranking": [_ranked(one, selection) for one in selection.candidates],
        "predictions": predictions(selection, rows).to_dict(orient="records"),
        "windows": [
            {"name": w.name, "cutoff": w.cutoff, "num_fitted": int(w.fitted.sum()), "num_heldout": int(w.held.sum())}
            for w in selection.windows
        ],
        "reference": selection.reference,
        "sureness": selection.sureness,
        "noise_floor": None if selection.noise is None else selection.noise.to_dict(),
        "ties": [
            {"law": tie.law, "chosen": tie.chosen, "difference": tie.difference, "floor": tie.floor}
            for tie in selection.ties
        ],
        "unscored": [{"law": name, "reason": why} for name, why in selection.unscored.items()],
        "outliers": [{"row": rows[row], "reason": why} for row, why in selection.outliers.items()],
        "average": _average(selection),
        "level": selection.level,
        **more,
    }
    ready: dict[str, Any] = json_ready(out)
    return ready


def _errors(score: Score) -> dict[str, Any]:
    mape = score.mape
    return {
        "mape": mape.value,
        "mape_lo": mape.lo,
        "mape_hi": mape.hi,
        "no_interval": None if mape.has_interval else mape.reason,
        "rmse": score.rmse,
        "r2": score.r2,
    }


def _ranked(one: Candidate, selection: SelectionResult) -> dict[str, Any]:
    return {
        "law": one.name,
        **_errors(one.score),
        "aic": one.aic,
        "bic": one.bic,
        "num_heldout": selection.num_heldout,
        "num_params": one.num_params,
        "identified": one.reason is None,
        "reason": one.reason,
        "mape_by_window": one.score.by_window,
    }


def _average(selection: SelectionResult) -> dict[str, Any] | None:
    if selection.average is None:
        return None
    return {"weights": dict(selection.average.weights), **_errors(selection.average.score)}


def predictions(selection: SelectionResult, rows: Sequence[Any]) -> pd.DataFrame:
    """Every held-out prediction.

    Parameters
    ----------
    selection : SelectionResult
        What was found.
    rows : sequence
        How every row of the data is named.

    Returns
    -------
    DataFrame
        row, law, predicted, measured, error_fraction, window and compute; one row for each law, window and run, and
        for the average where there is one.
    """
    named = [(one.name, one.predicted) for one in selection.candidates]
    if selection.average is not None:
        named.append(("average", selection.average.predicted))
    parts = []
    for place, window in enumerate(selection.windows):
        at = np.flatnonzero(window.held)
        measured = selection.losses[at]
        for name, predicted in named:
            value = predicted[place, at]
            with np.errstate(over="ignore", invalid="ignore"):
                error = (value - measured) / np.abs(measured)
            columns = {"row": [rows[i] for i in at.tolist()], "law": name, "predicted": value, "measured": measured}
            columns |= {"error_fraction": error, "window": window.name, selection.axis: selection.compute[at]}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def ranking_frame(selection: SelectionResult) -> pd.DataFrame:
    """The ranking as numbers, the best first."""
    rows = [_ranked(one, selection) for one in selection.candidates]
    return pd.DataFrame([{k: v for k, v in row.items() if k != "mape_by_window"} for row in rows])


def lines(selection: SelectionResult) -> list[str]:
    """What was found, for the terminal."""
    windows = selection.windows
    if len(windows) > 1:
        first, last = windows[0], windows[-1]
        how = (
            f"Laws fitted below {len(windows)} cut-offs and scored on the runs above: from {first.name} "
            f"({int(first.held.sum())} of {first.held.size} runs held out) to {last.name} ({int(last.held.sum())})."
        )
    else:
        held = int(windows[0].held.sum())
        how = f"Laws fitted to {windows[0].held.size - held} runs and scored on {held}: {windows[0].name}."
    out = [how, "", *_table(selection), "", selection.why]
    if selection.noise is None:
        out.append(
            "Noise floor: not known, since no two runs differ in their seed alone; no difference is called a tie."
        )
    else:
        out.append(f"Noise floor: {percent_text(selection.noise)} of the loss between seeds.")
    out.append(_caution(selection))
    out += [f"{name} could not be scored: {why}" for name, why in selection.unscored.items()]
    return out


def outlier_lines(selection: SelectionResult, rows: Sequence[str]) -> list[str]:
    """Runs far from the law, for the terminal.

    Parameters
    ----------
    selection : SelectionResult
        What was found.
    rows : sequence of str
        How every row of the data is named.

    Returns
    -------
    list of str
        A line for each of at most SHOWN_OUTLIERS runs, and how many more there are.
    """
    if not selection.outliers:
        return []
    shown = list(selection.outliers.items())[:SHOWN_OUTLIERS]
    out = [
        f"{len(selection.outliers)} of {selection.losses.size} runs lie far from the law; they were fitted and scored "
        "all the same:"
    ]
    out += [f"  {rows[row]}: {why}" for row, why in shown]
    if len(selection.outliers) > len(shown):
        out.append(f"  and {len(selection.outliers) - len(shown)} more")
    return out


def _caution(selection: SelectionResult) -> str:
    """What the intervals are and are not."""
    reason = selection.redraws.reason
    if reason is not None:
        return f"No intervals of the errors: {reason}."
    windows = len(selection.windows)
    what = f"{selection.num_heldout} held-out runs" + (f" and of the {windows} windows, which overlap" * (windows > 1))
    few = " They are few: read the intervals as a lower bound." if selection.num_heldout < 20 else ""
    return f"Intervals of the errors ({format_percent(selection.level)}) come from redraws of the {what}.{few}"


def _table(selection: SelectionResult) -> list[str]:
    """The ranking in columns."""
    head = ("", "law", "parameters", "error", "interval", "RMSE", "R2", "AIC", "BIC", "")
    rows = [head]
    for one in selection.candidates:
        mark = ">" if one.name == selection.chosen else ""
        note = one.reason or ("the reference" if one.name == selection.reference else "")
        rows.append((mark, one.name, str(one.num_params), *_cells(one.score), _whole(one.aic), _whole(one.bic), note))
    if selection.average is not None:
        rows.append(("", "average", "", *_cells(selection.average.score), "", "", "weights from smaller windows"))
    widths = [max(len(row[j]) for row in rows) for j in range(len(head))]
    left = (0, 1, len(head) - 1)
    out = []
    for row in rows:
        cells = [c.ljust(widths[j]) if j in left else c.rjust(widths[j]) for j, c in enumerate(row)]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("-" * widths[j] if head[j] else " " * widths[j] for j in range(len(head))).rstrip())
    if selection.average is not None:
        shares = ", ".join(f"{name} {format_number(weight, 2)}" for name, weight in selection.average.weights.items())
        out.append(f"Weights of the average (inverse mean squared error over all windows): {shares}.")
    return out


def _cells(score: Score) -> tuple[str, str, str, str]:
    return (
        format_percent(score.mape.value, 3),
        _ends(score.mape),
        format_number(score.rmse, 3),
        "n/a" if score.r2 is None else format_number(score.r2, 4),
    )


def _ends(estimate: Estimate) -> str:
    if estimate.lo is None:
        return "no interval"
    return f"{format_percent(estimate.lo, 3)} to {format_percent(estimate.hi, 3)}"


def _whole(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.1f}"
