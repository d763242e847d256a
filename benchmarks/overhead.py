"""What the whole path costs over a bare PyTorch loop, a step and a run. `python -m benchmarks.overhead [--out
benchmarks/overhead.json]`.

Steps: the same width-32 module trained by `train_run` (data, schedule, Fabric, recorder) and by a bare loop over
ready batches, in interleaved pairs. Runs: 100 runs of a 20k-parameter model through a worker (claims, configs,
checkpoints, records) against their stepping and validating alone; then 500 runs in one worker, and how much its memory
grew. Shares: the part of whole runs of the quickstart that evaluation, checkpoints and logging take.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import pkgutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from lightning.fabric import Fabric

from experiments.config.run import RunConfig, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.corpus import TokenCorpus, prepare
from experiments.data.identity import resolve
from experiments.execution.worker import Worker
from experiments.machine.devices import cpu_name
from experiments.machine.hardware import current_memory_bytes, tune_allocator
from experiments.planning.planned_sweep import alone as lone_segment
from experiments.planning.plans import expand_file
from experiments.store.store import RunStore
from experiments.training.job import train_run
from experiments.training.state import TrainSetup
from experiments.training.validation import EVAL_BATCH_TOKENS
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.lit import LitTransformer

QUICKSTART = Path(__file__).resolve().parents[1] / "experiments" / "sweeps" / "quickstart.yaml"


def make_config(
    *, width: int, depth: int, batch_tokens: int, tokens: int, seed: int = 0, val_size: int = 1 << 14
) -> RunConfig:
    """A decoder on the speeches."""
    data = resolve(DataConfig(corpus="sotu", context=128, val_size=val_size), Cache())
    model = TransformerConfig(vocab_size=data.vocab_size, width=width, depth=depth, num_heads=width // 16, context=128)
    return RunConfig(
        model=model,
        data=data,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(name="wsd", warmup_tokens=10 * batch_tokens, decay_tokens=10 * batch_tokens),
        tokens=tokens // batch_tokens * batch_tokens,
        batch_tokens=batch_tokens,
        seed=seed,
    )


def whole_path(config: RunConfig, corpus: TokenCorpus, fabric: Fabric) -> float:
    """CPU seconds of the steps of one run through `train_run`."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[dict[str, Any]] = []
        job = TrainSetup(
            config=config,
            corpus=corpus,
            folder=Path(folder),
            fabric=fabric,
            write_rows=rows.extend,
            clock=time.process_time,
        )
        outcome = train_run(job).outcome
    return outcome.seconds["train_seconds"]


def bare_loop(
    config: RunConfig, corpus: TokenCorpus, *, validate: bool = False, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds by `clock` of the same steps without anything around them; batches are ready before the clock starts."""
    lit = LitTransformer(
        model=config.model,
        optimizer=config.optimizer,
        schedule=config.schedule,
        total_tokens=config.tokens,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    optimizer = lit.configure_optimizers()
    size = config.batch_sequences
    batches = [torch.from_numpy(corpus.train_batch(step * size, size)) for step in range(config.num_steps)]
    parameters = list(lit.parameters())
    lit.train()
    began = clock()
    for step, batch in enumerate(batches):
        loss: torch.Tensor = lit.training_step(batch, step)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = clock() - began
    if validate:
        held_out = [torch.from_numpy(tokens) for tokens, _, _ in corpus.val_batches(EVAL_BATCH_TOKENS // 128)]
        lit.eval()
        began = clock()
        with torch.no_grad():
            for tokens in held_out:
                lit.losses_and_mask(tokens)[0].sum()
        seconds += clock() - began
    return seconds


def per_step(pairs: int) -> dict[str, Any]:
    """Microseconds of CPU a step of the whole path over the bare loop, at width 32; one thread, so CPU time is its
    time alone."""
    config = make_config(width=32, depth=2, batch_tokens=512, tokens=512 * 300)
    corpus, fabric = prepare(config.data, Cache()), Fabric(accelerator="cpu", devices=1)
    arms: list[Callable[[], float]] = [
        lambda: whole_path(config, corpus, fabric),
        lambda: bare_loop(config, corpus, clock=time.process_time),
    ]
    for arm in arms:
        arm()
    differences, bare = [], []
    for number in range(pairs):
        first, second = arms if number % 2 == 0 else arms[::-1]
        one, two = first(), second()
        whole, base = (one, two) if number % 2 == 0 else (two, one)
        differences.append((whole - base) / config.num_steps * 1e6)
        bare.append(base / config.num_steps * 1e6)
    return {
        "bare_cpu_us_per_step": statistics.median(bare),
        "overhead_cpu_us_per_step": interval(differences),
        "pairs": pairs,
    }


def interval(values: list[float]) -> dict[str, float]:
    """Median with a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(values, size=(4000, len(values))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"median": statistics.median(values), "lo": float(low), "hi": float(high)}


def through_worker(configs: list[RunConfig]) -> tuple[float, int]:
    """Seconds that one worker in this process needs for runs, and the growth of its memory in bytes after the first
    five."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        store.prepare()
        ids = [run_id(config) for config in configs]
        for identity, config in zip(ids, configs, strict=True):
            store.write_config(identity, config)
        began = time.perf_counter()
        segments = [lone_segment(store, identity) for identity in ids]
        Worker(store=store, segments=segments[:5]).work()
        memory = current_memory_bytes()
        Worker(store=store, segments=segments).work()
        seconds = time.perf_counter() - began
        assert all(store.record_path(identity).exists() for identity in ids)
        return seconds, current_memory_bytes() - memory


def many_runs(blocks: int) -> dict[str, Any]:
    """100 runs of 50k tokens in interleaved blocks of ten; the ratio of worker to stepping and validating alone."""
    config = make_config(width=24, depth=2, batch_tokens=1024, tokens=50_000)
    corpus = prepare(config.data, Cache())
    whole, alone = [], []
    for block in range(blocks):
        configs = [replace(config, seed=10 * block + number) for number in range(10)]
        alone.append(sum(bare_loop(item, corpus, validate=True) for item in configs))
        whole.append(through_worker(configs)[0])
    return {
        "runs": 10 * blocks,
        "seconds_per_run": sum(whole) / 10 / blocks,
        "ratio": interval([a / b for a, b in zip(whole, alone, strict=True)]),
    }


SHARED = (
    ("evaluation", "experiments.training.job", "evaluate"),
    ("checkpoints", "experiments.training.job", "save_state"),
    ("checkpoints", "experiments.training.job", "leave_prefix"),
    ("checkpoints", "experiments.execution.engine", "save_weights"),
    ("checkpoints", "experiments.execution.segments", "settle"),
    ("checkpoints", "experiments.execution.segments", "file_digest"),
    ("logging", "experiments.execution.segments", "append_rows"),
    ("logging", "experiments.store.store.RunStore", "publish"),
)
"""Part of a run, where its function is looked up, and the function's name."""


class Tally:
    """CPU seconds spent in functions, by part; while it is entered, they are counted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {part: 0.0 for part, _, _ in SHARED}
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Tally:
        for part, home, name in SHARED:
            patch = mock.patch(f"{home}.{name}", self._counted(part, pkgutil.resolve_name(f"{home}.{name}")))
            self._patches.enter_context(patch)
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _counted(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds[part] += time.process_time() - began

        return counted


def evaluation_flops_percent(config: RunConfig, corpus: TokenCorpus) -> float:
    """Percent of FLOPs that evaluation takes of a run: one forward pass a token, where a training step counts three."""
    read = sum(tokens.shape[0] for tokens, _, _ in corpus.val_batches(EVAL_BATCH_TOKENS // config.data.context))
    evaluated = read * config.data.context
    return 100 * evaluated / (3 * config.tokens + evaluated)


def shares(widths: Sequence[int]) -> dict[str, Any]:
    """What is not training in the quickstart's shortest run of each width: percent of its CPU time."""
    expanded = expand_file(QUICKSTART, cache=Cache())
    rows = []
    for width in widths:
        runs = [run.config for run in expanded.runs if isinstance(run.config, RunConfig)]
        config = min((one for one in runs if one.model.width == width), key=lambda one: one.tokens)
        corpus = prepare(config.data, Cache())
        began = time.process_time()
        with Tally() as tally:
            through_worker([config])
        whole = time.process_time() - began
        row: dict[str, Any] = {"width": width, "steps": config.num_steps, "cpu_seconds": round(whole, 2)}
        row["evaluation_flops_percent"] = round(evaluation_flops_percent(config, corpus), 2)
        row |= {f"{part}_percent": round(100 * spent / whole, 2) for part, spent in tally.seconds.items()}
        rows.append(row | {"together_percent": round(100 * sum(tally.seconds.values()) / whole, 2)})
        print(rows[-1], flush=True)
    return {"machine": cpu_name(), "load_average": os.getloadavg()[0], "runs": rows}


def growth(runs: int) -> dict[str, Any]:
    """Growth of one worker's memory over many runs."""
    config = make_config(width=16, depth=1, batch_tokens=512, tokens=512 * 50, val_size=1 << 12)
    seconds, grown = through_worker([replace(config, seed=number) for number in range(runs)])
    return {"runs": runs, "growth_megabytes": grown / 1e6, "seconds": seconds}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument(
        "--parts", default="step,run,growth,shares", help="which to measure; the record keeps the others"
    )
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 32, 64], help="whose shares are measured")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    measures = {
        "step": lambda: per_step(args.pairs),
        "run": lambda: many_runs(args.blocks),
        "growth": lambda: growth(args.runs),
        "shares": lambda: shares(args.widths),
    }
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    result = known | {part: measures[part]() for part in args.parts.split(",")}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
