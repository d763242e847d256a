"""Whole sweeps by `isoflop run` against a plain Lightning script with transformers' GPT-2, wall time with imports.

    python -m benchmarks.sweep --out benchmarks/sweep.json

Two studies: the quickstart's runs, and a sweep of five rates by three seeds at widths 16, 32 and 64. The plain script
trains the same shapes, batches and steps one after another by torch's defaults, without logger, checkpoint or
validation (benchmarks/plain_sweep.py); ours also validates, checkpoints and keeps records and weights. Arms differ by
one part each, from plain to ours: the model, its kernels, the loop, packing (a worker a core), shared prefixes or
stacked runs. A third part measures the step of a stack by its members. Corpora and caches are warm for all.

`--scale` shortens every run, down to .15, and `--quick` does so for two runs a study; imports then weigh more. A
shortened study has a part of its own in the record (`quickstart at scale 0.15`), beside that of the whole one. The
record holds the load of the machine at each arm: other jobs slow an arm of two threads more than two workers of one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.config.run import RunConfig, canonical
from experiments.data.cache import Cache
from experiments.data.corpus import prepare
from experiments.machine.devices import cpu_name
from experiments.machine.hardware import tune_allocator, versions
from experiments.planning.plans import expand_file

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "experiments" / "sweeps" / "quickstart.yaml"
RATES = """name: rates
data: {corpus: sotu, tokenizer: bytes, context: 128}
design: {kind: ladder, tokens: [TOKENS], shapes: SHAPES}
model: {qk_norm: true}
recipe: {name: byte-small, warmup_tokens: WARMUP}
schedule: {name: wsd, decay_fraction: 0.25}
vary: {recipe.rate_scale: [0.25, 0.5, 1, 2, 4]}
seeds: [0, 1, 2]
"""
RATES_TOKENS = 409_600
"""Tokens of a run of the rate sweep at scale 1: 400 steps."""
WARMUP_TOKENS = 40_960
"""Of recipe byte-small, at scale 1."""
BATCH_TOKENS = 1024
"""Of recipe byte-small."""
WIDTHS, MEMBERS = (16, 32, 64), (1, 2, 4, 8, 16)
"""What the step of a stack is measured at."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A sweep that is trained by every arm."""

    name: str
    """quickstart or rates."""
    sweep: Path
    """Its YAML."""
    overrides: tuple[str, ...] = ()
    """Options that shorten it."""
    jobs: Path
    """What the plain script trains."""
    about: dict[str, Any] = field(default_factory=dict)
    """Runs, steps and tokens, for the record."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train a study."""

    name: str
    """In the record."""
    what: str
    """What it adds to the arm before it."""
    command: tuple[str, ...]
    """Words of its process; STORE stands for a fresh folder."""


def tokens_at(scale: float, tokens: int) -> int:
    """That part of a number of tokens, a whole number of steps of at least 50, which designs ask for."""
    return max(50, round(scale * tokens / BATCH_TOKENS)) * BATCH_TOKENS


def quickstart_overrides(scale: float) -> tuple[str, ...]:
    """Options that give every run of the quickstart that part of its tokens."""
    if scale == 1:
        return ()
    budgets = [1.6e11, 2.56e11, 4.0e11, 6.4e11]
    replicates = ", ".join(
        f"{{seeds: [1, 2], width: {width}, depth: 2, budget: {budget * scale:.4e}}}"
        for width, budget in ((16, 1.6e11), (32, 2.56e11))
    )
    return (
        f"--design.budgets=[{', '.join(f'{budget * scale:.4e}' for budget in budgets)}]",
        f"--design.heldout_budgets=[{1.92e12 * scale:.4e}]",
        f"--design.ratio_range=[{5 * scale:.4g}, {320 * scale:.4g}]",
        f"--replicates=[{replicates}]",
        f"--recipe.warmup_tokens={round(scale * WARMUP_TOKENS)}",
    )


def make_study(name: str, folder: Path, scale: float, quick: bool) -> Study:
    """Write what the arms of a study train."""
    sweep, overrides = QUICKSTART, quickstart_overrides(scale)
    if name == "rates":
        widths = WIDTHS[:1] if quick else WIDTHS
        shapes = "[" + ", ".join(f"{{width: {width}, depth: 2}}" for width in widths) + "]"
        text = RATES.replace("TOKENS", str(tokens_at(scale, RATES_TOKENS)), 1).replace("SHAPES", shapes)
        sweep = folder / "rates.yaml"
        sweep.write_text(text.replace("WARMUP", str(round(scale * WARMUP_TOKENS))), encoding="utf-8")
        overrides = ("--vary={recipe.rate_scale: [0.5, 1]}", "--seeds=[0]") if quick else ()
    elif quick:
        overrides = (
            *(item for item in overrides if not item.startswith(("--replicates", "--design"))),
            f"--design={{kind: isoflop, budgets: [{1.6e11 * scale:.4e}, {2.56e11 * scale:.4e}], "
            "shapes: [{width: 16, depth: 2}]}",
            "--replicates=[]",
        )
    runs = expand_file(sweep, overrides, cache=Cache()).runs
    configs = [run.config for run in runs if isinstance(run.config, RunConfig)]
    corpus = prepare(configs[0].data, Cache())
    sequences = folder / "sequences.npy"
    np.save(sequences, corpus.train_batch(0, corpus.num_windows))
    jobs = [
        {
            "run_id": run.run_id,
            "width": config.model.width,
            "depth": config.model.depth,
            "heads": config.model.num_heads,
            "vocab": config.model.vocab_size,
            "context": config.data.context,
            "batch": config.batch_sequences,
            "steps": config.num_steps,
            "rate": config.optimizer.learning_rate,
            "seed": config.seed,
            "config": canonical(config),
        }
        for run, config in zip(runs, configs, strict=True)
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"sequences": str(sequences), "jobs": jobs}), encoding="utf-8")
    about = {
        "runs": len(jobs),
        "steps": sum(config.num_steps for config in configs),
        "tokens": sum(config.tokens for config in configs),
    }
    return Study(name=name, sweep=sweep, overrides=overrides, jobs=path, about=about)


def arms_of(study: Study, wanted: Sequence[str]) -> list[Arm]:
    """The arms of a study, from plain to ours, each with one part more; those wanted, all where none is named."""
    python = (sys.executable, "-m")
    run = (*python, "isoflop", "run", str(study.sweep), "--store", "STORE", "--wandb", "off", *study.overrides)
    plain = (*python, "benchmarks.plain_sweep", str(study.jobs), "--model")
    one = ("--workers", "1", "--execution.threads=2", "--no-sharing")
    arms = [
        Arm(name="plain", what="transformers' GPT-2 under Lightning's Trainer, one by one", command=(*plain, "gpt2")),
        Arm(name="model", what="our model without its kernels", command=(*plain, "ours-without-kernels")),
        Arm(name="kernels", what="its CPU kernels", command=(*plain, "ours")),
        Arm(name="loop", what="our worker, with records, checkpoints and validation", command=(*run, *one)),
        Arm(name="packing", what="two workers of one thread", command=(*run, "--workers", "2", "--no-sharing")),
    ]
    if study.name == "quickstart":
        arms.append(Arm(name="sharing", what="shared prefixes", command=(*run, "--workers", "2")))
    else:
        stacked = (*run, "--workers", "2", "--execution.stacked=auto")
        arms.append(Arm(name="stacking", what="runs trained together", command=stacked))
    return [arm for arm in arms if not wanted or arm.name in wanted]


def seconds_of(arm: Arm, folder: Path, number: int, threads: int | None) -> float:
    """Wall seconds of an arm in a process of its own, from its start to its end."""
    store = folder / f"store-{number}"
    words = [str(store) if word == "STORE" else word for word in arm.command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)  # torch's default
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    began = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(
            f"arm {arm.name} ended with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return seconds


def measure(study: Study, arms: Sequence[Arm], folder: Path, rounds: int, threads: int | None) -> dict[str, Any]:
    """Train a study by every arm in turn, as often as there are rounds; medians and ratios."""
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    loads: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(rounds):
        for place, arm in enumerate(arms if number % 2 == 0 else arms[::-1]):
            seconds[arm.name].append(round(seconds_of(arm, folder, len(arms) * number + place, threads), 3))
            loads[arm.name].append(round(os.getloadavg()[0], 2))
            print(
                f"{study.name:11} {arm.name:9} {seconds[arm.name][-1]:8.1f} s, load {loads[arm.name][-1]}", flush=True
            )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first, rows = next(iter(medians.values())), []
    for arm, before in zip(arms, [arms[0], *arms[:-1]], strict=True):
        rows.append(
            {
                "arm": arm.name,
                "adds": arm.what,
                "seconds": seconds[arm.name],
                "load_average_after": loads[arm.name],
                "times_faster_than_before": round(medians[before.name] / medians[arm.name], 3),
                "times_faster_than_plain": round(first / medians[arm.name], 3),
            }
        )
    return {**study.about, "arms": rows}


def stack_steps(repeats: int) -> list[dict[str, Any]]:
    """CPU milliseconds of a step of 1,024 tokens a member, by width and members, on one thread; interleaved."""
    import torch

    from models.config.optimizer import OptimizerConfig
    from models.config.schedules import ScheduleConfig
    from models.config.transformer import TransformerConfig
    from models.lit import LitTransformer
    from models.stack import Stack

    torch.set_num_threads(1)
    tune_allocator()

    def stepper(width: int, members: int) -> Callable[[], None]:
        shape = TransformerConfig(
            vocab_size=264, width=width, depth=2, num_heads=max(1, width // 16), context=128, qk_norm=True
        )
        schedule = ScheduleConfig(name="constant")
        lits = [
            LitTransformer(shape, OptimizerConfig(), schedule, 10**9, BATCH_TOKENS, seed) for seed in range(members)
        ]
        optimizers = [lit.configure_optimizers() for lit in lits]
        batches = [torch.randint(0, 264, (8, 129)) for _ in lits]
        stack = Stack([lit.model for lit in lits], lits[0].objective) if members > 1 else None

        def step() -> None:
            if stack is None:
                lits[0].training_step(batches[0], 0).backward()
            else:
                stack.losses(batches, [0] * members).sum().backward()
                stack.hand_out_gradients()
            for lit, optimizer in zip(lits, optimizers, strict=True):
                lit.clip_gradients_()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return step

    rows = []
    for width in WIDTHS:
        steps = {members: stepper(width, members) for members in MEMBERS}
        spent: dict[int, list[float]] = {members: [] for members in MEMBERS}
        for number in range(repeats + 1):
            for members, step in steps.items():
                began = time.process_time()
                for _ in range(max(MEMBERS) // members):
                    step()
                if number:  # the first warms up
                    spent[members].append((time.process_time() - began) / max(MEMBERS) * 1e3)
        for members, values in spent.items():
            ratios = [alone / value for alone, value in zip(spent[1], values, strict=True)]
            rows.append(
                {
                    "width": width,
                    "members": members,
                    "cpu_milliseconds_a_member": round(statistics.median(values), 2),
                    "times_faster_than_alone": round(statistics.median(ratios), 3),
                }
            )
            print(f"step        {rows[-1]}", flush=True)
    return rows


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="*", default=["quickstart", "rates", "steps"], help="which parts to measure")
    parser.add_argument("--arms", nargs="*", default=[], help="which arms (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="part of each run's steps")
    parser.add_argument("--rounds", type=int, default=1, help="times that each arm is measured")
    parser.add_argument("--threads", type=int, help="of arms that choose none (default: as torch does)")
    parser.add_argument("--quick", action="store_true", help="a few steps of two runs a study, to see that it works")
    parser.add_argument("--out", type=Path, help="JSON file to write; parts that are not measured keep what it holds")
    args = parser.parse_args()
    scale = 0.04 if args.quick else args.scale
    names = ("torch", "lightning", "transformers")
    known = json.loads(args.out.read_text(encoding="utf-8")) if args.out is not None and args.out.exists() else {}
    record: dict[str, Any] = known | {
        "command": "python -m benchmarks.sweep --out benchmarks/sweep.json",
        "what": "wall seconds with imports of whole sweeps on two cores, and CPU time of stacked steps",
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in args.studies:
            began = {
                "machine": {"processor": cpu_name(), "cores": os.cpu_count()},
                "versions": versions() | {name: importlib.metadata.version(name) for name in names},
                "scale": scale,
                "rounds": args.rounds,
                "load_average_before": round(os.getloadavg()[0], 2),
            }
            if name == "steps":
                record[name] = {**began, "rows": stack_steps(1 if args.quick else 7)}
                continue
            place = Path(folder) / name
            place.mkdir()
            study = make_study(name, place, scale, args.quick)
            part = name if args.quick or scale == 1 else f"{name} at scale {scale:g}"
            began["threads"] = args.threads or "torch's default"
            record[part] = began | measure(study, arms_of(study, args.arms), place, args.rounds, args.threads)
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
