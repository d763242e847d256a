"""Command line of the analysis: `python -m analysis VERB ...`; imports only the module of the verb asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from analysis.errors import UserError

VERBS = {
    "fit": "fit a scaling law to a table of runs, with intervals",
    "predict": "predict losses from a fit, with confidence and prediction intervals",
    "isoflop": "the compute-optimal size of each budget and its exponent",
    "select": "choose among laws by how they extrapolate",
    "compare": "the three approaches side by side, and whether they disagree",
    "frontier": "compute-optimal sizes, tokens and losses over a range of compute",
    "laws": "list the laws with formula, inputs and source",
    "advise": "which runs to buy next for a budget",
    "arms": "arms of a study side by side, by paired differences",
    "rates": "what a recipe's peak learning rate costs against the best of those tried",
    "published": "published results beside our re-fits",
    "report": "write the report of a sweep or a table as one HTML page with figures and tables",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run one verb, return its exit status; bad input is one sentence on standard error and status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        subparser = subparsers.add_parser(verb, help=summary, description=summary)
        if verb == wanted:
            module = importlib.import_module(f"analysis.verbs.{verb}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    try:
        args = parser.parse_args(arguments)
        return int(args.run(args))
    except BrokenPipeError:
        return 0
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
