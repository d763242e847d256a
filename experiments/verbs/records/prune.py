"""`prune`: remove what no sweep lists or needs: runs, checkpoints, leftovers of killed writers."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from experiments.errors import UserError
from experiments.manifests import Manifest, read_manifest
from experiments.store.checkpoints import available_steps, unneeded
from experiments.store.claims import RunState
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
        help="keep runs that were removed from a sweep file less than H hours ago (default: 24)",
    )


def run(args: argparse.Namespace) -> int:
    """List what is not needed with its size, and remove it where that is wanted."""
    if not args.grace_hours >= 0:
        raise UserError(f"--grace-hours is {args.grace_hours:g}; give hours of at least 0, such as 24")
    store = RunStore(args.store)
    if not store.sweeps.is_dir():
        raise UserError(f"{store.root.resolve()} holds no sweeps/ folder; give the store with --store")
    if not any(store.sweeps.glob("*.json")) and any(is_run(folder) for folder in store.runs.glob("*")):
        raise UserError(
            f"{store.sweeps.resolve()} lists no sweep, so that every run would be removed; run the YAML of the sweeps "
            "again, which writes their lists and trains nothing that is there, or remove the runs by hand"
        )
    spared = recently_dropped(store, time.time() - 3600 * args.grace_hours)
    found = removable(store, prefixes=args.trunks, spared=spared)
    total = 0
    for path in found:
        num_bytes = _size(path)
        total += num_bytes
        trained = ", a trained run" if (path / "record.json").exists() else ""
        print(f"would remove {path} ({format_bytes(num_bytes)}{trained})")
    for run_id in spared:
        print(f"kept {store.run_folder(run_id)}: its sweep file dropped it less than {args.grace_hours:g} hours ago")
    for path in sorted(store.runs.glob("*")):
        if not is_run(path):
            print(f"left alone {path}: it is no run's folder")
    if args.dry_run or not found:
        print(f"{format_bytes(total)} would be freed")
        return 0
    if not args.yes and not _confirmed(len(found), total):
        print("nothing was removed")
        return 0
    for path in found:
        _remove(path)
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


def is_run(folder: Path) -> bool:
    """Whether something in runs/ is the folder of a run: by its name, and no link to elsewhere."""
    return re.fullmatch(r"[0-9a-f]{12}", folder.name) is not None and folder.is_dir() and not folder.is_symlink()


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot remove {error.filename or path}: {error.strerror}; remove it by hand") from error


def removable(store: RunStore, *, prefixes: bool = False, spared: Collection[str] = ()) -> list[Path]:
    """Files and folders that may go, never those of a running run, nor what is no run's.

    Runs that no manifest lists with their claims, checkpoints of published runs, checkpoints of shared prefixes that no
    missing run needs, and temporary files.

    Temporary files are taken only where no attempt of their run is under way. With `prefixes`, shared prefixes whose
    runs are all published go whole.
    """
    manifests = [read_manifest(path) for path in store.sweeps.glob("*.json")]
    states = store.claims.states()
    listed = {run_id for manifest in manifests for run_id in manifest.runs} | set(spared)
    return [*_of_runs(store, listed, states), *_of_prefixes(store, manifests, states, whole=prefixes)]


def _of_runs(store: RunStore, listed: Collection[str], states: Mapping[str, RunState]) -> Iterator[Path]:
    """What of runs/ is not needed."""
    for folder in filter(is_run, sorted(store.runs.glob("*"))):
        state = states.get(folder.name)
        if state is not None and state.running:
            continue
        if folder.name not in listed:
            yield from (folder, *sorted(store.claims.folder.glob(f"{folder.name}.*")))
            continue
        yield from sorted(path for path in folder.rglob(".*") if path.is_file())
        checkpoints = folder / "checkpoints"
        if checkpoints.is_dir() and store.is_published(folder.name):
            yield checkpoints


def _of_prefixes(
    store: RunStore, manifests: Sequence[Manifest], states: Mapping[str, RunState], *, whole: bool
) -> Iterator[Path]:
    """What of the shared prefixes is not needed; with `whole`, also those whose runs are all published."""
    names = {manifest.name for manifest in manifests}
    used = {prefix for manifest in manifests for prefix in manifest.trunks}
    for folder in sorted(store.prefixes.glob("t*")):
        if any(state.running for name, state in states.items() if name.startswith(folder.name)):
            continue
        members = {run_id for manifest in manifests for run_id in manifest.trunks.get(folder.name, ())}
        published = all(map(store.is_published, members))
        if folder.name not in used or (whole and published):
            yield from (folder, *sorted(store.claims.folder.glob(f"{folder.name}-*")))
            continue
        yield from unneeded(store, folder.name)
        yield from sorted(path for path in folder.glob("needed/*.json") if path.stem not in names)
        yield from sorted(folder.glob("damaged-*.pt"))
        made = {str(step) for step in available_steps(store, folder.name)}
        for path in sorted(folder.glob("checkpoints/*.pt")):  # of parts on their way
            if published or path.stem.rpartition("-")[2] in made or path.name.startswith("damaged-"):
                yield path
