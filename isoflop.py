"""isoflop: train a grid of small transformers, fit a scaling law, know how far to trust it, decide what to train next.

The one door of the suite. `import isoflop as iso` gives the names of a notebook; each is imported when it is first
used, so that the import itself takes milliseconds. The command `isoflop VERB ...` runs any verb of the three packages.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.api import (
        AutoFit,
        advise,
        compare,
        compare_tasks,
        conventions,
        fit_envelope,
        fit_isoflop,
        fit_law,
        frontier,
        load_runs,
        multiplier,
        plot,
        select_law,
        tuned,
    )
    from experiments.api import Sweep
    from models.config.accounting import count_params
    from models.config.accounting import training_flops as count_flops
    from models.config.transformer import TransformerConfig
    from models.errors import UserError

__all__ = [
    "AutoFit",
    "Sweep",
    "TransformerConfig",
    "UserError",
    "advise",
    "compare",
    "compare_tasks",
    "conventions",
    "count_flops",
    "count_params",
    "fit_envelope",
    "fit_isoflop",
    "fit_law",
    "frontier",
    "load_runs",
    "multiplier",
    "plot",
    "select_law",
    "tuned",
]

_HOMES = {
    "Sweep": ("experiments.api", "Sweep"),
    "TransformerConfig": ("models.config.transformer", "TransformerConfig"),
    "UserError": ("models.errors", "UserError"),
    "count_flops": ("models.config.accounting", "training_flops"),
    "count_params": ("models.config.accounting", "count_params"),
}
"""Where a name lives; all others are in `analysis.api`."""

_GROUPS = {
    "describe a model and plan a sweep": ("init", "help", "describe", "plan", "profile"),
    "train": ("run", "work", "status", "list", "cancel"),
    "data and records": ("data", "collect", "archive", "sync", "verify", "prune", "generate", "label"),
    "fit and predict": ("fit", "predict", "isoflop", "frontier", "compare", "conventions", "select", "tasks"),
    "decide": ("advise", "arms", "multiplier", "rates", "tuned"),
    "report": ("report", "rebuild", "scoreboard", "laws", "published"),
}
"""Verbs by what people do."""


def _find_own_packages() -> None:
    """Import the three packages beside this file, also where the working folder holds a `models` of its own."""
    home = str(Path(__file__).resolve().parent)
    sys.path.insert(0, home)
    try:
        for name in ("models", "experiments", "analysis"):
            package = importlib.import_module(name)  # empty: what it holds is imported when it is used
            place = Path(str(package.__file__)).resolve().parent
            if place != Path(home, name):
                raise ImportError(f"{place} was imported as {name} before isoflop, which has a package of that name")
    finally:
        sys.path.remove(home)


_find_own_packages()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"isoflop has no {name!r}; it has {', '.join(__all__)}")
    module, attribute = _HOMES.get(name, ("analysis.api", name))
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb of any package and return its exit status.

    Parameters
    ----------
    argv : sequence of str, or None
        The words after `isoflop`; None takes those of this process.

    Returns
    -------
    int
        0 when all went well, 2 after bad input, 130 after Ctrl-C; what else a verb returns is on its page.
    """
    from models.command_line import Verb
    from models.command_line import main as run_command

    verbs: dict[str, Verb] = {}
    for package in ("models", "experiments", "analysis"):
        verbs |= importlib.import_module(f"{package}.__main__").VERBS
    grouped = {heading: {name: verbs.pop(name) for name in names} for heading, names in _GROUPS.items()}
    if verbs:
        raise AssertionError(f"verbs without a heading: {', '.join(verbs)}")
    first_line = str(__doc__).partition("\n")[0]
    return run_command(argv, program="isoflop", description=first_line, groups=grouped)


if __name__ == "__main__":
    sys.exit(main())
