"""Write a report: one self-contained HTML page, its figures as SVG and PNG, its tables as CSV, fit.json,
heldout.json,
checklist.json, provenance.json.

Owns which figures and files a report has and how they are written (atomically, the same bytes for the same inputs).
What the figures, tables and sentences say is elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.figures.heldout import draw_exponents, draw_heldout, draw_residuals
from analysis.figures.isoflop import draw_isoflop
from analysis.figures.render import save_png, standalone_svg, svg_text
from analysis.figures.surface import draw_envelope, draw_surface
from analysis.figures.theme import DARK, LIGHT, Theme, css_variables
from analysis.figures.training import draw_training, training_budgets, training_size
from analysis.files import json_ready, write_json
from analysis.formatting import format_compute, format_percent
from analysis.report import checklist, tables, text
from analysis.report.answers import answers
from analysis.study.study import Study
from experiments.files import write_atomic

Draw = Callable[[Study, Figure, Theme], None]
SLOPES_CITED = (
    "Grey lines have the slopes of Kaplan et al. 2020 (N ~ C^0.73, D ~ C^0.27) and Hoffmann et al. 2022 (both 0.50), "
    "drawn through the middle of ours: slopes compare across data sets, heights do not."
)
"""Said under the figures that show published slopes."""


@dataclass(frozen=True, kw_only=True)
class Plate:
    """One figure of the page."""

    name: str
    """Stem of its files."""
    title: str
    """Heading of its section."""
    draw: Draw
    """Fills a matplotlib figure."""
    size: tuple[float, float]
    """Inches."""
    caption: str
    """What is shown, with the marks explained."""


def plates(study: Study) -> list[Plate]:
    """The figures that this study has data for, in the order of the page."""
    marks = (
        "Circles are fitted runs, squares held-out ones, hollow circles flagged ones; one colour per compute budget."
    )
    level = format_percent(study.choices.level)
    out = [
        Plate(
            name="isoflop",
            title="Compute-optimal size and tokens",
            draw=draw_isoflop,
            size=(11.0, 3.9),
            caption=f"{marks} Diamonds are the budgets' minima with {level} intervals (hollow: held out, not used). "
            f"Lines are solid within the fitted compute and dashed beyond; bands are {level} intervals. {SLOPES_CITED}",
        ),
    ]
    if study.heldout is not None:
        out.append(
            Plate(
                name="heldout",
                title="The held-out prediction",
                draw=draw_heldout,
                size=(9.0, 3.7),
                caption="The law never saw these runs. Bars show the prediction interval of one run; the dotted line "
                "is the lowest loss among the fitted runs: what carrying the best smaller run forward predicts.",
            )
        )
    out += [
        Plate(
            name="surface",
            title="Iso-loss contours",
            draw=draw_surface,
            size=(8.0, 4.8),
            caption=f"Along a line the law's loss is constant; where it bends back, compute is best spent. {marks} "
            f"The band is the {level} interval of the compute-optimal size.",
        ),
        Plate(
            name="exponents",
            title="Three approaches side by side",
            draw=draw_exponents,
            size=(8.0, 3.1),
            caption=f"{study.comparison.verdict} Grey: Hoffmann et al. 2022, table 2 (10th and 90th percentiles), and "
            "Kaplan et al. 2020, equation 6.1.",
        ),
        Plate(
            name="envelope",
            title="Loss by compute",
            draw=draw_envelope,
            size=(8.0, 4.5),
            caption=f"{marks} The envelope is taken over runs whose learning rate has decayed.",
        ),
        Plate(
            name="residuals",
            title="Residuals",
            draw=draw_residuals,
            size=(10.5, 3.3),
            caption=f"{marks} The law was fitted to the circles.",
        ),
    ]
    shown = training_budgets(study)
    if shown:
        budgets = len({study.colour_index(value) for value in study.table.frame["budget_group"]})
        left_out = f" The {len(shown)} largest of {budgets} budgets are shown." if len(shown) < budgets else ""
        out.append(
            Plate(
                name="training",
                title="Training curves",
                draw=draw_training,
                size=training_size(study),
                caption="Training loss by tokens, deeper colour for larger models; the dot at the end is the "
                f"validation loss of the run.{left_out}",
            )
        )
    return out


def write_report(study: Study, out: Path, *, origin: dict[str, Any]) -> Path:
    """Write everything under `out` and return the page's path.

    Parameters
    ----------
    study : what the report shows.
    out : folder, made when absent; files of the same name are replaced.
    origin : `report_provenance.provenance` of the inputs.
    """
    drawn = plates(study)
    inline = {}
    for plate in drawn:

        def draw(figure: Figure, theme: Theme, plate: Plate = plate) -> None:
            plate.draw(study, figure, theme)

        svg = svg_text(draw, size=plate.size)
        inline[plate.name] = Markup(svg)
        write_atomic(out / "figures" / f"{plate.name}.svg", standalone_svg(svg, num_budgets=len(study.budgets)))
        save_png(draw, out / "figures" / f"{plate.name}.png", size=plate.size)
        if plate.name == drawn[0].name:
            save_png(draw, out / "figures" / f"{plate.name}-dark.png", size=plate.size, theme=DARK)
    for name, frame in csv_tables(study).items():
        write_atomic(out / "tables" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    fit = study.comparison.fit
    fit.save(out / "fit.json")
    raw = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    raw["frontier_along_shapes"] = study.comparison.frontiers[-1].to_dict()
    write_json(out / "fit.json", raw)
    write_json(out / "heldout.json", heldout_json(study))
    write_json(out / "provenance.json", origin)
    checked = answers(study, origin)
    write_json(out / "checklist.json", checklist.to_dict(checked))
    page = out / "report.html"
    write_atomic(page, render_page(study, drawn, inline, origin, checked))
    return page


def csv_tables(study: Study) -> dict[str, pd.DataFrame]:
    """The tables of a report by file stem; empty ones are left out."""
    every = {
        "runs": tables.runs_frame(study),
        "excluded": study.table.excluded,
        "minima": tables.minima_frame(study),
        "parameters": tables.estimates_frame(study),
        "exponents": tables.exponents_frame(study),
        "frontier": study.comparison.frontiers[-1].points,
        "heldout": study.heldout.rows if study.heldout is not None else pd.DataFrame(),
        "seeds": study.noise,
    }
    return {name: frame for name, frame in every.items() if len(frame)}


def heldout_json(study: Study) -> dict[str, Any]:
    """heldout.json: the rows that other people's scripts rely on, and the summary of the headline."""
    if study.heldout is None:
        return {"runs": [], "reason": "no run was held out"}
    held = study.heldout
    keys = ("run_id", "flops", "predicted", "lo", "hi", "measured", "error_fraction", "carried_forward")
    more = ("row", "params", "tokens", "budget", "carried_error")
    return json_ready(
        {
            "runs": [{key: row[key] for key in (*keys, *more)} for _, row in held.rows.iterrows()],
            "mape": held.mape.to_dict(),
            "carried_mape": held.carried_mape.to_dict(),
            "coverage": held.coverage,
            "half_width": held.half_width,
            "level": study.choices.level,
        }
    )


def render_page(
    study: Study,
    drawn: Sequence[Plate],
    inline: dict[str, Markup],
    origin: dict[str, Any],
    checked: tuple[checklist.Answer, ...],
) -> str:
    """The HTML page, with figures inline and no other file needed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = {
        "isoflop": [("IsoFLOP minima", "minima", tables.minima_table(study))],
        "heldout": [("Held-out runs", "heldout", tables.heldout_table(study))] if study.heldout is not None else [],
        "exponents": [
            ("Exponents", "exponents", tables.exponents_table(study)),
            (f"Parameters of {study.comparison.fit.law.name}: {study.comparison.fit.law.formula}", "parameters",
             tables.estimates_table(study)),
        ],
    }  # fmt: skip
    return environment.get_template("report.html.j2").render(
        title=study.title,
        headline=text.headline(study),
        cards=text.cards(study),
        plates=drawn,
        inline=inline,
        sections=sections,
        budgets=[format_compute(value) for value in study.budgets],
        light=Markup(css_variables(LIGHT, len(study.budgets))),
        dark=Markup(css_variables(DARK, len(study.budgets))),
        warnings=text.warnings(study),
        checklist=checked,
        checklist_summary=checklist.summary(checked),
        parts=checklist.PARTS,
        runs=tables.runs_table(study),
        excluded=tables.excluded_table(study) if len(study.table.excluded) else None,
        noise=tables.noise_table(study) if len(study.noise) else None,
        has_curves=bool(study.curves),
        origin=origin,
        files=sorted(csv_tables(study)),
    )
