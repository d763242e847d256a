"""A training step of another checkout over a step of this one: `python -m benchmarks.before_after --other FOLDER`.

Each checkout trains one run of a shape by its own command (and its own environment, where it has a `.venv`), with one
worker of one thread. CPU seconds of a long run
less those of a short one, over the steps between them, are the seconds of a step: imports, preparing tokens and
validation are in both runs and cancel out. Pairs are interleaved; the ratios of pairs give a median and an interval.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.overhead import interval
from experiments.machine.devices import cpu_name
from experiments.machine.hardware import versions

ROOT = Path(__file__).resolve().parents[1]
BATCH_TOKENS = 1024
"""Of recipe byte-small."""
SWEEP = """name: steps
data: {{corpus: sotu, tokenizer: bytes, context: 128}}
design: {{kind: ladder, tokens: [{tokens}], shapes: [{{width: {width}, depth: 2}}]}}
model: {{qk_norm: true}}
recipe: {{name: byte-small}}
schedule: {{name: wsd, decay_fraction: 0.25}}
"""
"""Words that both checkouts read; the shapes are the quickstart's."""


def cpu_seconds(checkout: Path, folder: Path, *, width: int, steps: int) -> float:
    """CPU seconds of one run by a checkout's command, all its processes together.

    Parameters
    ----------
    checkout : Path
        The root of its working tree.
    folder : Path
        Where tokens are kept between runs of this checkout.
    width : int
        Of the model.
    steps : int
        Of 1,024 tokens.

    Raises
    ------
    SystemExit
        With what the command said, where it fails.
    """
    with tempfile.TemporaryDirectory(dir=folder) as store:
        sweep = Path(store) / "steps.yaml"
        sweep.write_text(SWEEP.format(tokens=steps * BATCH_TOKENS, width=width), encoding="utf-8")
        python = checkout / ".venv" / "bin" / "python"
        words = [str(python) if python.exists() else sys.executable, "-m", "experiments", "run", str(sweep)]
        environment = os.environ | {
            "PYTHONPATH": str(checkout),
            "ISOFLOP_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*words, "--store", store, "--workers", "1", "--wandb", "off"],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{checkout} ended with status {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(
    checkouts: dict[str, Path], folder: Path, *, width: int, steps: tuple[int, int], pairs: int
) -> dict[str, Any]:
    """CPU milliseconds of a step of each checkout, and before over after.

    Parameters
    ----------
    checkouts : dict
        before and after, each the root of a working tree.
    folder : Path
        For what runs leave behind.
    width : int
        Of the model.
    steps : (int, int)
        Of the short and the long run.
    pairs : int
        How often each is measured.
    """
    short, long = steps
    homes = {name: folder / name for name in checkouts}
    for name, home in homes.items():
        home.mkdir(exist_ok=True)
        cpu_seconds(checkouts[name], home, width=width, steps=short)  # prepares tokens
    spent: dict[str, list[float]] = {name: [] for name in checkouts}
    for number in range(pairs):
        for name in list(checkouts) if number % 2 == 0 else list(checkouts)[::-1]:
            start = cpu_seconds(checkouts[name], homes[name], width=width, steps=short)
            whole = cpu_seconds(checkouts[name], homes[name], width=width, steps=long)
            spent[name].append((whole - start) / (long - short) * 1e3)
        print(f"width {width}: before {spent['before'][-1]:.2f} ms, after {spent['after'][-1]:.2f} ms", flush=True)
    ratios = [before / after for before, after in zip(spent["before"], spent["after"], strict=True)]
    return {
        "width": width,
        **{f"{name}_cpu_milliseconds": round(statistics.median(values), 2) for name, values in spent.items()},
        "before_over_after": {name: round(value, 3) for name, value in interval(ratios).items()},
        "pairs": pairs,
    }


def commit_of(checkout: Path) -> str:
    """The commit that is checked out."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="the checkout to compare with (git worktree add)")
    parser.add_argument("--widths", type=int, nargs="*", default=[32, 64])
    parser.add_argument("--steps", type=int, nargs=2, default=[60, 460], help="of the short and of the long run")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    checkouts = {"before": args.other.resolve(), "after": ROOT}
    known = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    shapes = {row["width"]: row for row in known.get("shapes", [])}
    with tempfile.TemporaryDirectory() as folder:
        for width in args.widths:
            load = round(os.getloadavg()[0], 2)
            row = measure(checkouts, Path(folder), width=width, steps=tuple(args.steps), pairs=args.pairs)
            shapes[width] = row | {"load_average_before": load}
    result = {
        "command": "python -m benchmarks.before_after --other FOLDER",
        "what": "CPU time of a training step of 1,024 tokens on one thread, by each checkout's own command",
        "machine": cpu_name(),
        "versions": versions(),
        "before": commit_of(checkouts["before"]),
        "shapes": [shapes[width] for width in sorted(shapes)],
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
