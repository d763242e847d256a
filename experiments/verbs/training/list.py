"""`list`: the sweeps of a store, with how far each is. Imports neither torch nor pandas."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.errors import UserError
from experiments.formatting import plain_table
from experiments.manifests import read_manifest
from experiments.records import RecordError
from experiments.store.store import RunStore
from models.command_line import next_step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `list`."""
    parser.add_argument("--store", type=Path, default=Path(), help="folder of runs/ and sweeps/ (default: here)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Print the sweeps of the store."""
    return list_sweeps(args.store, as_json=args.json)


def list_sweeps(root: Path, *, as_json: bool) -> int:
    """Print the sweeps of a store; also what `status` without a name does."""
    store = RunStore(root)
    manifests = sorted(store.sweeps.glob("*.json"))
    if not manifests:
        raise UserError(
            f"no sweep was run in {store.root.resolve()}; `isoflop run SWEEP.yaml` makes one there, and --store names "
            "another folder"
        )
    rows = [_row(store, path) for path in manifests]
    if as_json:
        print(json.dumps({"sweeps": rows}, indent=1))
        return 0
    cells = [
        [str(row["name"]), str(row.get("design", "")), f"{row['num_done']} of {row['num_runs']}", str(row["note"])]
        if row["num_runs"] is not None
        else [str(row["name"]), "", "", str(row["note"])]
        for row in rows
    ]
    print(plain_table(["sweep", "design", "done", "sweep file"], cells, left=2))
    newest = max(manifests, key=lambda path: path.stat().st_mtime)
    print(next_step("status", newest))
    return 0


def _row(store: RunStore, path: Path) -> dict[str, str | int | None]:
    """One sweep; one whose manifest cannot be read is listed with the reason."""
    try:
        manifest = read_manifest(path)
    except RecordError as error:
        return {"name": path.stem, "num_runs": None, "num_done": None, "note": str(error)}
    done = sum(store.is_published(run_id) for run_id in manifest.runs)
    return {
        "name": manifest.name,
        "design": str(manifest.sweep.get("design", "")),
        "num_runs": len(manifest.runs),
        "num_done": done,
        "note": manifest.source or "",
    }
