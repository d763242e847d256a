"""`prune`: remove what no sweep lists or needs: runs, checkpoints, leftovers of killed writers."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Collection
from pathlib import Path

from experiments.errors import UserError
from experiments.manifests import read_manifest
from experiments.store.checkpoints import unneeded
from experiments.store.store import RunStore
from models.formatting import format_bytes

GRACE_HOURS = 24.0
"""How long runs stay that a changed sweep file no longer lists."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `prune`."""
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument(
        "--trunks",
        action="store_true",
        help="also the last checkpoint of each shared prefix, from which longer budgets go on",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--yes", action="store_true", help="remove without asking, for scripts")
    parser.add_argument(
        "--grace-hours",
        type=float,
        default=GRACE_HOURS,
        metavar="H",
        help="keep runs that a changed sweep file dropped less than so many hours ago (default: 24)",
    )


def run(args: argparse.Namespace) -> int:
    """List what is not needed with its size, and remove it where that is wanted."""
    if not args.grace_hours >= 0:
        raise UserError(f"--grace-hours is {args.grace_hours:g}; give hours of at least 0, such as 24")
    store = RunStore(args.store)
    if not store.sweeps.is_dir():
        raise UserError(f"{store.root.resolve()} holds no sweeps/ folder; give the store with --store")
    spared = recently_dropped(store, time.time() - 3600 * args.grace_hours)
    found = removable(store, trunks=args.trunks, spared=spared)
    total = 0
    for path in found:
        num_bytes = _size(path)
        total += num_bytes
        trained = ", a trained run" if (path / "record.json").exists() else ""
        print(f"would remove {path} ({format_bytes(num_bytes)}{trained})")
    for run_id in spared:
        print(f"kept {store.run_folder(run_id)}: its sweep file dropped it less than {args.grace_hours:g} hours ago")
    if args.dry_run or not found:
        print(f"{format_bytes(total)} would be freed")
        return 0
    if not args.yes and not _confirmed(len(found), total):
        print("nothing was removed")
        return 0
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{format_bytes(total)} were freed")
    return 0


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _confirmed(count: int, num_bytes: int) -> bool:
    """Ask on a terminal; anything else has to say --yes."""
    if not sys.stdin.isatty():
        raise UserError("prune asks before it removes, and there is no terminal to ask on; add --yes, or --dry-run")
    answer = input(f"remove these {count} ({format_bytes(num_bytes)})? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def recently_dropped(store: RunStore, since: float) -> list[str]:
    """List runs that no sweep has now, and that a changed sweep file dropped after a time (Unix seconds)."""
    manifests = [read_manifest(path) for path in store.sweeps.glob("*.json")]
    listed = {run_id for manifest in manifests for run_id in manifest.runs}
    dropped = {run_id for manifest in manifests for run_id, when in manifest.dropped.items() if when > since}
    return sorted(run_id for run_id in dropped - listed if store.run_folder(run_id).is_dir())


def removable(store: RunStore, *, trunks: bool = False, spared: Collection[str] = ()) -> list[Path]:
    """Files and folders that may go, never those of a running run.

    Runs that no manifest lists with their claims, checkpoints of published runs, checkpoints of shared prefixes that no
    missing run needs, and temporary files.

    Temporary files are taken only where no attempt of their run is under way. With `trunks`, shared prefixes whose runs
    are all published go whole.
    """
    manifests = [read_manifest(path) for path in store.sweeps.glob("*.json")]
    listed = {run_id for manifest in manifests for run_id in manifest.runs} | set(spared)
    states = store.claims.states()
    found: list[Path] = []
    for folder in sorted(store.runs.glob("*")):
        state = states.get(folder.name)
        if state is not None and state.running:
            continue
        if folder.name not in listed:
            found += [folder, *sorted(store.claims.folder.glob(f"{folder.name}.*"))]
            continue
        found += sorted(path for path in folder.rglob(".*") if path.is_file())
        checkpoints = folder / "checkpoints"
        if checkpoints.is_dir() and store.record_path(folder.name).exists():
            found.append(checkpoints)
    names = {manifest.name for manifest in manifests}
    used = {trunk for manifest in manifests for trunk in manifest.trunks}
    for folder in sorted(store.prefixes.glob("t*")):
        if any(state.running for name, state in states.items() if name.startswith(folder.name)):
            continue
        members = {run_id for manifest in manifests for run_id in manifest.trunks.get(folder.name, ())}
        over = trunks and all(store.record_path(run_id).exists() for run_id in members)
        if folder.name not in used or over:
            found += [folder, *sorted(store.claims.folder.glob(f"{folder.name}-*"))]
        else:
            found += unneeded(store, folder.name)
            found += sorted(path for path in folder.glob("needed/*.json") if path.stem not in names)
    return found
