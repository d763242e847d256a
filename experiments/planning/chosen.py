"""Some runs of a sweep, picked by words of their lines in `plan`: pure and torch-free."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from experiments.config.designs import ExpandedSweep, PlannedRun
from experiments.errors import UserError


def chosen_runs(expanded: ExpandedSweep, pattern: str) -> ExpandedSweep:
    """Keep the runs that a pattern picks.

    Parameters
    ----------
    expanded : ExpandedSweep
        The sweep.
    pattern : str
        Words with blanks between, all of which must hold: a role (`heldout`), a shape (`64x2`), `width=64`, `depth=2`,
        `seed=1`, `budget=2e+10`, a varied field (`model.positions=rotary`), or how a run id begins. `*` stands for
        anything.

    Returns
    -------
    ExpandedSweep
        The same sweep with those runs.

    Raises
    ------
    UserError
        When no run is picked; the sentence shows the words of the first run.
    """
    words = pattern.split()
    runs = tuple(run for run in expanded.runs if words and all(_holds(word, run) for word in words))
    if not runs:
        raise UserError(
            f"-k {pattern!r} picks none of the {len(expanded.runs)} runs; the first one has the words "
            f"{' '.join(_words(expanded.runs[0]))}"
        )
    return replace(expanded, runs=runs)


def _holds(word: str, run: PlannedRun) -> bool:
    return run.run_id.startswith(word) or any(fnmatchcase(known, word) for known in _words(run))


def _words(run: PlannedRun) -> list[str]:
    """What a run can be picked by."""
    model, labels = run.config.model, run.labels
    found = [run.run_id, str(labels.get("role", "")), f"{model.width}x{model.depth}"]
    found += [f"width={model.width}", f"depth={model.depth}", f"seed={run.config.seed}"]
    for name, value in labels.items():
        if name != "role":
            found.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return found
