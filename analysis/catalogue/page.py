"""docs/laws.md: one section a law, fitted, drawn and counted by one command.

Owns how examples become studies and studies become Markdown. Prose is in prose.md, what is fitted in
`laws_examples`, drawing in `figures_laws`; every number of the page that is ours is computed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.catalogue.examples import EXAMPLES, Example
from analysis.errors import UserError
from analysis.figures.laws import Study, save_law
from analysis.fitting.fit_law import fit_law
from analysis.formatting import format_number, format_percent
from analysis.laws.registry import LAWS
from experiments.files import write_atomic

COMMAND = "python -m analysis laws --write docs/laws.md --data ../shared/data"
"""What makes the page from a checkout with the published runs beside it."""
BOOTSTRAP = 400
"""Draws behind the intervals."""

PROSE = Path(__file__).with_name("prose.md")
"""Runs, When and Note of each law."""
HEAD = f"""# The laws

One section for each law that `fit --law` knows: its formula and source, when to use it, and what it says of real runs.
`python -m analysis laws NAME` prints formula, inputs and parameters; docs/adding_a_law.md says how to add one.

Made by `{COMMAND}`. Published runs are read from that folder and not
kept here; their sources are named. In figures, filled points were fitted and diamonds held out; curves are solid over
the fitted runs of a series and dashed beyond; bands are 95 % intervals of the law; the lower panel is
(predicted - measured) / measured. Intervals come from {BOOTSTRAP} draws over runs unless a section says otherwise.
"""


def read_prose(text: str) -> dict[str, dict[str, str]]:
    """law -> {"Runs", "When", "Note"} of the prose file, each one line."""
    out = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        name, _, body = part.partition("\n")
        pieces = re.findall(r"\*\*(\w+)\.\*\* (.*?)(?=\n\n|\Z)", body, flags=re.S)
        out[name.strip()] = {key: " ".join(value.split()) for key, value in pieces}
    return out


def make_study(example: Example, folder: Path, *, bootstrap: int = BOOTSTRAP) -> Study:
    """The example's law fitted to its rows that are not held out, and predicted at all of them."""
    frame = example.table(folder)
    fitted = frame[~frame["held"].astype(bool)]
    fit = fit_law(example.law, fitted, **{"bootstrap": bootstrap, **example.options})
    return Study(
        fit=fit,
        frame=frame,
        bands=fit.predict(frame),
        along=example.along,
        label=example.label,
        kind=example.kind,
        ylabel=example.ylabel,
        log_y=example.log_y,
        through_rows=example.through_rows,
    )


def parameters(study: Study, example: Example) -> list[str]:
    """The table of parameters."""
    fit = study.fit
    truth = ["true value"] if example.truth else []
    lines = [
        "| " + " | ".join(["parameter", "meaning", *truth, "value", "95 % interval"]) + " |",
        "|---" * (4 + len(truth)) + "|",
    ]
    for p in fit.law.parameters:
        e = fit.estimates[p.name]
        interval = f"{format_number(e.lo)} to {format_number(e.hi)}" if e.lo is not None else f"none: {e.reason}"
        true = [format_number(example.truth[p.name])] if example.truth else []
        lines.append("| " + " | ".join([f"`{p.name}`", p.meaning, *true, format_number(e.value), interval]) + " |")
    return lines


def account(study: Study) -> str:
    """How well the law describes the fitted runs and predicts the held-out ones, in one or two sentences."""
    errors, held, fit = np.abs(study.errors()), study.held, study.fit

    def write(value: float) -> str:
        return format_percent(value) if study.relative else format_number(value)

    what = "rows" if study.through_rows else "runs"
    out = f"The median error over the {int((~held).sum())} fitted {what} is {write(float(np.median(errors[~held])))}"
    out += f", the largest {write(float(errors[~held].max()))}."
    if held.any():
        out += (
            f" Over the {int(held.sum())} held-out {what} it is {write(float(np.median(errors[held])))}, the largest "
        )
        out += f"{write(float(errors[held].max()))}"
        ends = study.bands.loc[held, ["prediction_lo", "prediction_hi"]].to_numpy(dtype=float)
        if np.isfinite(ends).all():
            inside = (ends[:, 0] <= study.measured[held]) & (study.measured[held] <= ends[:, 1])
            out += f"; the 95 % prediction interval holds {int(inside.sum())} of them"
        out += "."
    frontier = fit.frontier_estimates
    if frontier is not None and frontier.a.has_interval:
        a = frontier.a
        ends_of_a = f"{format_number(a.lo)} to {format_number(a.hi)}"
        out += f" Compute-optimal size grows as C**a with a = {format_number(a.value)} ({ends_of_a}) under C = 6 N D."
    return out


def section(study: Study, example: Example, prose: Mapping[str, str], figure: str) -> list[str]:
    """One law."""
    fit, law = study.fit, study.fit.law
    options = {k: v for k, v in fit.options.items() if k in ("objective", "residuals")}
    how = f"{options['objective']} objective on {options['residuals']} residuals, status {fit.status}"
    what = "Simulated runs" if example.truth else "Real runs"
    lines = [
        f"## {law.name}",
        "",
        "```",
        law.formula,
        "```",
        f"{law.source}. Inputs: {', '.join(f'`{name}`' for name in law.inputs)}. Units: {law.units.rstrip('.')}.",
        "",
        f"**When.** {prose['When']} Meant for: {law.domain}.",
        "",
        f"![{law.name}: runs, law and errors]({figure})",
        "",
        f"**{what}.** Fitted to {prose['Runs']} ({how}).",
        "",
        *parameters(study, example),
        "",
        f"{account(study)} {prose['Note']}",
    ]
    if example.command:
        command = example.command.replace("DATA", "../shared/data")
        lines += ["", "```", f"python -m analysis fit {command}", "```"]
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
    """Write the page to `target` and figures to figures/laws/ beside it; with `names` only these figures, and no page.

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
    lines, order = [HEAD], list(LAWS)
    for example in sorted(EXAMPLES, key=lambda e: order.index(e.law)):
        if names and example.law not in names:
            continue
        study = make_study(example, folder, bootstrap=bootstrap)
        save_law(study, figures / f"{example.law}.png")
        lines += [*section(study, example, prose[example.law], f"figures/laws/{example.law}.png"), ""]
        say(f"{example.law}: {account(study)}")
    if not names:
        write_atomic(target, "\n".join(lines).rstrip() + "\n")
