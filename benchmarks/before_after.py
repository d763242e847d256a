"""A training step of another checkout over a step of this one: `python -m benchmarks.before_after --other FOLDER`.

Each checkout trains one run of a shape by its own command (and its own environment, where it has a `.venv`), with one
worker of one thread. CPU seconds of a long run less those of a short one, over the steps between them, are the seconds
of a step: imports, preparing tokens and validation are in both runs and cancel out. Both checkouts train at the
same time, which wants two cores. The ratios of pairs give a median and an interval; pairs of the same two commits are
added to those that the record holds.
"""

from __future__ import annotations

import argparse
import json
import os
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


def start(checkout: Path, home: Path, *, width: int, steps: int) -> tuple[subprocess.Popen[bytes], Path]:
    """Start one run by a checkout's command; the process, and the file of what it prints.

    Parameters
    ----------
    checkout : Path
        The root of its working tree.
    home : Path
        Where its tokens are kept, and a store is made.
    width : int
        Of the model.
    steps : int
        Of 1,024 tokens.
    """
    store = Path(tempfile.mkdtemp(dir=home))
    sweep = store / "steps.yaml"
    sweep.write_text(SWEEP.format(tokens=steps * BATCH_TOKENS, width=width), encoding="utf-8")
    python = checkout / ".venv" / "bin" / "python"
    words = [str(python) if python.exists() else sys.executable, "-m", "experiments", "run", str(sweep)]
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "ISOFLOP_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    path = store / "output.txt"
    with path.open("wb") as output:
        process = subprocess.Popen(
            [*words, "--store", str(store), "--workers", "1", "--wandb", "off"],
            cwd=checkout,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return process, path


def cpu_seconds(checkouts: dict[str, Path], folder: Path, *, width: int, steps: int) -> dict[str, float]:
    """CPU seconds of the same run by each checkout, all processes of each together.

    Both are trained at the same time, so that whatever else the machine does meets them alike.

    Parameters
    ----------
    checkouts : dict
        before and after, each the root of a working tree.
    folder : Path
        For what runs leave behind.
    width : int
        Of the model.
    steps : int
        Of 1,024 tokens.

    Raises
    ------
    SystemExit
        With the status and the last words of a command that fails.
    """
    started = {name: start(checkout, folder / name, width=width, steps=steps) for name, checkout in checkouts.items()}
    ended = {name: os.wait4(process.pid, 0) for name, (process, _) in started.items()}
    for name, (_, status, _) in ended.items():
        if status:
            words = started[name][1].read_text(encoding="utf-8", errors="replace").strip().splitlines()
            code = os.waitstatus_to_exitcode(status)
            raise SystemExit(f"error: {checkouts[name]} ended with status {code}: {words[-1] if words else ''}")
    return {name: usage.ru_utime + usage.ru_stime for name, (_, _, usage) in ended.items()}


def measure(
    checkouts: dict[str, Path], folder: Path, *, width: int, steps: tuple[int, int], pairs: int
) -> dict[str, list[float]]:
    """CPU milliseconds of a step of each checkout, pair by pair.

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
    for name in checkouts:
        (folder / name).mkdir(exist_ok=True)
    cpu_seconds(checkouts, folder, width=width, steps=short)  # prepares tokens
    spent: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(pairs):
        few, many = (cpu_seconds(checkouts, folder, width=width, steps=number) for number in steps)
        for name, values in spent.items():
            values.append((many[name] - few[name]) / (long - short) * 1e3)
        print(f"width {width}: before {spent['before'][-1]:.2f} ms, after {spent['after'][-1]:.2f} ms", flush=True)
    return spent


def summary(width: int, spent: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over all pairs, and the ratio of pairs with its interval."""
    ratios = [before / after for before, after in zip(spent["before"], spent["after"], strict=True)]
    return {
        "width": width,
        **{f"{name}_cpu_milliseconds": round(statistics.median(values), 2) for name, values in spent.items()},
        "before_over_after": {name: round(value, 3) for name, value in interval(ratios).items()},
        "pairs": {name: [round(value, 3) for value in values] for name, values in spent.items()},
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
    commits = {name: commit_of(checkout) for name, checkout in checkouts.items()}
    known = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    rows = known.get("shapes", []) if known.get("commits") == commits else []
    shapes = {row["width"]: row for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for width in args.widths:
            load = round(os.getloadavg()[0], 2)
            spent = measure(checkouts, Path(folder), width=width, steps=tuple(args.steps), pairs=args.pairs)
            earlier = shapes.get(width, {"pairs": {"before": [], "after": []}, "load_average_before": []})
            spent = {name: earlier["pairs"][name] + values for name, values in spent.items()}
            shapes[width] = summary(width, spent) | {"load_average_before": [*earlier["load_average_before"], load]}
    result = {
        "command": "python -m benchmarks.before_after --other FOLDER",
        "what": "CPU time of a training step of 1,024 tokens on one thread, by each checkout's own command",
        "machine": cpu_name(),
        "versions": versions(),
        "commits": commits,
        "shapes": [shapes[width] for width in sorted(shapes)],
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
