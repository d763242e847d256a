"""`prune`: remove what no sweep lists or needs: runs, checkpoints, leftovers of killed writers."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from experiments.errors import UserError
from experiments.manifests import read_manifest
from experiments.store.checkpoints import unneeded
from experiments.store.store import RunStore
from models.formatting import format_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `prune`."""
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument(
        "--trunks",
        action="store_true",
        help="also the last checkpoint of each shared prefix, from which longer budgets go on",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(args: argparse.Namespace) -> int:
    """Remove, or list, what is not needed."""
    store = RunStore(args.store)
    if not store.sweeps.is_dir():
        raise UserError(f"{store.root.resolve()} holds no sweeps/ folder; give the store with --store")
    total = 0
    for path in removable(store, trunks=args.trunks):
        num_bytes = sum(
            file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()
        )
        total += num_bytes
        print(f"{'would remove' if args.dry_run else 'removed'} {path} ({format_bytes(num_bytes)})")
        if not args.dry_run:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{format_bytes(total)} {'would be' if args.dry_run else 'were'} freed")
    return 0


def removable(store: RunStore, *, trunks: bool = False) -> list[Path]:
    """Files and folders that may go, never those of a running run.

    Runs that no manifest lists with their claims, checkpoints of published runs, checkpoints of shared prefixes that no
    missing run needs, and temporary files.

    Temporary files are taken only where no attempt of their run is under way. With `trunks`, shared prefixes whose runs
    are all published go whole.
    """
    manifests = [read_manifest(path) for path in store.sweeps.glob("*.json")]
    listed = {run_id for manifest in manifests for run_id in manifest.runs}
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
