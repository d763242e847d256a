"""Flip random bits of a store in mid-sweep and let it be trained to its end. `python -m benchmarks.bitflips`.

A tiny sweep is stopped when its first run is published and its second is on its way. Then, two hundred times, a bit of
one file of a copy is flipped (every file has the same chance; token files are among them), `verify` is asked, and the
sweep is trained to its end. A flip is harmless when every record, every row of metrics and every label ends as in an
undisturbed sweep; else `verify` or the training must have named the file.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.tiny_sweep import finish, in_child, outcomes, same, train, warm_up, write_sweep
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.store.store import RunStore
from experiments.store.verify import Verification, verify_store
from experiments.training import job
from experiments.training.state import TrainState
from experiments.training.step import take_step
from experiments.verbs.records.verify import check_tokens


def kind_of(path: Path, root: Path) -> str:
    """What a file is, for the count."""
    parts = path.relative_to(root).parts
    return parts[0] if parts[0] in ("claims", "sweeps") else f"{parts[0]} {path.name.partition('.')[0]}{path.suffix}"


def stop_midway(sweep: Path, root: Path, cache: Cache, log: Path) -> None:
    """Train until the first run is published and the second has a checkpoint of its own, and stop there."""
    original = take_step

    def work() -> int:
        def step(setup: Any, state: TrainState, share: Any) -> None:
            if list(root.glob("runs/*/record.json")) and list(root.glob("runs/*/checkpoints/latest.pt")):
                raise KeyboardInterrupt
            original(setup, state, share)

        mock.patch.object(job, "take_step", step).start()  # this process ends with it
        return train(sweep, root, cache)

    in_child(work, log)
    if len(outcomes(root)) != 1 or not list(root.glob("runs/*/checkpoints/latest.pt")):
        raise SystemExit(f"the sweep was not stopped midway: {log.read_text()[-2000:]}")


def flip(path: Path, rng: random.Random) -> str:
    """Flip one bit; where."""
    content = bytearray(path.read_bytes())
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(bytes(content))
    return f"byte {place} of {len(content)}, bit {bit}"


def labels(root: Path) -> Any:
    """What the sweep's manifest says of its runs."""
    manifest = RunStore(root).read_manifest("tiny")
    return None if manifest is None else [manifest.runs, manifest.trunks, manifest.report]


def checked(root: Path, cache: Cache) -> Verification:
    """What `verify` says."""
    found = verify_store(RunStore(root))
    check_tokens(RunStore(root), cache, found)
    return found


def strike(
    template: Path, place: Path, wanted: tuple[dict[str, Any], Any], rng: random.Random
) -> tuple[str, str, dict[str, Any]]:
    """Flip one bit of a copy and train on: (kind of file, what became of it, details)."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place)
    root, cache, log = place / "store", Cache(place / "cache"), place / "log"
    every = (path for part in ("store", "cache") for path in (place / part).rglob("*"))
    files = sorted(path for path in every if path.is_file() and path.stat().st_size)
    victim = rng.choice(files)
    where = flip(victim, rng)
    named = [item.path for item in checked(root, cache).damaged]
    name = str(victim.relative_to(root)) if victim.is_relative_to(root) else str(victim.parent)
    is_named = any(path == name for path in named)
    detail = {"file": str(victim.relative_to(place)), "where": where, "named": named}
    kind = kind_of(victim, place)
    try:
        finish(place / "tiny.yaml", root, cache, log)
        right = same(outcomes(root), wanted[0]) and labels(root) == wanted[1]
        whole = all(len(one[2]) == len(wanted[0][run_id][2]) for run_id, one in outcomes(root).items())
    except (SystemExit, UserError) as error:
        return kind, "stopped", detail | {"problem": str(error)[-600:]}
    if not right:
        return kind, "wrong", detail
    if is_named:
        return kind, "named and repaired" if whole else "named, and rows are left out", detail
    return kind, "harmless" if whole else "rows are lost and nobody says so", detail


def main() -> None:
    """Flip, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    rng, began = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        template = base / "template"
        template.mkdir()
        sweep, log = write_sweep(template), base / "log"
        warm_up(sweep, base / "peace", Cache(template / "cache"))
        wanted = outcomes(base / "peace"), labels(base / "peace")
        stop_midway(sweep, template / "store", Cache(template / "cache"), log)
        ends: Counter[str] = Counter()
        kinds: dict[str, Counter[str]] = {}
        bad: list[dict[str, Any]] = []
        for number in range(args.flips):
            kind, end, detail = strike(template, base / "copy", wanted, rng)
            ends[end] += 1
            kinds.setdefault(kind, Counter())[end] += 1
            if end in ("wrong", "stopped", "rows are lost and nobody says so"):
                bad.append(detail | {"end": end})
                print(json.dumps(bad[-1]), flush=True)
            result = {
                "flips": number + 1,
                "ends": dict(ends),
                "by_file": {name: dict(count) for name, count in sorted(kinds.items())},
                "wrong_results_published": ends["wrong"],
                "stopped": ends["stopped"],
                "bad": bad,
                "seconds": round(time.monotonic() - began),
            }
            args.out.write_text(json.dumps(result, indent=1) + "\n")
    if bad:
        sys.exit("error: a flipped bit changed a result or stopped the sweep")


if __name__ == "__main__":
    main()
