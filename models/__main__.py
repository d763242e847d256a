"""Command line of the models: `python -m models describe`; torch-free, so that it answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from models.errors import UserError
from models.verbs.describe import add_arguments, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run one verb and return its exit status; bad input is one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    summary = "parameters by group, FLOPs per token by part, memory and compute of a preset or a config"
    describe = subparsers.add_parser("describe", help=summary, description=summary)
    add_arguments(describe)
    describe.set_defaults(run=run)
    try:
        args = parser.parse_args(sys.argv[1:] if argv is None else list(argv))
        return int(args.run(args))
    except BrokenPipeError:
        return 0
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
