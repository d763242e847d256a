"""The report of a fine-tuning sweep: a page with its figures, and the folder that it lies in.

It owns which figures, tables and sentences there are. What they show is computed in `study.tuning`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis.figures.drawing.plate import Plate
from analysis.figures.drawing.render import save_png, standalone_svg, svg_text
from analysis.figures.drawing.theme import DARK, LIGHT, css_variables
from analysis.figures.tuning.methods import draw_examples, draw_pretraining, draw_ranks, draw_rates, draw_sizes
from analysis.files import json_ready, write_json
from analysis.formatting import format_compute, format_number, format_percent, format_size
from analysis.report.headline import Card, Reply, summary
from analysis.report.tables import TextTable
from analysis.study.tuning import MEASURES, TuningStudy
from experiments.files import write_atomic

MARKS = (
    "One colour for each method. Squares were held out; hollow marks have their best rate at the edge of those tried. "
    "Bars: the noise between seeds, pooled over a method's cells, and what a finer search for the rate could gain."
)
"""What the marks of these figures mean."""
PANEL_INCHES = 3.4
"""Width of one panel."""


def write_tuning_report(study: TuningStudy, out: Path, *, origin: dict[str, Any], draw: bool = True) -> Path:
    """Write the page, its figures and its tables.

    Parameters
    ----------
    study : TuningStudy
        What is shown.
    out : Path
        The folder; it is made when absent, and files of the same name are replaced.
    origin : dict
        What `provenance` gives for the inputs.
    draw : bool
        Whether figures are drawn and the page is written, too.

    Returns
    -------
    Path
        The page; the folder without one.
    """
    drawn, figures = _plates(study), {}
    frames = {
        "cells": study.cells,
        "crossovers": study.crossovers,
        "heldout": study.heldout,
        "laws": study.laws,
        "pairs": study.pairs,
        "equal_flops": study.equal_flops,
        "slopes": study.slopes,
        "runs": study.runs,
    }
    for name, frame in frames.items():
        write_atomic(out / "tables" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_json(out / "heldout.json", json_ready({"runs": study.heldout.to_dict("records")}))
    write_json(out / "provenance.json", origin)
    reply = Reply(question="What did we learn?", sentences=(tuning_headline(study),))
    write_json(out / "summary.json", summary(study.title, drawn[0], [reply], _cards(study)))
    if not draw:
        return out
    for plate in drawn:
        svg = svg_text(plate.draw, size=plate.size)
        figures[plate.name] = svg
        write_atomic(out / "figures" / f"{plate.name}.svg", standalone_svg(svg, num_budgets=len(study.arms)))
        save_png(plate.draw, out / "figures" / f"{plate.name}.png", size=plate.size)
    save_png(drawn[0].draw, out / "figures" / f"{drawn[0].name}-dark.png", size=drawn[0].size, theme=DARK)
    page = out / "report.html"
    write_atomic(page, _page(study, drawn, figures, origin=origin, files=sorted(frames)))
    return page


def tuning_headline(study: TuningStudy) -> str:
    """The held-out prediction in one or two sentences, or why there is none.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.

    Returns
    -------
    str
        For the head of the report.
    """
    held = study.heldout.dropna(subset=["predicted"])
    if held.empty:
        return "No law has a held-out prediction: too few runs were fitted, or none was held out."
    law, carried = _mean_error(held, "predicted"), _mean_error(held, "carried_forward")
    known = held.dropna(subset=["lo", "hi"])
    inside = int(((known["measured"] >= known["lo"]) & (known["measured"] <= known["hi"])).sum())
    most, size = int(held["examples"].max()), format_size(float(held["params"].max()))
    none = len(held) - len(known)
    rest = f" {none} have none, because their runs do not identify the law." if none else ""
    return (
        f"Laws fitted to the smaller bodies and training sets predict the test loss of the largest body (N = {size}) "
        f"from {most} examples with a mean absolute error of {format_percent(law)} over {len(held)} methods. Carrying "
        f"forward the loss from the next smaller training set errs by {format_percent(carried)}. {inside} of "
        f"{len(known)} lie within their 95 % prediction intervals.{rest}"
    )


def _mean_error(held: pd.DataFrame, column: str) -> float:
    return float((held[column].astype(float) / held["measured"] - 1).abs().mean())


def _plates(study: TuningStudy) -> list[Plate]:
    """The figures in the order of the page."""
    wide = 0.62 + len(study.bodies) * (PANEL_INCHES + 0.4)
    loss, forgot = "test loss, nats per target", "forgetting, nats per token"
    plates = [
        Plate(
            name="loss",
            title="Loss against examples",
            draw=partial(draw_examples, study, "loss", loss),
            size=(wide, 3.3),
            caption=MARKS,
        ),
        *_measure_plates(study, wide),
        Plate(
            name="sizes",
            title="Loss against size, and against what learns",
            draw=partial(draw_sizes, study),
            size=(0.62 + 2 * (PANEL_INCHES + 0.4), 3.3),
            caption=f"From {int(study.cells['examples'].max())} examples. {MARKS}",
        ),
        Plate(
            name="rates",
            title="Best rates",
            draw=partial(draw_rates, study),
            size=(5.6, 3.6),
            caption="The rate of least validation loss, from the most examples. Hollow: at the edge of those tried.",
        ),
    ]
    if len(study.slopes):
        plates.append(
            Plate(
                name="ranks",
                title="Best rate and loss against a method's size",
                draw=partial(draw_ranks, study),
                size=(0.62 + 2 * (PANEL_INCHES + 0.4), 3.3),
                caption=f"Ranks, widths of adapters, vectors of a prompt, from the most examples. {MARKS}",
            )
        )
    if study.cells["forgetting"].notna().any():
        plates.append(
            Plate(
                name="forgetting",
                title="Forgetting",
                draw=partial(draw_examples, study, "forgetting", forgot),
                size=(wide, 3.3),
                caption="What tuning did to the pre-training validation loss, on the documents of the body's record.",
            )
        )
    return plates


def _measure_plates(study: TuningStudy, wide: float) -> list[Plate]:
    """The first measure beside the loss: against examples, and against the pre-training loss of the bodies."""
    if not study.measures:
        return []
    name = study.measures[0]
    called = MEASURES[name]
    plates = [
        Plate(
            name=name,
            title=f"{called[0].upper()}{called[1:]} against examples",
            draw=partial(draw_examples, study, name, f"{called} on test"),
            size=(wide, 3.3),
            caption=f"The same cells by {called}.",
        )
    ]
    if len(set(study.cells["pretrained_loss"].dropna())) > 1:
        plates.append(
            Plate(
                name="pretraining",
                title=f"{called[0].upper()}{called[1:]} against the pre-training loss",
                draw=partial(draw_pretraining, study, name, f"{called} on test"),
                size=(5.6, 3.6),
                caption="From the most examples; a point is a body. Left is the better body.",
            )
        )
    return plates


def _page(
    study: TuningStudy, drawn: list[Plate], figures: Mapping[str, str], *, origin: dict[str, Any], files: list[str]
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("tuning.html.j2").render(
        title=study.title,
        headline=tuning_headline(study),
        cards=_cards(study),
        plates=drawn,
        inline={name: Markup(svg) for name, svg in figures.items()},
        sections={
            "loss": [
                ("Held out", "heldout", _heldout_table(study)),
                ("From how many examples full fine-tuning is better", "crossovers", _crossover_table(study)),
                *([("Paired with full fine-tuning", "pairs", _pair_table(study))] if len(study.pairs) else []),
                *([("At equal compute", "equal_flops", _flops_table(study))] if len(study.equal_flops) else []),
                *([("Along a method's size", "slopes", _slope_table(study))] if len(study.slopes) else []),
            ]
        },
        light=Markup(css_variables(LIGHT, len(study.arms))),
        dark=Markup(css_variables(DARK, len(study.arms))),
        warnings=list(study.notes),
        laws=_law_table(study),
        cells=_cell_table(study),
        origin=origin,
        files=files,
    )


def _cards(study: TuningStudy) -> list[Card]:
    """The best method from the most examples on each body."""
    most = study.cells[study.cells["examples"] == study.cells["examples"].max()]
    cards = []
    for body in study.bodies.to_dict("records"):
        here = most[most["pretrained"] == body["pretrained"]].dropna(subset=["loss"])
        if here.empty:
            continue
        best = here.loc[here["loss"].idxmin()]
        noise = float(best["loss_se"])
        se = f"+- {format_number(noise, 2)}" if math.isfinite(noise) else "no interval: one seed"
        size = format_size(float(body["params"]))
        cards.append(Card(label=f"best at N = {size}: {best['arm']}", value=f"{best['loss']:.4f}", interval=se))
    return cards


def _between(low: object, high: object) -> str:
    ends = [float(str(end)) if end is not None else math.nan for end in (low, high)]
    return f"{format_number(ends[0])} to {format_number(ends[1])}" if all(map(math.isfinite, ends)) else "-"


def _heldout_table(study: TuningStudy) -> TextTable:
    head = ("method", "N", "examples", "measured", "predicted", "95 % interval", "error", "carried forward")
    rows = []
    for row in study.heldout.to_dict("records"):
        predicted = float(row["predicted"])
        error = f"{100 * (predicted / row['measured'] - 1):+.1f} %" if math.isfinite(predicted) else "-"
        shown = f"{predicted:.4f}" if math.isfinite(predicted) else "no law"
        carried = "-" if pd.isna(row["carried_forward"]) else f"{row['carried_forward']:.4f}"
        cells = (row["arm"], format_size(float(row["params"])), str(row["examples"]), f"{row['measured']:.4f}", shown)
        rows.append((*cells, _between(row["lo"], row["hi"]), error, carried))
    return TextTable(head=head, rows=tuple(rows))


def _crossover_table(study: TuningStudy) -> TextTable:
    rows = tuple(
        (
            str(row["arm"]),
            format_size(float(row["params"])),
            "not reached" if pd.isna(row["examples"]) else format_number(float(row["examples"])),
            _between(row["lo"], row["hi"]),
            str(row["reason"] or ""),
        )
        for row in study.crossovers.to_dict("records")
    )
    return TextTable(head=("method", "N", "examples", "95 % interval", ""), rows=rows, left=(0, 4))


def _pair_table(study: TuningStudy) -> TextTable:
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
        for row in pairs.to_dict("records")
    )
    head = ("method", "N", "examples", "loss less that of full", "95 % interval over test examples", "test examples")
    return TextTable(head=head, rows=rows)


def _flops_table(study: TuningStudy) -> TextTable:
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
        for row in study.equal_flops.to_dict("records")
    )
    head = ("method", "N", "C", "loss of full", "of the method", "difference", "95 % interval over seeds")
    return TextTable(head=head, rows=rows)


def _slope_table(study: TuningStudy) -> TextTable:
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
        for row in study.slopes.to_dict("records")
    )
    head = ("method", "N", "examples", "of", "slope in log size", "95 % interval", "")
    return TextTable(head=head, rows=rows, left=(0, 3, 6))


def _law_table(study: TuningStudy) -> TextTable:
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


def _cell_table(study: TuningStudy) -> TextTable:
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
        for row in study.cells.to_dict("records")
    )
    return TextTable(head=head, rows=rows, left=(0, 3, len(head) - 1))
