"""The page of a report: one HTML file with its figures inside, which needs no other file.

It owns what stands where. What figures, tables and sentences say is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from analysis.figures.drawing.plate import Plate
from analysis.figures.drawing.render import colour_counts
from analysis.figures.drawing.theme import DARK, LIGHT, css_variables
from analysis.findings.base import Finding, FoundTable
from analysis.formatting import format_percent
from analysis.report import checklist, tables
from analysis.report.cautions import cautions
from analysis.report.cost import training_cost
from analysis.report.exploring.calculator import calculator
from analysis.report.exploring.charts import embedded_json, explore_script, explore_spec, vega_bundle
from analysis.report.headline import cards, replies, warnings
from analysis.report.provenance import sweep_file
from analysis.report.templates import template
from analysis.study.study import Study

Section = tuple[str, str, tables.TextTable]
"""Heading of a table, stem of its CSV, and the table."""


def render_page(
    study: Study,
    drawn: Sequence[Plate],
    figures: Mapping[str, str],
    *,
    origin: Mapping[str, Any],
    checked: Sequence[checklist.Answer],
    found: Sequence[Finding],
    files: Sequence[str],
    concepts: str | None = None,
) -> str:
    """The HTML of a report.

    Parameters
    ----------
    study : Study
        What it shows.
    drawn : sequence of Plate
        Its figures.
    figures : mapping of str to str
        The `<svg>` element of each figure by its name.
    origin : mapping
        What `provenance` gives for the inputs.
    checked : sequence of Answer
        The reporting checklist.
    found : sequence of Finding
        What the study's own design says; their figures are among `drawn`.
    files : sequence of str
        Stems of the CSV files in the folder tables.
    concepts : str, optional
        The way from the page to the pages of concepts, for links; there are none without it.

    Returns
    -------
    str
        The page.
    """
    counts = (*colour_counts(*figures.values()), len(study.budgets))
    known, procedure = cautions(warnings(study))
    return template("report.html.j2").render(
        title=study.title,
        replies=replies(_as_seen_from_here(study, origin), found),
        loss_unit=study.loss_unit,
        level=format_percent(study.choices.level),
        cards=cards(study, found),
        plates=drawn,
        inline={name: Markup(svg) for name, svg in figures.items()},
        sections=_sections(study, found),
        light=Markup(css_variables(LIGHT, *counts)),
        dark=Markup(css_variables(DARK, *counts)),
        cautions=known,
        procedure=procedure,
        cost=training_cost(study.table.frame),
        concepts=concepts,
        checklist=checked,
        checklist_summary=checklist.summary(checked),
        parts=checklist.PARTS,
        runs=tables.runs_table(study),
        excluded=tables.excluded_table(study) if len(study.table.excluded) else None,
        noise=tables.noise_table(study) if len(study.noise) else None,
        multipliers=tables.multipliers_table(study.multipliers) if len(study.multipliers) else None,
        registered=tables.registered_table(study.registered) if len(study.registered) else None,
        has_curves=bool(study.curves),
        explore_spec=Markup(embedded_json(explore_spec(study))),
        explore_grid=Markup(embedded_json(calculator(study))),
        explore=Markup(explore_script()),
        vega=Markup(vega_bundle()),
        origin=origin,
        files=files,
    )


def _as_seen_from_here(study: Study, origin: Mapping[str, Any]) -> Study:
    """The study with its sweep's file as the provenance names it, where commands that are pasted find it."""
    file = sweep_file(origin)
    if study.manifest is None or file is None:
        return study
    return replace(study, manifest=replace(study.manifest, source=file))


def _sections(study: Study, found: Sequence[Finding]) -> dict[str, list[Section]]:
    """Tables that follow a figure, by the figure's name."""
    law = study.comparison.fit.law
    sections: dict[str, list[Section]] = {
        "isoflop": [("IsoFLOP minima", "minima", tables.minima_table(study))],
        "exponents": [
            ("Exponents", "exponents", tables.exponents_table(study)),
            (f"Parameters of {law.name}: {law.formula}", "parameters", tables.estimates_table(study)),
        ],
    }
    if study.heldout is not None:
        sections["heldout"] = [("Held-out runs", "heldout", tables.heldout_table(study))]
    for finding in found:
        sections[finding.plate.name] = [(table.heading, table.name, _text_table(table)) for table in finding.tables]
    return sections


def _text_table(table: FoundTable) -> tables.TextTable:
    """A finding's table for the page; columns of words are aligned to the left."""
    last = len(table.head) - 1
    return tables.TextTable(head=table.head, rows=table.rows, left=(0,) if last < 2 else (0, last))
