"""The tables of a fine-tuning report as cells of text; their numbers lie beside the page as CSV.

Owns columns and wording.
"""

from __future__ import annotations

import math

import pandas as pd

from analysis.formatting import format_compute, format_number, format_size
from analysis.report.tables import TextTable
from analysis.study.tuning import MEASURES, TuningStudy


def _between(low: object, high: object) -> str:
    ends = [float(str(end)) if end is not None else math.nan for end in (low, high)]
    return f"{format_number(ends[0])} to {format_number(ends[1])}" if all(map(math.isfinite, ends)) else "-"


def _by_size(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the smallest body first."""
    return frame.sort_values("params", kind="stable")


def heldout_table(study: TuningStudy) -> TextTable:
    """Held-out cells beside what their law predicts."""
    head = ("method", "N", "examples", "measured", "predicted", "95 % interval", "error", "carried forward")
    rows = []
    for row in _by_size(study.heldout).to_dict("records"):
        predicted = float(row["predicted"])
        error = f"{100 * (predicted / row['measured'] - 1):+.1f} %" if math.isfinite(predicted) else "-"
        shown = f"{predicted:.4f}" if math.isfinite(predicted) else "no law"
        carried = "-" if pd.isna(row["carried_forward"]) else f"{row['carried_forward']:.4f}"
        cells = (row["arm"], format_size(float(row["params"])), str(row["examples"]), f"{row['measured']:.4f}", shown)
        rows.append((*cells, _between(row["lo"], row["hi"]), error, carried))
    return TextTable(head=head, rows=tuple(rows))


def crossover_table(study: TuningStudy) -> TextTable:
    """From how many examples full fine-tuning has the lower loss."""
    rows = tuple(
        (
            str(row["arm"]),
            format_size(float(row["params"])),
            "not reached" if pd.isna(row["examples"]) else format_number(float(row["examples"])),
            _between(row["lo"], row["hi"]),
            str(row["reason"] or ""),
        )
        for row in _by_size(study.crossovers).to_dict("records")
    )
    return TextTable(head=("method", "N", "examples", "95 % interval", ""), rows=rows, left=(0, 4))


def pair_table(study: TuningStudy) -> TextTable:
    """From the most examples alone; the file has all of them."""
    pairs = study.pairs[study.pairs["examples"] == study.pairs["examples"].max()]
    rows = tuple(
        (
            str(row["arm"]),
            format_size(float(row["params"])),
            str(row["examples"]),
            f"{row['difference']:+.4f}",
            f"{row['lo']:+.4f} to {row['hi']:+.4f}",
            str(row["num_examples"]),
        )
        for row in _by_size(pairs).to_dict("records")
    )
    head = ("method", "N", "examples", "loss less that of full", "95 % interval over test examples", "test examples")
    return TextTable(head=head, rows=rows)


def flops_table(study: TuningStudy) -> TextTable:
    """Losses at the same compute."""
    rows = tuple(
        (
            str(row["arm"]),
            format_size(float(row["params"])),
            format_compute(float(row["flops"])),
            f"{row['loss_full']:.4f}",
            f"{row['loss_arm']:.4f}",
            f"{row['difference']:+.4f}",
            _between(row["lo"], row["hi"]) if pd.notna(row["lo"]) else "no interval: one seed",
        )
        for row in _by_size(study.equal_flops).to_dict("records")
    )
    head = ("method", "N", "C", "loss of full", "of the method", "difference", "95 % interval over seeds")
    return TextTable(head=head, rows=rows)


def slope_table(study: TuningStudy) -> TextTable:
    """How the best rate and the loss move along a method's size."""
    rows = tuple(
        (
            str(row["method"]),
            format_size(float(row["params"])),
            str(row["examples"]),
            "best rate" if row["measure"] == "lr" else "loss",
            "-" if pd.isna(row["slope"]) else f"{row['slope']:+.3f}",
            _between(row["lo"], row["hi"]),
            "" if pd.isna(row["reason"]) else str(row["reason"]),
        )
        for row in _by_size(study.slopes).to_dict("records")
    )
    head = ("method", "N", "examples", "of", "slope in log size", "95 % interval", "")
    return TextTable(head=head, rows=rows, left=(0, 3, 6))


def worth_table(study: TuningStudy) -> TextTable:
    """What pre-training is worth in examples."""
    rows = tuple(
        (
            format_size(float(row["params"])),
            str(row["examples"]),
            format_number(float(row["worth"])),
            _between(row["lo"], row["hi"]),
            f"{row['worth'] / row['examples']:.1f}",
            "" if pd.isna(row["reason"]) else str(row["reason"]),
        )
        for row in _by_size(study.worth).to_dict("records")
    )
    return TextTable(head=("N", "examples", "worth", "95 % interval", "times", ""), rows=rows, left=(0, 5))


def law_table(study: TuningStudy) -> TextTable:
    """Parameters of the laws with intervals."""
    rows = tuple(
        (
            str(row["arm"]),
            str(row["law"]),
            "-" if pd.isna(row["parameter"]) else str(row["parameter"]),
            "-" if pd.isna(row["value"]) else format_number(float(row["value"])),
            _between(row["lo"], row["hi"]),
            "" if pd.isna(row["reason"]) else str(row["reason"]),
        )
        for row in study.laws.to_dict("records")
    )
    return TextTable(head=("method", "law", "parameter", "value", "95 % interval", ""), rows=rows, left=(0, 1, 2, 5))


def cell_table(study: TuningStudy) -> TextTable:
    """Every cell of the study."""
    head = (
        *("method", "N", "examples", "role", "seeds", "rate", "learns", "C", "loss", "+-"),
        *(MEASURES[name] for name in study.measures),
        *("forgetting", ""),
    )
    rows = tuple(
        (
            str(row["arm"]),
            format_size(float(row["params"])),
            str(row["examples"]),
            str(row["role"]),
            str(row["num_seeds"]),
            f"{row['lr']:.2g}",
            format_size(float(row["trainable_params"])),
            format_compute(float(row["flops"])) if row["flops"] else "-",
            f"{row['loss']:.4f}",
            format_number(float(row["loss_se"]), 2),
            *(f"{row[name]:.3f}" for name in study.measures),
            "-" if pd.isna(row["forgetting"]) else f"{row['forgetting']:+.3f}",
            "rate at the edge" if row["rate_at_edge"] else "",
        )
        for row in _by_size(study.cells).to_dict("records")
    )
    return TextTable(head=head, rows=rows, left=(0, 3, len(head) - 1))
