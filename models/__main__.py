"""Command line of the models: `python -m models describe`; torch-free, so that it answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from models.command_line import Verb
from models.command_line import main as run_command

VERBS = {
    "describe": Verb(
        module="models.verbs.describe",
        summary="show the parameters, FLOPs per token and memory of a preset or a config",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; see `models.command_line.main`."""
    return run_command(argv, program="python -m models", description=str(__doc__), groups={"verbs": VERBS})


if __name__ == "__main__":
    sys.exit(main())
