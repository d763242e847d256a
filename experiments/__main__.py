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
        summary="write a commented sweep file for a corpus of your own",
    ),
    "plan": Verb(
        module="experiments.verbs.planning.plan",
        summary="show what a sweep would train: sizes, tokens, FLOPs, memory, time; writes nothing",
        takes_overrides=True,
    ),
    "profile": Verb(
        module="experiments.verbs.planning.profile",
        summary="measure in a minute which execution of a sweep's shapes is fastest here; plan and run follow it",
        takes_overrides=True,
    ),
    "run": Verb(
        module="experiments.verbs.training.run",
        summary="train what is missing of a sweep, on this machine with a live table or on a Slurm cluster",
        takes_overrides=True,
        if_stopped=KEPT,
    ),
    "work": Verb(
        module="experiments.verbs.training.work",
        summary="one worker: take runs of a sweep until none is left",
        if_stopped=KEPT,
    ),
    "status": Verb(
        module="experiments.verbs.training.status",
        summary="how far a sweep is, with the time left",
    ),
    "list": Verb(
        module="experiments.verbs.training.list",
        summary="the sweeps of a store, with how far each is",
    ),
    "cancel": Verb(
        module="experiments.verbs.training.cancel",
        summary="end the Slurm jobs of a sweep; what they trained is kept",
    ),
    "collect": Verb(
        module="experiments.verbs.records.collect",
        summary="gather the records of sweeps into one table",
    ),
    "archive": Verb(
        module="experiments.verbs.records.archive",
        summary="write a sweep's records into one small file, from which its report is made",
    ),
    "sync": Verb(
        module="experiments.verbs.records.sync",
        summary="mirror local records to W&B, once or live",
    ),
    "verify": Verb(
        module="experiments.verbs.records.verify",
        summary="say which files of a store are not those that were written",
    ),
    "prune": Verb(
        module="experiments.verbs.records.prune",
        summary="remove what no sweep lists: runs, checkpoints, leftovers",
    ),
    "generate": Verb(
        module="experiments.verbs.records.generate",
        summary="let a trained run write text",
    ),
    "label": Verb(
        module="experiments.verbs.records.label",
        summary="let a fine-tuned run label texts",
    ),
    "help": Verb(
        module="experiments.verbs.planning.help",
        summary="reference on the terminal: the fields of a sweep file",
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
