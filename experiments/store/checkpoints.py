"""Checkpoints of shared prefixes: where they are, which runs need them, and when they go. Standard library only.

    trunks/<prefix>/<step>.pt             a checkpoint that runs branch from
    trunks/<prefix>/needed/<sweep>.json   which runs of a sweep leave the prefix, and where

A checkpoint stays while any sweep has an unpublished run that branches off there, and the last one stays for longer
budgets. This file must not know how anything is trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments.files import remove, set_aside, write_atomic
from experiments.records import RunStatus
from experiments.store.store import RunStore


def prefix_folder(store: RunStore, prefix: str) -> Path:
    """trunks/<prefix>, whether it is there or not."""
    return store.prefixes / prefix


def checkpoint_path(store: RunStore, prefix: str, step: int) -> Path:
    """trunks/<prefix>/<step>.pt, whether it is there or not."""
    return prefix_folder(store, prefix) / f"{step}.pt"


def previous_of(checkpoint: Path) -> Path:
    """Where the checkpoint before a newest one stays: `latest.pt` -> `previous.pt`, `latest-48.pt` -> `previous-48.pt`.

    Parameters
    ----------
    checkpoint : Path
        The newest checkpoint of a run, or of a part of a shared prefix.
    """
    return checkpoint.with_name("previous" + checkpoint.name.removeprefix("latest"))


def remove_own(checkpoint: Path) -> None:
    """Remove a newest checkpoint and the one before it, which are needed no more.

    Parameters
    ----------
    checkpoint : Path
        The newest checkpoint of a run, or of a part of a shared prefix.

    Raises
    ------
    StoreError
        When the disk refuses.
    """
    for path in (checkpoint, previous_of(checkpoint)):
        remove(path)


def own_checkpoint(store: RunStore, run_id: str) -> Path:
    """runs/<run_id>/checkpoints/latest.pt, whether it is there or not."""
    return store.run_folder(run_id) / "checkpoints" / "latest.pt"


def has_own(store: RunStore, run_id: str) -> bool:
    """Whether a run has a checkpoint of its own to go on from."""
    path = own_checkpoint(store, run_id)
    return path.exists() or previous_of(path).exists()


def earlier_checkpoints(start: Path) -> list[Path]:
    """Find the checkpoints of a shared prefix before one of them.

    Parameters
    ----------
    start : Path
        trunks/<prefix>/<step>.pt.

    Returns
    -------
    list of Path
        The nearest first.
    """
    found = {int(path.stem): path for path in start.parent.glob("*.pt") if is_step(path.stem)}
    return [found[step] for step in sorted(found, reverse=True) if step < int(start.stem)]


def available_steps(store: RunStore, prefix: str) -> list[int]:
    """Steps at which a prefix has a checkpoint, rising."""
    folder = prefix_folder(store, prefix)
    return sorted(int(path.stem) for path in folder.glob("*.pt") if is_step(path.stem))


def is_step(text: str) -> bool:
    """Whether a file's name is a number of steps."""
    return text.isascii() and text.isdigit() and len(text) < 16


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
        if path.is_dir():
            set_aside(path)
        elif path.parent.parent.name not in branches:
            remove(path)
    for prefix, steps in branches.items():
        text = json.dumps(steps, sort_keys=True) + "\n"
        path = prefix_folder(store, prefix) / "needed" / f"{sweep}.json"
        if path.is_file() and path.read_bytes() == text.encode():
            continue
        if path.exists() and not path.is_file():
            set_aside(path)
        write_atomic(path, text)


def start_of(store: RunStore, run_id: str, branch: int, steps: Iterable[int]) -> int | None:
    """Say which checkpoint of its prefix a run would start from now: the one rule by which checkpoints are wanted.

    A checkpoint stays while some run would start from it, and is made again only where a run would have to start
    before it.

    Parameters
    ----------
    store : RunStore
        The store.
    run_id : str
        The run.
    branch : int
        Steps after which it leaves the prefix.
    steps : iterable of int
        Steps at which the prefix has a checkpoint, listed before this is asked.

    Returns
    -------
    int or None
        Its step, 0 for nothing; None when the run is published and starts nowhere.
    """
    if store.is_published(run_id):
        return None
    return max((step for step in steps if step <= branch), default=0)


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
        still to be made; none where nobody knows, because a sweep's declaration is damaged.
    """
    steps = available_steps(store, prefix)
    needed: set[int | None] = set(steps[-1:])
    for path in prefix_folder(store, prefix).glob("needed/*.json"):
        branches = read_needed(path)
        if branches is None:
            return []
        needed |= {start_of(store, run_id, branch, steps) for run_id, branch in branches.items()}
    return [checkpoint_path(store, prefix, step) for step in steps if step not in needed]


def read_needed(path: Path) -> dict[str, int] | None:
    """Read which runs of a sweep leave a prefix at which step.

    Parameters
    ----------
    path : Path
        trunks/<prefix>/needed/<sweep>.json.

    Returns
    -------
    dict of str to int, or None
        None where the file is damaged; the next `run` of that sweep writes it anew.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8")) if path.is_file() or not path.exists() else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or any("/" in name or type(step) is not int for name, step in raw.items()):
        return None
    return raw


def drop_unneeded(store: RunStore, prefix: str) -> None:
    """Remove what `unneeded` lists; what another worker removed meanwhile is no error."""
    for path in unneeded(store, prefix):
        remove(path)


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
