"""docs/laws.md: one section for each law, fitted, drawn and counted by one command.

It owns how an example becomes Markdown. Prose is in prose.md, what is fitted in examples.py, and how it is drawn in
`analysis.figures.laws`. Every number of the page that is ours is computed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.catalogue.examples import BOOTSTRAP, EXAMPLES, Example
from analysis.errors import UserError
from analysis.figures.laws import LawFigure, save_law
from analysis.files import sections_of
from analysis.fitting.fit_law import fit_law
from analysis.formatting import format_number, format_percent
from analysis.laws.registry import LAWS
from experiments.files import write_atomic

COMMAND = "isoflop laws --write docs/laws.md --data ../shared/data"
"""What makes the page from a checkout with the published runs beside it."""
PROSE = Path(__file__).with_name("prose.md")
"""Runs, When and Note of each law."""
HEAD = f"""# The laws

One section for each law that `fit --law` knows: its formula and source, when to use it, and what it says of real runs.
`isoflop laws NAME` prints formula, inputs and parameters; docs/how-to/add-a-law.md says how to add one.

Made by `{COMMAND}`. Published runs are read from that folder and not
kept here; their sources are named. In figures, filled points were fitted and diamonds held out; curves are solid over
the fitted runs of a series and dashed beyond; bands are 95 % intervals of the law; the lower panel is
(predicted - measured) / measured. Intervals come from {BOOTSTRAP} draws over runs unless a section says otherwise.
"""


def read_prose(text: str) -> dict[str, dict[str, str]]:
    """The prose of every law.

    Parameters
    ----------
    text : str
        Content of prose.md.

    Returns
    -------
    dict
        {"Runs", "When", "Note"} by law, each on one line.
    """
    out = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        name, _, body = part.partition("\n")
        pieces = re.findall(r"\*\*(\w+)\.\*\* (.*?)(?=\n\n|\Z)", body, flags=re.S)
        out[name.strip()] = {key: " ".join(value.split()) for key, value in pieces}
    return out


def figure_of(example: Example, folder: Path, *, bootstrap: int = BOOTSTRAP) -> LawFigure:
    """Fit the law of an example to its rows that are not held out, and predict all of them.

    Parameters
    ----------
    example : Example
        The law and its table.
    folder : Path
        Published runs.
    bootstrap : int
        Most draws behind the intervals.

    Returns
    -------
    LawFigure
        What is drawn and counted.
    """
    frame = example.table(folder)
    spec = replace(example.spec, bootstrap=min(bootstrap, example.spec.bootstrap))
    fit = fit_law(example.law + example.option, frame[~frame["held"].astype(bool)], spec)
    return LawFigure(
        fit=fit,
        frame=frame,
        bands=fit.predict(frame),
        along=example.along,
        labels=example.labels,
        through_rows=example.through_rows,
    )


def parameters(shown: LawFigure, example: Example) -> list[str]:
    """The table of parameters.

    Parameters
    ----------
    shown : LawFigure
        With the fit.
    example : Example
        With the true values, for simulated runs.

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    fit, truth = shown.fit, example.truth
    head = ["parameter", "meaning", *(["true value"] if truth else []), "value", "95 % interval"]
    rows = []
    for parameter in fit.law.parameters:
        found = fit.estimates[parameter.name]
        ends = f"{format_number(found.lo)} to {format_number(found.hi)}" if found.has_interval else None
        true = [format_number(truth[parameter.name])] if truth else []
        cells = [f"`{parameter.name}`", parameter.meaning, *true, format_number(found.value)]
        rows.append([*cells, ends or f"none: {found.reason}"])
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def account(shown: LawFigure) -> str:
    """How well the law describes the fitted runs and predicts the held-out ones, in one or two sentences."""
    held, what = shown.held, "rows" if shown.through_rows else "runs"
    median, largest = _median_and_largest(shown, ~held)
    out = f"The median error over the {int((~held).sum())} fitted {what} is {median}, the largest {largest}."
    if held.any():
        median, largest = _median_and_largest(shown, held)
        out += f" Over the {int(held.sum())} held-out {what} it is {median}, the largest {largest}"
        ends = shown.bands.loc[held, ["prediction_lo", "prediction_hi"]].to_numpy(dtype=float)
        if np.isfinite(ends).all():
            inside = (ends[:, 0] <= shown.measured[held]) & (shown.measured[held] <= ends[:, 1])
            out += f"; the 95 % prediction interval holds {int(inside.sum())} of them"
        out += "."
    frontier = shown.fit.frontier_estimates
    if frontier is not None and frontier.a.has_interval:
        a = frontier.a
        ends_of_a = f"{format_number(a.lo)} to {format_number(a.hi)}"
        out += f" Compute-optimal size grows as C**a with a = {format_number(a.value)} ({ends_of_a}) under C = 6 N D."
    return out


def _median_and_largest(shown: LawFigure, rows: NDArray[np.bool_]) -> tuple[str, str]:
    """Of the absolute errors of some rows, in per cent where they are fractions."""
    errors = np.abs(shown.errors()[rows])
    write = format_percent if shown.relative else format_number
    return write(float(np.median(errors))), write(float(errors.max()))


def section(shown: LawFigure, example: Example, prose: Mapping[str, str], figure: str) -> list[str]:
    """The section of one law.

    Parameters
    ----------
    shown : LawFigure
        What was fitted.
    example : Example
        The law and its table.
    prose : mapping
        Runs, When and Note.
    figure : str
        Path of the figure, as the page links it.

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    fit, law = shown.fit, shown.fit.law
    how = f"{fit.options['objective']} objective on {fit.options['residuals']} residuals, status {fit.status}"
    what = "Simulated runs" if example.truth else "Real runs"
    lines = [
        f"## {law.name}",
        "",
        "```",
        LAWS[law.name].formula,
        "```",
        f"{law.source}. Inputs: {', '.join(f'`{name}`' for name in law.inputs)}. Units: {law.units.rstrip('.')}.",
        "",
        f"**When.** {prose['When']} Meant for: {law.domain}.",
        "",
        f"![{law.name}: runs, law and errors]({figure})",
        "",
        f"**{what}.** Fitted to {prose['Runs']} ({how}).",
        "",
        *parameters(shown, example),
        "",
        f"{account(shown)} {prose['Note']}",
    ]
    if example.command:
        command = example.command.replace("DATA", "../shared/data")
        lines += ["", "```", f"isoflop fit {command}", "```"]
    return lines


def check_examples(prose: Mapping[str, Mapping[str, str]]) -> None:
    """UserError for a law of the registry without an example or prose."""
    shown = {example.law for example in EXAMPLES}
    missing = [name for name in LAWS if name not in shown or set(prose.get(name, {})) != {"Runs", "When", "Note"}]
    if missing:
        raise UserError(
            f"{', '.join(missing)} has no section; add an Example to analysis/catalogue/examples.py, and Runs, "
            "When and Note to analysis/catalogue/prose.md"
        )


def write_page(
    target: Path,
    folder: Path,
    *,
    names: Sequence[str] = (),
    bootstrap: int = BOOTSTRAP,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Write the page to `target` and figures to figures/laws/ beside it; with `names` only these sections and figures.

    Parameters
    ----------
    target : Path
        The page.
    folder : Path
        Holds the published runs.
    names : sequence of str
        Laws whose sections and figures are made anew, the others staying as they are; none for the whole page.
    bootstrap : int
        Draws of each fit.
    say : callable
        Is told of each law as it is done.

    Raises
    ------
    UserError
        When the folder of published runs is not there, or a law has no example or prose.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} of published runs; name it with --data FOLDER")
    prose = read_prose(PROSE.read_text(encoding="utf-8"))
    check_examples(prose)
    figures = target.parent / "figures" / "laws"
    order = list(LAWS)
    sections = sections_of(target.read_text(encoding="utf-8")) if names and target.exists() else {}
    for example in sorted(EXAMPLES, key=lambda e: order.index(e.law)):
        if names and example.law not in names:
            continue
        shown = figure_of(example, folder, bootstrap=bootstrap)
        save_law(shown, figures / f"{example.law}.png")
        made = section(shown, example, prose[example.law], f"figures/laws/{example.law}.png")
        sections[example.law] = "\n".join(made)
        say(f"{example.law}: {account(shown)}")
    kept = [sections[name] for name in order if name in sections]
    write_atomic(target, "\n\n".join([HEAD.rstrip(), *kept]) + "\n")
