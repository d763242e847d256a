"""Command line of the experiments: `python -m experiments VERB ...`.

It imports only the module of the verb that was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import isoflop  # noqa: F401  # it finds the packages beside itself, whatever the working folder holds
from models.command_line import Verb
from models.command_line import main as run_command

KEPT = "stopped; finished runs and checkpoints are kept: the same command goes on from here"

VERBS = {
    "init": Verb(
        module="experiments.verbs.planning.init",
        summary="write a commented sweep file for your corpus",
    ),
    "plan": Verb(
        module="experiments.verbs.planning.plan",
        summary="show what a sweep would train: sizes, tokens, FLOPs, memory and time; writes nothing",
        takes_overrides=True,
    ),
    "profile": Verb(
        module="experiments.verbs.planning.profile",
        summary="measure in a minute how to train a sweep's shapes fastest on this machine, for plan and run",
        takes_overrides=True,
    ),
    "run": Verb(
        module="experiments.verbs.training.run",
        summary="train the missing runs of a sweep, on this machine with a live table or on a Slurm cluster",
        takes_overrides=True,
        if_stopped=KEPT,
    ),
    "work": Verb(
        module="experiments.verbs.training.work",
        summary="start one worker, which trains runs of a sweep until none is left",
        if_stopped=KEPT,
    ),
    "status": Verb(
        module="experiments.verbs.training.status",
        summary="show the progress of a sweep and the time left",
    ),
    "list": Verb(
        module="experiments.verbs.training.list",
        summary="list the sweeps of a store with their progress",
    ),
    "cancel": Verb(
        module="experiments.verbs.training.cancel",
        summary="cancel the Slurm jobs of a sweep; what they trained is kept",
    ),
    "collect": Verb(
        module="experiments.verbs.records.collect",
        summary="write the runs of sweeps into one table",
    ),
    "archive": Verb(
        module="experiments.verbs.records.archive",
        summary="write a sweep's records into one small file, from which a report can be made",
    ),
    "sync": Verb(
        module="experiments.verbs.records.sync",
        summary="copy local records to W&B, once or continuously",
    ),
    "verify": Verb(
        module="experiments.verbs.records.verify",
        summary="check a store for files that have changed since they were written",
    ),
    "prune": Verb(
        module="experiments.verbs.records.prune",
        summary="remove runs, checkpoints and other files that no sweep needs",
    ),
    "generate": Verb(
        module="experiments.verbs.records.generate",
        summary="generate text with a trained run",
    ),
    "label": Verb(
        module="experiments.verbs.records.label",
        summary="apply a fine-tuned run to texts",
    ),
    "help": Verb(
        module="experiments.verbs.planning.help",
        summary="explain the fields of a sweep file",
    ),
    "data": Verb(
        module="experiments.verbs.records.data",
        summary="fetch and describe corpora",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; see `models.command_line.main`."""
    return run_command(argv, program="python -m experiments", description=str(__doc__), groups={"verbs": VERBS})


if __name__ == "__main__":
    sys.exit(main())
