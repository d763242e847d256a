"""Command line of the analysis: `python -m analysis VERB ...`; imports only the module of the verb asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import isoflop  # noqa: F401  # it finds the packages beside itself, whatever the working folder holds
from models.command_line import Verb
from models.command_line import main as run_command

VERBS = {
    "fit": Verb(
        module="analysis.verbs.fitting.fit",
        summary="fit a scaling law to a table of runs, with intervals",
    ),
    "predict": Verb(
        module="analysis.verbs.fitting.predict",
        summary="predict losses from a fit, with confidence and prediction intervals",
    ),
    "isoflop": Verb(
        module="analysis.verbs.fitting.isoflop",
        summary="find the best size at each compute budget, and the exponent with which it grows",
    ),
    "select": Verb(
        module="analysis.verbs.fitting.select",
        summary="choose a law by how well it predicts larger runs",
    ),
    "compare": Verb(
        module="analysis.verbs.fitting.compare",
        summary="find the best size by three methods, and test whether they disagree",
    ),
    "frontier": Verb(
        module="analysis.verbs.fitting.frontier",
        summary="the best sizes, tokens and losses over a range of compute",
    ),
    "conventions": Verb(
        module="analysis.verbs.fitting.conventions",
        summary="show how exponents and best sizes depend on the way N and C are counted",
    ),
    "laws": Verb(
        module="analysis.verbs.reporting.laws",
        summary="list the laws with their formulas, inputs and sources",
    ),
    "advise": Verb(
        module="analysis.verbs.deciding.advise",
        summary="choose a model size for a budget, or the runs to train next",
    ),
    "arms": Verb(
        module="analysis.verbs.deciding.arms",
        summary="compare the arms of a study by paired differences",
    ),
    "multiplier": Verb(
        module="analysis.verbs.deciding.multiplier",
        summary="estimate how many times the compute of an arm the reference needs for the same loss",
    ),
    "rates": Verb(
        module="analysis.verbs.deciding.rates",
        summary="compare a recipe's peak learning rate with the best of those tried",
    ),
    "tuned": Verb(
        module="analysis.verbs.deciding.tuned",
        summary="find the best learning rate of every cell of a ladder, and the rates to try next",
    ),
    "tasks": Verb(
        module="analysis.verbs.fitting.tasks",
        summary="predict errors on tasks from scale or from the loss, and find out which tasks are predictable",
    ),
    "scoreboard": Verb(
        module="analysis.verbs.reporting.scoreboard",
        summary="count how often prediction intervals covered the measured loss, over all studies",
    ),
    "published": Verb(
        module="analysis.verbs.reporting.published",
        summary="fit published studies again, and compare with their published numbers",
    ),
    "report": Verb(
        module="analysis.verbs.reporting.report",
        summary="write the report of a sweep or a table as one HTML page with figures and tables",
    ),
    "rebuild": Verb(
        module="analysis.verbs.reporting.rebuild",
        summary="rebuild reports from the records beside them, and list what differs",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; see `models.command_line.main`."""
    return run_command(argv, program="python -m analysis", description=str(__doc__), groups={"verbs": VERBS})


if __name__ == "__main__":
    sys.exit(main())
