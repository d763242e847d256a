"""The folder of a report: the page, its figures as SVG and PNG, its tables as CSV, and what programs read as JSON.

It owns which files there are, and writes the same bytes for the same inputs. What the files say is elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.drawing.plate import Plate
from analysis.figures.drawing.render import save_png, standalone_svg, svg_text
from analysis.figures.drawing.theme import DARK
from analysis.files import json_ready, write_json
from analysis.findings.registry import findings
from analysis.report import checklist, tables
from analysis.report.answers import answers
from analysis.report.headline import cards, replies, summary
from analysis.report.page import render_page
from analysis.report.plates import plates
from analysis.report.templates import concepts_from
from analysis.selection.auto_saved import save_auto
from analysis.study.study import Study
from experiments.files import write_atomic

HELD_KEYS = ("run_id", "flops", "predicted", "lo", "hi", "measured", "error_fraction", "carried_forward")
"""What other people's scripts read of each held-out run."""
MORE_HELD_KEYS = ("row", "params", "tokens", "budget", "carried_error", "lo_90", "hi_90")
"""What heldout.json holds of each run besides."""
OF_ONE_LAW = ("law_lo", "law_hi")
"""And where a weighted set of laws predicts: the interval of the fitted law alone."""


def write_report(study: Study, out: Path, *, origin: dict[str, Any], draw: bool = True) -> Path:
    """Write a report.

    Parameters
    ----------
    study : Study
        What it shows.
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
    found = findings(study)
    own = [finding.plate for finding in found if finding.leads]
    drawn = [*own, *plates(study), *(finding.plate for finding in found if not finding.leads)]
    first = drawn[0]
    frames = csv_tables(study) | {table.name: table.frame for finding in found for table in finding.tables}
    for name, frame in frames.items():
        write_atomic(out / "tables" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    _write_fit(study, out / "fit.json")
    if study.auto is not None:
        save_auto(study.auto, out / "auto.json")
    write_json(out / "heldout.json", heldout_json(study))
    if len(study.registered):
        write_json(out / "registered.json", json_ready({"runs": study.registered.to_dict("records")}))
    write_json(out / "provenance.json", origin)
    write_json(out / "summary.json", summary(study.title, first, replies(study, found), cards(study, found)))
    checked = answers(study, origin)
    write_json(out / "checklist.json", checklist.to_dict(checked))
    if not draw:
        return out
    figures = {plate.name: _write_figure(plate, out / "figures") for plate in drawn}
    save_png(first.draw, out / "figures" / f"{first.name}-dark.png", size=first.size, theme=DARK)
    page = out / "report.html"
    write_atomic(
        page,
        render_page(
            study,
            drawn,
            figures,
            origin=origin,
            checked=checked,
            found=found,
            files=sorted(frames),
            concepts=concepts_from(out),
        ),
    )
    return page


def _write_figure(plate: Plate, folder: Path) -> str:
    """NAME.svg and NAME.png; the figure as an element of the page."""
    svg = svg_text(plate.draw, size=plate.size)
    write_atomic(folder / f"{plate.name}.svg", standalone_svg(svg))
    save_png(plate.draw, folder / f"{plate.name}.png", size=plate.size)
    return svg


def _write_fit(study: Study, path: Path) -> None:
    """The fit of the headline as `fit --out` writes it, with the frontier along the shapes that were trained."""
    study.comparison.fit.save(path)
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["frontier_along_shapes"] = study.comparison.frontiers[-1].to_dict()
    write_json(path, raw)


def csv_tables(study: Study) -> dict[str, pd.DataFrame]:
    """The tables of a report.

    Parameters
    ----------
    study : Study
        What it shows.

    Returns
    -------
    dict of str to DataFrame
        By the stem of their files; empty ones are left out.
    """
    every = {
        "runs": tables.runs_frame(study),
        "excluded": study.table.excluded,
        "minima": tables.minima_frame(study),
        "parameters": tables.estimates_frame(study),
        "exponents": tables.exponents_frame(study),
        "frontier": study.comparison.frontiers[-1].points,
        "heldout": study.heldout.rows if study.heldout is not None else pd.DataFrame(),
        "seeds": study.noise,
        "multipliers": study.multipliers,
        "registered": study.registered,
    }
    return {name: frame for name, frame in every.items() if len(frame)}


def heldout_json(study: Study) -> dict[str, Any]:
    """The content of heldout.json.

    Parameters
    ----------
    study : Study
        What the report shows.

    Returns
    -------
    dict
        runs, and the numbers of the headline; `reason` instead when no run was held out.
    """
    held = study.heldout
    if held is None:
        return {"runs": [], "reason": "no run was held out"}
    keys = (*HELD_KEYS, *MORE_HELD_KEYS, *(OF_ONE_LAW if study.auto is not None else ()))
    out: dict[str, Any] = json_ready(
        {
            "runs": [{key: row[key] for key in keys} for _, row in held.rows.iterrows()],
            "mape": held.mape.to_dict(),
            "carried_mape": held.carried_mape.to_dict(),
            "coverage": held.coverage,
            "half_width": held.half_width,
            "reach": held.reach,
            "level": study.choices.level,
        }
    )
    return out
