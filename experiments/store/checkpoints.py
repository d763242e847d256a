"""Checkpoints of shared prefixes: where they are, which runs need them, and when they go. Standard library only.

    trunks/<prefix>/<step>.pt             a checkpoint that runs branch from
    trunks/<prefix>/needed/<sweep>.json   which runs of a sweep leave the prefix, and where

A checkpoint stays while any sweep has an unpublished run that branches off there, and the last one stays for longer
budgets. This file must not know how anything is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from experiments.files import write_atomic
from experiments.records import RunStatus
from experiments.store.store import RunStore


def prefix_folder(store: RunStore, prefix: str) -> Path:
    """trunks/<prefix>, whether it is there or not."""
    return store.prefixes / prefix


def checkpoint_path(store: RunStore, prefix: str, step: int) -> Path:
    """trunks/<prefix>/<step>.pt, whether it is there or not."""
    return prefix_folder(store, prefix) / f"{step}.pt"


def available_steps(store: RunStore, prefix: str) -> list[int]:
    """Steps at which a prefix has a checkpoint, rising."""
    folder = prefix_folder(store, prefix)
    return sorted(int(path.stem) for path in folder.glob("*.pt") if path.stem.isdigit())


def available_checkpoints(store: RunStore) -> dict[str, list[int]]:
    """Steps of the checkpoints of every prefix of the store."""
    return {folder.name: available_steps(store, folder.name) for folder in store.prefixes.glob("t*")}


def declare_needed(store: RunStore, sweep: str, branches: Mapping[str, Mapping[str, int]]) -> None:
    """Write down which runs of a sweep leave which prefix at which step.

    Parameters
    ----------
    store : RunStore
        Where to write.
    sweep : str
        Name of the sweep.
    branches : mapping of str to mapping of str to int
        Prefix -> {run_id: step}. What the sweep declared of other prefixes before is taken back.

    Raises
    ------
    StoreError
        The disk refuses.
    """
    for path in store.prefixes.glob(f"*/needed/{sweep}.json"):
        if path.parent.parent.name not in branches:
            path.unlink(missing_ok=True)
    for prefix, steps in branches.items():
        text = json.dumps(steps, sort_keys=True) + "\n"
        path = prefix_folder(store, prefix) / "needed" / f"{sweep}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomic(path, text)


def unneeded(store: RunStore, prefix: str) -> list[Path]:
    """Find the checkpoints of a prefix that no sweep's missing run branches from.

    Parameters
    ----------
    store : RunStore
        The store.
    prefix : str
        The shared prefix.

    Returns
    -------
    list of Path
        Never the last checkpoint, from which longer budgets go on, nor the nearest one before a checkpoint that is
        still to be made.
    """
    steps = available_steps(store, prefix)
    needed = set(steps[-1:])
    for path in prefix_folder(store, prefix).glob("needed/*.json"):
        branches = json.loads(path.read_text(encoding="utf-8"))
        for run_id, branch in branches.items():
            if not store.record_path(run_id).exists():
                needed.add(max((step for step in steps if step <= branch), default=0))
    return [checkpoint_path(store, prefix, step) for step in steps if step not in needed]


def drop_unneeded(store: RunStore, prefix: str) -> None:
    """Remove what `unneeded` lists; what another worker removed meanwhile is no error."""
    for path in unneeded(store, prefix):
        path.unlink(missing_ok=True)


def forget_failures(store: RunStore, prefix: str) -> None:
    """Let the parts of a prefix that failed, diverged or were lost be trained again.

    Their claims move to trunks/<prefix>/earlier/, so that attempts are counted anew and what happened stays readable.

    Parameters
    ----------
    store : RunStore
        The store.
    prefix : str
        The shared prefix.
    """
    earlier = prefix_folder(store, prefix) / "earlier"
    for ending in (RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.LOST):
        for path in store.claims.folder.glob(f"{prefix}-*.*.{ending}"):
            name = path.name.split(".")[0]
            earlier.mkdir(parents=True, exist_ok=True)
            for claim in store.claims.folder.glob(f"{name}.*"):
                claim.replace(earlier / claim.name)
