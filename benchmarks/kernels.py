"""Matrix products and causal attention on a CPU, ours against torch's own, at shapes of small models; what objectives
cost of a step.

Interleaved on one thread: each round times every variant of a shape in a random order; reported are medians over rounds
of CPU time and of its ratio to torch's, with a 95 % interval by bootstrap over rounds.

    OMP_NUM_THREADS=1 python -m benchmarks.kernels --out benchmarks/kernels.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.machine.devices import cpu_name
from experiments.machine.hardware import tune_allocator
from models.config.objective import FAMILY_OF, ObjectiveConfig, ObjectiveName
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.kernels.attention import blockwise_attention
from models.kernels.linear import linear, onednn_is_faster
from models.lit import LitTransformer
from models.objectives import make_examples

LAYERS = [(512, 32, 264), (1024, 64, 256), (1024, 128, 512), (1024, 512, 128), (1024, 256, 1024), (512, 128, 50257)]
"""Rows, inputs, outputs."""
HEADS = [(4, 4, 256, 16), (4, 4, 256, 32), (4, 8, 256, 32), (4, 4, 512, 32), (2, 4, 1024, 64)]
"""Batch, heads, tokens, head size."""


def layers(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """A linear layer with its three gradients by torch's F.linear (MKL) and by ours."""
    rows, inputs, outputs = shape
    x, grad = torch.randn(rows, inputs, requires_grad=True), torch.randn(rows, outputs)
    weight, bias = torch.randn(outputs, inputs, requires_grad=True), torch.randn(outputs, requires_grad=True)

    def run(multiply: Callable[[Tensor, Tensor, Tensor], Tensor]) -> object:
        return torch.autograd.grad(multiply(x, weight, bias), (x, weight, bias), grad)

    return {"torch": lambda: run(F.linear), "ours": lambda: run(linear)}


def attention(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Causal attention on projections as a model has them, by torch's fused kernel and by ours."""
    batch, heads, tokens, size = shape
    flat = [torch.randn(batch, tokens, heads * size, requires_grad=True) for _ in range(3)]
    grad = torch.randn(batch, tokens, heads * size)

    def run(attend: Callable[..., Tensor]) -> object:
        q, k, v = (t.view(batch, tokens, heads, size).transpose(1, 2) for t in flat)
        return torch.autograd.grad(attend(q, k, v).transpose(1, 2).flatten(2), flat, grad)

    return {
        "torch": lambda: run(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        "ours": lambda: run(lambda q, k, v: blockwise_attention(q, k, v, scale=size**-0.5)),
    }


def objective_share(
    name: ObjectiveName, width: int, sequences: int, *, rounds: int, repeats: int = 20
) -> dict[str, Any]:
    """Microseconds in which an objective makes its examples of sequences of 256 bytes, and its share of a training
    step of a model of two layers."""
    objective = ObjectiveConfig(name=name, first_sentinel=264)
    family = FAMILY_OF[name]
    config = TransformerConfig(
        family=family, vocab_size=320, width=width, depth=2, num_heads=width // 16, context=256, head="linear"
    )
    module = LitTransformer(
        model=config,
        objective=objective,
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**9,
        batch_tokens=sequences * 256,
        seed=0,
    )
    optimizer = module.configure_optimizers()
    tokens_BT = torch.randint(0, 256, (sequences, 257))

    def step() -> None:
        module.training_step(tokens_BT, 0).backward()
        module.clip_gradients_()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    spent: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        times = []
        for call in (step, lambda: make_examples(tokens_BT, objective, step=1)):
            began = time.process_time()
            for _ in range(repeats):
                call()
            times.append((time.process_time() - began) / repeats)
        spent.append((times[0], times[1]))
    whole, part = np.median(np.asarray(spent[1:]), axis=0)
    return {
        "objective": name,
        "width": width,
        "tokens": sequences * 256,
        "microseconds": round(1e6 * float(part), 1),
        "share_of_step": round(float(np.median([p / w for w, p in spent[1:]])), 4),
        "step_milliseconds": round(1e3 * float(whole), 3),
    }


def measure(variants: dict[str, Callable[[], object]], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of every variant and the ratio of ours to torch's."""
    rng = np.random.default_rng(0)
    for call in variants.values():
        call()
    began = time.process_time()
    variants["torch"]()
    repeats = max(1, round(seconds / max(time.process_time() - began, 1e-6)))
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in rng.permutation(list(variants)):
            began = time.process_time()
            for _ in range(repeats):
                variants[name]()
            spent[name].append(1e3 * (time.process_time() - began) / repeats)
    ratio = np.asarray(spent["ours"]) / np.asarray(spent["torch"])
    draws = np.median(ratio[rng.integers(0, rounds, (4000, rounds))], axis=1)
    return {
        "milliseconds": {name: round(float(np.median(values)), 4) for name, values in spent.items()},
        "ours_over_torch": round(float(np.median(ratio)), 3),
        "interval_95": [round(float(edge), 3) for edge in np.quantile(draws, [0.025, 0.975])],
    }


def main() -> None:
    """Measure every shape, print a table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="interleaved rounds of each shape")
    parser.add_argument("--seconds", type=float, default=0.05, help="CPU seconds of torch's variant in a round")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    record: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.kernels --out benchmarks/kernels.json",
        "what": "float32, forward and backward, one thread, CPU time; medians over interleaved rounds",
        "machine": {"processor": cpu_name(), "capability": torch.backends.cpu.get_cpu_capability()},
        "onednn_is_faster": onednn_is_faster(),
        "torch": torch.__version__,
    }
    for part, make, shapes in (("linear", layers, LAYERS), ("causal_attention", attention, HEADS)):
        record[part] = []
        for shape in shapes:
            found = measure(make(shape), rounds=args.rounds, seconds=args.seconds)
            record[part].append({"shape": list(shape), **found})
            low, high = found["interval_95"]
            spent = found["milliseconds"]
            print(
                f"{part:17} {'x'.join(map(str, shape)):16} torch {spent['torch']:9.3f} ms, ours {spent['ours']:9.3f} "
                f"ms, ratio {found['ours_over_torch']:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
    record["objectives"] = []
    names: tuple[ObjectiveName, ...] = ("masked", "span", "infilling")
    for name in names:
        for width, sequences in ((32, 2), (64, 2), (64, 16)):
            row = objective_share(name, width, sequences, rounds=args.rounds)
            record["objectives"].append(row)
            print(
                f"{name:17} width {width}, {row['tokens']} tokens: {row['microseconds']} us, "
                f"{100 * row['share_of_step']:.1f} % of a step of {row['step_milliseconds']} ms",
                flush=True,
            )
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
