"""The report of a fine-tuning sweep: a page with its figures, and the folder that it lies in.

It owns which figures, tables and sentences there are. What they show is computed in `study.tuning`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analysis.figures.drawing.plate import Plate
from analysis.figures.drawing.render import colour_counts, save_png, standalone_svg, svg_text
from analysis.figures.drawing.theme import DARK, LIGHT, css_variables
from analysis.figures.tuning.methods import (
    draw_examples,
    draw_pretraining,
    draw_ranks,
    draw_rates,
    draw_sizes,
    rows_and_columns,
)
from analysis.figures.tuning.worth import draw_worth
from analysis.files import json_ready, write_json
from analysis.formatting import format_number, format_size
from analysis.report.cautions import cautions
from analysis.report.cost import training_cost
from analysis.report.finetuning.sentences import opening_sentences
from analysis.report.finetuning.tables import (
    cell_table,
    crossover_table,
    flops_table,
    heldout_table,
    law_table,
    pair_table,
    slope_table,
    worth_table,
)
from analysis.report.headline import Card, Reply, summary
from analysis.report.tables import TextTable
from analysis.report.templates import concepts_from, template
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
        **({"worth": study.worth} if len(study.worth) else {}),
        "runs": study.runs,
    }
    for name, frame in frames.items():
        write_atomic(out / "tables" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_json(out / "heldout.json", json_ready({"runs": study.heldout.to_dict("records")}))
    write_json(out / "provenance.json", origin)
    reply = Reply(question="What did we learn?", sentences=opening_sentences(study))
    write_json(out / "summary.json", summary(study.title, drawn[0], [reply], _cards(study)))
    if not draw:
        return out
    for plate in drawn:
        svg = svg_text(plate.draw, size=plate.size)
        figures[plate.name] = svg
        write_atomic(out / "figures" / f"{plate.name}.svg", standalone_svg(svg))
        save_png(plate.draw, out / "figures" / f"{plate.name}.png", size=plate.size)
    save_png(drawn[0].draw, out / "figures" / f"{drawn[0].name}-dark.png", size=drawn[0].size, theme=DARK)
    page = out / "report.html"
    write_atomic(page, _page(study, drawn, figures, origin=origin, files=sorted(frames), concepts=concepts_from(out)))
    return page


def _plates(study: TuningStudy) -> list[Plate]:
    """The figures in the order of the page; with one size of the training set nothing is drawn against it."""
    rows, columns = rows_and_columns(len(study.bodies))
    panel_size = (0.62 + columns * (PANEL_INCHES + 0.4), 3.3 * rows)
    loss, forgot = "test loss, nats per target", "forgetting, nats per token"
    ranks, sizes, rates = _size_plates(study)
    if len(study.training_sizes) < 2:
        return [*ranks, sizes, rates]
    plates = [
        Plate(
            name="loss",
            title="Loss against examples",
            draw=partial(draw_examples, study, "loss", loss),
            size=panel_size,
            caption=MARKS,
        ),
        *_worth_plates(study),
        *_measure_plates(study, panel_size),
        sizes,
        rates,
        *ranks,
    ]
    if study.cells["forgetting"].notna().any():
        plates.append(
            Plate(
                name="forgetting",
                title="Forgetting",
                draw=partial(draw_examples, study, "forgetting", forgot),
                size=panel_size,
                caption="What tuning did to the pre-training validation loss, on the documents of the body's record.",
            )
        )
    return plates


def _size_plates(study: TuningStudy) -> tuple[list[Plate], Plate, Plate]:
    """Figures at the most examples: along a method's size where it has several, along sizes, and the best rates."""
    several = len(study.bodies) > 1
    sizes = Plate(
        name="sizes",
        title="Loss against size, and against what learns" if several else "Loss against what learns",
        draw=partial(draw_sizes, study),
        size=(0.62 + (1 + several) * (PANEL_INCHES + 0.4), 3.3) if several else (5.6, 3.6),
        caption=f"From {int(study.cells['examples'].max())} examples. {MARKS}",
    )
    rates = Plate(
        name="rates",
        title="Best rates",
        draw=partial(draw_rates, study),
        size=(5.6, 3.6),
        caption="The rate of least validation loss, from the most examples. Hollow: at the edge of those tried.",
    )
    ranks = Plate(
        name="ranks",
        title="Best rate and loss against a method's size",
        draw=partial(draw_ranks, study),
        size=(0.62 + 2 * (PANEL_INCHES + 0.4), 3.3),
        caption="Ranks, widths of adapters, vectors of a prompt, from the most examples; the best rate between those "
        f"tried. Dashed: straight lines through the logarithms. Grey: full fine-tuning. {MARKS}",
    )
    return [ranks][: len(study.slopes)], sizes, rates


def _worth_plates(study: TuningStudy) -> list[Plate]:
    """What pre-training is worth, where some runs from scratch reach the loss of a tuned body."""
    caption = "Dashed: as many as the tuned body had. Bars: 95 % intervals from the noise between seeds. Triangles are "
    return [
        Plate(
            name="worth",
            title="What pre-training is worth in examples",
            draw=partial(draw_worth, study),
            size=(5.8, 3.8),
            caption=caption + "bounds: no run from scratch had so low, or so high, a loss.",
        )
    ][: int((~study.worth["reason"].astype(str).str.contains("bound")).sum())]


def _measure_plates(study: TuningStudy, panel_size: tuple[float, float]) -> list[Plate]:
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
            size=panel_size,
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


def _sections(study: TuningStudy, drawn: list[Plate]) -> dict[str, list[tuple[str, str, TextTable]]]:
    """Tables by the figure that they stand below: what pre-training is worth by its own, where it is drawn."""
    first = drawn[0].name
    found: dict[str, list[tuple[str, str, TextTable]]] = {first: []}
    if len(study.heldout):
        found[first].append(("Held out", "heldout", heldout_table(study)))
    if len(study.training_sizes) > 1:
        crossing = "From how many examples full fine-tuning is better"
        found[first].append((crossing, "crossovers", crossover_table(study)))
    if len(study.pairs):
        found[first].append(("Paired with full fine-tuning", "pairs", pair_table(study)))
    if len(study.equal_flops):
        found[first].append(("At equal compute", "equal_flops", flops_table(study)))
    if len(study.slopes):
        found[first].append(("Along a method's size", "slopes", slope_table(study)))
    if len(study.worth):
        place = "worth" if any(plate.name == "worth" for plate in drawn) else first
        found.setdefault(place, []).append(("Examples from scratch for the same loss", "worth", worth_table(study)))
    return found


def _page(
    study: TuningStudy,
    drawn: list[Plate],
    figures: Mapping[str, str],
    *,
    origin: dict[str, Any],
    files: list[str],
    concepts: str | None,
) -> str:
    counts = colour_counts(*figures.values())
    known, procedure = cautions(study.notes)
    return template("tuning.html.j2").render(
        title=study.title,
        headline=" ".join(opening_sentences(study)),
        cards=_cards(study),
        plates=drawn,
        inline={name: Markup(svg) for name, svg in figures.items()},
        sections=_sections(study, drawn),
        light=Markup(css_variables(LIGHT, *counts)),
        dark=Markup(css_variables(DARK, *counts)),
        cautions=known,
        procedure=procedure,
        cost=training_cost(study.runs),
        concepts=concepts,
        laws=law_table(study) if len(study.training_sizes) > 1 else None,
        cells=cell_table(study),
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
