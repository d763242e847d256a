"""`verify STORE`: whether the files of a store are those that were written; reads everything and changes nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.config.run import RunConfig
from experiments.data.cache import Cache
from experiments.data.identity import tokens_folder
from experiments.errors import UserError
from experiments.planning.profile.table import read_measurement_file
from experiments.store.configs import ConfigError
from experiments.store.store import RunStore
from experiments.store.verify import Finding, Verification, verify_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    parser.add_argument(
        "store", type=Path, nargs="?", default=Path(), help="folder of runs/ and sweeps/ (default: here)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Say what is damaged; 0 when nothing is, else 1."""
    found = verify(args.store)
    if args.json:
        print(json.dumps(found.to_dict(), indent=1))
        return 1 if found.damaged else 0
    for item in [*found.damaged, *found.foreign]:
        print(f"{item.path}: {item.problem}; {item.remedy}")
    older = f", {found.num_without_digest} of an older version without a digest" if found.num_without_digest else ""
    foreign = f", {len(found.foreign)} foreign names" if found.foreign else ""
    print(f"{found.num_files} files checked: {len(found.damaged)} damaged{older}{foreign}")
    return 1 if found.damaged else 0


def verify(root: Path) -> Verification:
    """Check the files of a store, what was measured there, and the token files that its runs are trained on.

    Parameters
    ----------
    root : Path
        Folder of runs/ and sweeps/.

    Returns
    -------
    Verification
        What is damaged and what is foreign.

    Raises
    ------
    UserError
        When there is no store.
    """
    store = RunStore(root)
    if not store.runs.is_dir() and not store.sweeps.is_dir():
        raise UserError(f"{root.resolve()} is no store: it holds neither runs/ nor sweeps/; give its folder")
    found = verify_store(store)
    check_profiles(store, found)
    check_tokens(store, Cache(), found)
    return found


def check_profiles(store: RunStore, found: Verification) -> None:
    """Check what `isoflop profile` measured.

    Parameters
    ----------
    store : RunStore
        The store.
    found : Verification
        Gets what is damaged, and what is no measurement.
    """
    for path in sorted((store.root / "profile").glob("*")):
        name = str(path.relative_to(store.root))
        if path.suffix != ".json":
            found.foreign.append(Finding(name, "it is no measurement of `isoflop profile`", "it is left alone"))
            continue
        found.num_files += 1
        try:
            read_measurement_file(path)
        except UserError as error:
            problem, _, remedy = str(error).removeprefix(f"{path} ").partition("; ")
            found.damaged.append(Finding(name, problem, f"{remedy}; until then `run` does without"))


def check_tokens(store: RunStore, cache: Cache, found: Verification) -> None:
    """Check the token files of every corpus of a store that the cache holds.

    Parameters
    ----------
    store : RunStore
        The store, whose configs name the corpora.
    cache : Cache
        The cache folder.
    found : Verification
        Gets what is damaged.
    """
    from experiments.data.tokens import damage_of

    folders: set[Path] = set()
    seen: set[str] = set()
    for path in sorted(store.runs.glob("*/config.json")):
        try:
            config = store.read_any(path.parent.name)
        except ConfigError:
            continue  # named already
        if isinstance(config, RunConfig) and repr(config.data) not in seen:
            seen.add(repr(config.data))
            folders.add(tokens_folder(config.data, cache))
    for folder in sorted(folders):
        if not folder.is_dir():
            continue
        found.num_files += 3
        problem = damage_of(folder)
        if problem is not None:
            found.damaged.append(Finding(str(folder), problem.removeprefix(f"{folder}/"), "the next run makes it anew"))
