"""Which command comes next for a sweep, so that every verb can end with it. Torch-free."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.planning.planned_sweep import PlannedSweep
from experiments.records import SETTLED_STATUSES, RunStatus
from experiments.status.progress import SweepProgress
from models.command_line import next_step


def next_command(sweep: PlannedSweep, progress: SweepProgress) -> str:
    """Name the command that brings a sweep forward.

    Parameters
    ----------
    sweep : PlannedSweep
        The sweep in its store.
    progress : SweepProgress
        How far it is.

    Returns
    -------
    str
        `collect` where nothing is left to train, `run` where something is or has failed, `status --watch` while
        workers train.
    """
    if progress.count(RunStatus.RUNNING):
        return next_step("status", sweep.path, "--watch")
    unsettled = any(run.status not in SETTLED_STATUSES for run in progress.runs)
    failed = progress.count(RunStatus.FAILED) > 0
    if (unsettled or failed) and sweep.manifest.source is not None:
        root = sweep.store.root
        source = os.path.relpath(root / sweep.manifest.source)
        store = [] if root.resolve() == Path.cwd() else ["--store", root]
        return next_step("run", source, *store, *([] if unsettled else ["--retry-failed"]))
    return next_step("collect", sweep.path, "--out", sweep.store.root / f"{sweep.name}.csv")
