"""Where a report comes from: commit, versions, inputs by hash, and the exact commands.

No clock is read; no path of the machine is kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.files import read_labelled
from experiments.archives import is_archive, recipe_of
from experiments.digests import file_digest
from experiments.manifests import Manifest, store_of

PACKAGES = ("numpy", "scipy", "pandas", "matplotlib", "jinja2")
"""Packages whose versions can change a number or a figure of a report."""
VARIED_BY_SIZE = {"optimizer.learning_rate", "optimizer.weight_decay"}
"""Settings that tables of runs hold run by run."""


def provenance(
    paths: Sequence[str | Path], frame: pd.DataFrame, manifest: Manifest | None, command: Sequence[str]
) -> dict[str, Any]:
    """Everything needed to make the same report again, as plain JSON."""
    out: dict[str, Any] = {"git": git_state(), "python": platform.python_version()}
    out["packages"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    out["inputs"] = {display_path(Path(path)): _digest(Path(path), frame) for path in paths}
    commands = []
    if manifest is not None and manifest.source:
        beside = store_of(Path(paths[0])) / manifest.source
        claimed = _from_here(beside) if beside.exists() else Path(manifest.source).as_posix()
        commands.append(shlex.join(["isoflop", "run", claimed]))
    commands.append(shlex.join(["isoflop", *command]))
    out["commands"] = commands
    out["training"] = {
        name: sorted({str(value) for value in frame[name].dropna()})
        for name in frame.columns
        if name.startswith("version_")
        or name in {"corpus", "tokenizer", "objective", "family", "device", "threads", "precision", "attention_backend"}
    }
    out["settings"] = settings(paths, frame, manifest)
    return out


def settings(paths: Sequence[str | Path], frame: pd.DataFrame, manifest: Manifest | None) -> dict[str, list[str]]:
    """What the runs' configs and the sweep's file say of training beyond the table.

    `optimizer.name` and its like, with their values as text.

    Empty for tables that have no run store beside them.
    """
    found: dict[str, set[str]] = {}
    ids = set(frame["run_id"].dropna().astype(str)) if "run_id" in frame.columns else set()
    for path in map(Path, paths):
        if not is_archive(path) and path.suffix != ".json" and not path.is_dir():
            continue
        for record, _ in read_labelled(path):
            for name, value in record.config.get("optimizer", {}).items() if record.run_id in ids else ():
                if value is not None:
                    found.setdefault(f"optimizer.{name}", set()).add(str(value))
        recipe = None if manifest is None else _recipe(path, manifest)
        if recipe:
            found["recipe.name"] = {recipe}
    return {name: sorted(values) for name, values in sorted(found.items()) if name not in VARIED_BY_SIZE}


def _recipe(path: Path, manifest: Manifest) -> str | None:
    """The recipe that a sweep's file names, or its archive; None where none is named, or the file is gone."""
    if is_archive(path):
        return manifest.sweep.get("recipe")
    return None if manifest.source is None else recipe_of(store_of(path) / manifest.source)


def sweep_file(origin: Mapping[str, Any]) -> str | None:
    """The sweep's file in the first command of a provenance, as seen from the folder of the report's command."""
    words = shlex.split(origin["commands"][0]) if origin.get("commands") else []
    return words[2] if words[:2] == ["isoflop", "run"] else None


def _from_here(path: Path) -> str:
    """A path as the working directory sees it, by which a command that is pasted there finds it."""
    try:
        return Path(os.path.relpath(path.resolve(), Path.cwd().resolve())).as_posix()
    except ValueError:  # on another drive
        return path.resolve().as_posix()


def display_path(path: Path) -> str:
    """A path relative to the working directory where it lies within, else its name alone."""
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.name


def git_state() -> Mapping[str, Any]:
    """Commit, its date, and whether the packages have changes that are not committed; nulls outside a checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "models", "experiments", "analysis")
    return {
        "commit": git("rev-parse", "HEAD"),
        "date": git("log", "-1", "--format=%cI"),
        "uncommitted_changes": None if changed is None else bool(changed),
    }


def _digest(path: Path, frame: pd.DataFrame) -> str:
    """sha256 of a file, or of the sorted run ids behind a store's folder."""
    if path.is_file():
        return "sha256:" + file_digest(path)
    ids = "\n".join(sorted(frame["run_id"].astype(str))) if "run_id" in frame.columns else ""
    return "sha256 of run ids:" + hashlib.sha256(ids.encode()).hexdigest()
