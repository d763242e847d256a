"""The report of a fine-tuning sweep: a page with its figures, and the folder that it lies in.

It owns which figures, tables and sentences there are. What they show is computed in `study.tuning`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.figures.drawing.plate import Plate
from analysis.figures.drawing.render import save_png, standalone_svg, svg_text
from analysis.figures.drawing.theme import DARK, LIGHT, css_variables
from analysis.figures.tuning.methods import draw_examples, draw_pretraining, draw_ranks, draw_rates, draw_sizes
from analysis.figures.tuning.worth import draw_worth
from analysis.files import json_ready, write_json
from analysis.formatting import format_number, format_percent, format_size
from analysis.report.cautions import cautions
from analysis.report.cost import training_cost
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
from analysis.report.templates import concepts_from, template
from analysis.study.tuning import MEASURES, TuningStudy
from experiments.files import write_atomic

MARKS = (
    "One colour for each method. Squares were held out; hollow marks have their best rate at the edge of those tried. "
    "Bars: the noise between seeds, pooled over a method's cells, and what a finer search for the rate could gain."
)
"""What the marks of these figures mean."""
SIZES = {"lora": "LoRA's rank", "adapters": "the width of adapters", "prompt": "the length of a prompt"}
"""What the size of a method is."""
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
        write_atomic(out / "figures" / f"{plate.name}.svg", standalone_svg(svg, num_budgets=len(study.arms)))
        save_png(plate.draw, out / "figures" / f"{plate.name}.png", size=plate.size)
    save_png(drawn[0].draw, out / "figures" / f"{drawn[0].name}-dark.png", size=drawn[0].size, theme=DARK)
    page = out / "report.html"
    write_atomic(page, _page(study, drawn, figures, origin=origin, files=sorted(frames), concepts=concepts_from(out)))
    return page


def opening_sentences(study: TuningStudy) -> tuple[str, ...]:
    """The sentences of the head: what pre-training is worth, sizes of methods, and the held-out prediction.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.
    """
    held = (tuning_headline(study),) if len(study.training_sizes) > 1 or not len(study.slopes) else ()
    return (*worth_sentences(study), *size_sentences(study), *held)


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


def worth_sentences(study: TuningStudy) -> tuple[str, ...]:
    """What pre-training is worth at the fewest examples, for the smallest and the largest body; nothing without it.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.
    """
    if study.worth.empty:
        return ()
    fewest = study.worth[study.worth["examples"] == study.worth["examples"].min()].sort_values("params")
    said = []
    for row in (fewest.iloc[0], fewest.iloc[-1])[: len(fewest)]:
        times = float(row["worth"] / row["examples"])
        ends = _times(row, "lo"), _times(row, "hi")
        between = f" ({ends[0]}, {ends[1]})" if all(ends) else ""
        bound = "at least " if "lower bound" in str(row["reason"]) else "about "
        size = format_size(float(row["params"]))
        said.append(f"{bound}{format_number(times, 2)}{between} times as many for N = {size}")
    count = int(fewest["examples"].iloc[0])
    return (
        f"Pre-training saves examples: to reach the loss of a tuned body from {count} examples, fresh weights need "
        f"{' and '.join(said)}.",
    )


def size_sentences(study: TuningStudy) -> tuple[str, ...]:
    """How the loss and the best rate of each method with several sizes move along them, on the largest body.

    Parameters
    ----------
    study : TuningStudy
        What the report shows.
    """
    body = study.bodies["pretrained"].iloc[-1]
    here = study.slopes[study.slopes["pretrained"] == body]
    here = here[here["examples"] == here["examples"].max()]
    said = []
    for method, rows in here.groupby("method", sort=True):
        lines = {row["measure"]: row for row in rows.to_dict("records")}
        sizes = study.cells.loc[study.cells["method"] == method, "size"]
        name = SIZES.get(str(method), f"the size of {method}")
        if any(pd.isna(line["slope"]) for line in lines.values()):
            said.append(f"What {name} does to the loss and the best rate is not identified: {lines['lr']['reason']}.")
            continue
        powers = {of: f"{line['slope']:+.3f} ({line['lo']:+.3f}, {line['hi']:+.3f})" for of, line in lines.items()}
        said.append(
            f"As {name} rises from {int(sizes.min())} to {int(sizes.max())}, the test loss changes as its power "
            f"{powers['loss']} and the best rate as its power {powers['lr']}, with 95 % intervals."
        )
        said += _largest_beside_full(study, str(method))
    return tuple(said)


def _largest_beside_full(study: TuningStudy, method: str) -> list[str]:
    """The largest size of a method against full fine-tuning, on the same test examples of the largest body."""
    of = study.cells[
        (study.cells["method"] == method) & (study.cells["pretrained"] == study.bodies["pretrained"].iloc[-1])
    ]
    of = of[of["examples"] == of["examples"].max()]
    last = of.loc[of["size"].idxmax()]
    pair = study.pairs.merge(last.to_frame().T[["pretrained", "arm", "examples"]], on=["pretrained", "arm", "examples"])
    if pair.empty:
        return []
    row = pair.iloc[0]
    full = study.cells[(study.cells["pretrained"] == last["pretrained"]) & (study.cells["arm"] == "full")]
    share = float(last["trainable_params"]) / float(full["trainable_params"].iloc[0])
    return [
        f"At {int(last['size'])}, {format_percent(share)} as many parameters learn as under full fine-tuning, whose "
        f"loss on the same test examples is lower by {row['difference']:.3f} ({row['lo']:.3f}, {row['hi']:.3f}) nats."
    ]


def _times(row: pd.Series, end: str) -> str:
    """An end of the interval in multiples of the examples; empty without one."""
    return format_number(float(row[end] / row["examples"]), 2) if pd.notna(row[end]) else ""


def _mean_error(held: pd.DataFrame, column: str) -> float:
    return float((held[column].astype(float) / held["measured"] - 1).abs().mean())


def _plates(study: TuningStudy) -> list[Plate]:
    """The figures in the order of the page; with one size of the training set nothing is drawn against it."""
    wide = 0.62 + len(study.bodies) * (PANEL_INCHES + 0.4)
    loss, forgot = "test loss, nats per target", "forgetting, nats per token"
    ranks, sizes, rates = _size_plates(study)
    if len(study.training_sizes) < 2:
        return [*ranks, sizes, rates]
    plates = [
        Plate(
            name="loss",
            title="Loss against examples",
            draw=partial(draw_examples, study, "loss", loss),
            size=(wide, 3.3),
            caption=MARKS,
        ),
        *_worth_plates(study),
        *_measure_plates(study, wide),
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
                size=(wide, 3.3),
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
    """What pre-training is worth, where runs from scratch stand beside tuned bodies."""
    caption = "Dashed: as many as the tuned body had. Bars: 95 % intervals from the noise between seeds. Triangles are "
    return [
        Plate(
            name="worth",
            title="What pre-training is worth in examples",
            draw=partial(draw_worth, study),
            size=(5.8, 3.8),
            caption=caption + "bounds: no run from scratch had so low, or so high, a loss.",
        )
    ][: len(study.worth)]


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
    study: TuningStudy,
    drawn: list[Plate],
    figures: Mapping[str, str],
    *,
    origin: dict[str, Any],
    files: list[str],
    concepts: str | None,
) -> str:
    known, procedure = cautions(study.notes)
    return template("tuning.html.j2").render(
        title=study.title,
        headline=" ".join(opening_sentences(study)),
        cards=_cards(study),
        plates=drawn,
        inline={name: Markup(svg) for name, svg in figures.items()},
        sections={
            drawn[0].name: [
                *([("Held out", "heldout", heldout_table(study))] if len(study.heldout) else []),
                *(
                    [("From how many examples full fine-tuning is better", "crossovers", crossover_table(study))]
                    if len(study.training_sizes) > 1
                    else []
                ),
                *([("Paired with full fine-tuning", "pairs", pair_table(study))] if len(study.pairs) else []),
                *([("At equal compute", "equal_flops", flops_table(study))] if len(study.equal_flops) else []),
                *([("Along a method's size", "slopes", slope_table(study))] if len(study.slopes) else []),
            ],
            "worth": [("Examples from scratch for the same loss", "worth", worth_table(study))],
        },
        light=Markup(css_variables(LIGHT, len(study.arms))),
        dark=Markup(css_variables(DARK, len(study.arms))),
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
