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
        summary="the compute-optimal size of each budget and its exponent",
    ),
    "select": Verb(
        module="analysis.verbs.fitting.select",
        summary="choose among laws by how they extrapolate",
    ),
    "compare": Verb(
        module="analysis.verbs.fitting.compare",
        summary="the three approaches side by side, and whether they disagree",
    ),
    "frontier": Verb(
        module="analysis.verbs.fitting.frontier",
        summary="compute-optimal sizes, tokens and losses over a range of compute",
    ),
    "conventions": Verb(
        module="analysis.verbs.fitting.conventions",
        summary="how a, N_opt and tokens per parameter move with the way of counting N and C",
    ),
    "laws": Verb(
        module="analysis.verbs.reporting.laws",
        summary="list the laws with formula, inputs and source",
    ),
    "advise": Verb(
        module="analysis.verbs.deciding.advise",
        summary="which runs to buy next for a budget",
    ),
    "arms": Verb(
        module="analysis.verbs.deciding.arms",
        summary="arms of a study side by side, by paired differences",
    ),
    "multiplier": Verb(
        module="analysis.verbs.deciding.multiplier",
        summary="how many times the compute the reference needs for each arm's loss",
    ),
    "rates": Verb(
        module="analysis.verbs.deciding.rates",
        summary="what a recipe's peak learning rate costs against the best of those tried",
    ),
    "tuned": Verb(
        module="analysis.verbs.deciding.tuned",
        summary="the best rate of every cell of a ladder, their law, and which rates to try next",
    ),
    "tasks": Verb(
        module="analysis.verbs.fitting.tasks",
        summary="errors on tasks straight from scale and by way of the loss, and which tasks are predictable",
    ),
    "scoreboard": Verb(
        module="analysis.verbs.reporting.scoreboard",
        summary="over all studies, how often prediction intervals covered",
    ),
    "published": Verb(
        module="analysis.verbs.reporting.published",
        summary="published results beside our re-fits",
    ),
    "report": Verb(
        module="analysis.verbs.reporting.report",
        summary="write the report of a sweep or a table as one HTML page with figures and tables",
    ),
    "rebuild": Verb(
        module="analysis.verbs.reporting.rebuild",
        summary="make committed reports again from the records beside them, and say what differs",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; see `models.command_line.main`."""
    return run_command(argv, program="python -m analysis", description=str(__doc__), groups={"verbs": VERBS})


if __name__ == "__main__":
    sys.exit(main())
