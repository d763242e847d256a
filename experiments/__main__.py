"""Command line of the experiments: `python -m experiments VERB ...`; imports only the module of the verb that was
asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from experiments.errors import UserError
from experiments.records import RecordError

VERBS = {
    "plan": "show what a sweep would train: sizes, tokens, FLOPs, memory, time; writes nothing",
    "run": "train what is missing of a sweep, on this machine with a live table or on a Slurm cluster",
    "work": "one worker: take runs of a sweep until none is left",
    "status": "how far a sweep is, with the time left",
    "cancel": "end the Slurm jobs of a sweep; what they trained is kept",
    "collect": "gather the records of sweeps into one table",
    "sync": "mirror local records to W&B, once or live",
    "prune": "remove what no sweep lists: runs, checkpoints, leftovers",
    "generate": "let a trained run write text",
    "data": "fetch and describe corpora",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run one verb and return its exit status; bad input is one sentence on standard error and status
    2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        subparser = subparsers.add_parser(verb, help=summary, description=summary)
        if verb == wanted:
            module = importlib.import_module(f"experiments.verbs.{verb}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args, overrides = parser.parse_known_args(arguments)
    if overrides and args.verb not in ("plan", "run"):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    args.overrides = overrides
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("stopped; finished runs and checkpoints are kept: the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (UserError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
