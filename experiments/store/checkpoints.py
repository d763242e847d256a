"""Files of trunks: checkpoints that runs branch from, who needs them, and when they go. Standard library only.

A checkpoint stays while any sweep has an unpublished run that leaves the trunk there, and the last one stays for longer
budgets. It must not know how anything is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from experiments.files import write_atomic
from experiments.records import RunStatus
from experiments.store.store import RunStore


def prefix_folder(store: RunStore, trunk: str) -> Path:
    """trunks/<trunk>."""
    return store.prefixes / trunk


def checkpoint_path(store: RunStore, trunk: str, step: int) -> Path:
    """trunks/<trunk>/<step>.pt."""
    return prefix_folder(store, trunk) / f"{step}.pt"


def available_steps(store: RunStore, trunk: str) -> list[int]:
    """Steps at which the trunk has a checkpoint, rising."""
    folder = prefix_folder(store, trunk)
    return sorted(int(path.stem) for path in folder.glob("*.pt") if path.stem.isdigit())


def available_checkpoints(store: RunStore) -> dict[str, list[int]]:
    """trunk -> steps of its checkpoints, of every trunk of the store."""
    return {folder.name: available_steps(store, folder.name) for folder in store.prefixes.glob("t*")}


def declare_needed(store: RunStore, sweep: str, trunks: Mapping[str, Mapping[str, int]]) -> None:
    """Write down which runs of a sweep leave which trunk at which step; of trunks that it has left, nothing."""
    for path in store.prefixes.glob(f"*/needed/{sweep}.json"):
        if path.parent.parent.name not in trunks:
            path.unlink(missing_ok=True)
    for trunk, steps in trunks.items():
        text = json.dumps(steps, sort_keys=True) + "\n"
        path = prefix_folder(store, trunk) / "needed" / f"{sweep}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomic(path, text)


def unneeded(store: RunStore, trunk: str) -> list[Path]:
    """Checkpoints of a trunk that no sweep's missing run branches from; never the last one."""
    folder = prefix_folder(store, trunk)
    steps = available_steps(store, trunk)
    needed = set(steps[-1:])
    for path in folder.glob("needed/*.json"):
        missing = [
            step
            for run_id, step in json.loads(path.read_text(encoding="utf-8")).items()
            if not store.record_path(run_id).exists()
        ]
        for branch in missing:  # also the nearest one before it, where its own is still to be made
            needed |= {max((step for step in steps if step <= branch), default=0)}
    return [checkpoint_path(store, trunk, step) for step in steps if step not in needed]


def drop_unneeded(store: RunStore, trunk: str) -> None:
    """Remove what `unneeded` lists; what another worker removed meanwhile is no error."""
    for path in unneeded(store, trunk):
        path.unlink(missing_ok=True)


def forget_failures(store: RunStore, trunk: str) -> None:
    """Move the claims of stretches that failed or diverged to trunks/<trunk>/earlier/, so that they are tried again."""
    earlier = prefix_folder(store, trunk) / "earlier"
    for ending in (RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.LOST):
        for path in store.claims.folder.glob(f"{trunk}-*.*.{ending}"):
            name = path.name.split(".")[0]
            earlier.mkdir(parents=True, exist_ok=True)
            for claim in store.claims.folder.glob(f"{name}.*"):
                claim.replace(earlier / claim.name)
