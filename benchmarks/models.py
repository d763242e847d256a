"""Training throughput of our GPT-2-shaped model against Hugging Face's GPT-2 and litgpt's GPT on one CPU thread.

All train in float32 by the same fused AdamW with clipping, in one process, interleaved: each round takes some steps of
every model in a random order, and a round's ratio compares models at the same moment. The allocator keeps freed
memory for all of them, as our workers set it. Reported are medians over rounds
and a 95 % interval of the median ratio by bootstrap over rounds. CPU time of the process counts, so that other jobs on
the machine disturb less. litgpt has no learned positions: it is given rotary ones, and its GELU is GPT-2's.

    pip install transformers && pip install --no-deps litgpt
    OMP_NUM_THREADS=1 python -m benchmarks.models --out benchmarks/models.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.machine.devices import cpu_name
from experiments.machine.hardware import tune_allocator
from models.config.optimizer import OptimizerConfig
from models.config.presets import gpt2
from models.config.schedules import ScheduleConfig
from models.lit import LitTransformer

SHAPES = {
    "XS-bytes": {"width": 32, "depth": 2, "heads": 2, "vocab": 264, "context": 256, "batch": 2},
    "S-bytes": {"width": 64, "depth": 2, "heads": 4, "vocab": 264, "context": 256, "batch": 4},
    "M-bytes": {"width": 128, "depth": 4, "heads": 4, "vocab": 264, "context": 256, "batch": 4},
    "M-bpe": {"width": 128, "depth": 4, "heads": 4, "vocab": 4096, "context": 256, "batch": 4},
    "L-bpe": {"width": 256, "depth": 6, "heads": 8, "vocab": 4096, "context": 256, "batch": 4},
    "M-gpt2": {"width": 128, "depth": 4, "heads": 4, "vocab": 50257, "context": 256, "batch": 2},
}
"""Width, depth and heads of small GPT-2s with the vocabulary of bytes, of a small BPE and of GPT-2 itself."""


def ours(shape: dict[str, int]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Our model, by the module that workers train."""
    config = gpt2(
        width=shape["width"],
        depth=shape["depth"],
        num_heads=shape["heads"],
        vocab_size=shape["vocab"],
        context=shape["context"],
    )
    module = LitTransformer(
        model=config,
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**9,
        batch_tokens=shape["batch"] * shape["context"],
        seed=0,
    )
    return module, lambda tokens: module.training_step(tokens, 0)


def hugging_face(shape: dict[str, int]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """GPT2LMHeadModel by its own attention default, without dropout."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=shape["vocab"],
        n_embd=shape["width"],
        n_layer=shape["depth"],
        n_head=shape["heads"],
        n_positions=shape["context"],
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        use_cache=False,
    )
    model = transformers.GPT2LMHeadModel(config).train()
    return model, lambda tokens: next_token_loss(model(tokens[:, :-1]).logits, tokens)


def litgpt(shape: dict[str, int]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """litgpt's GPT in GPT-2's shape, its head tied as GPT-2's is."""
    from litgpt.config import Config
    from litgpt.model import GPT

    config = Config(
        n_embd=shape["width"],
        n_layer=shape["depth"],
        n_head=shape["heads"],
        vocab_size=shape["vocab"],
        padded_vocab_size=shape["vocab"],
        block_size=shape["context"],
        intermediate_size=4 * shape["width"],
        bias=True,
        norm_class_name="LayerNorm",
        mlp_class_name="GptNeoxMLP",
        gelu_approximate="tanh",
        rotary_percentage=1.0,
        parallel_residual=False,
    )
    model = GPT(config).train()
    model.lm_head.weight = model.transformer.wte.weight
    return model, lambda tokens: next_token_loss(model(tokens[:, :-1]), tokens)


def next_token_loss(logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
    """The mean next-token loss, as every training loop writes it."""
    return F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())


PEERS = {"isoflop": ours, "transformers": hugging_face, "litgpt": litgpt}


def make_step(make: Callable[..., Any], shape: dict[str, int]) -> tuple[Callable[[], None], int]:
    """A function that takes one training step, and the number of parameters that it trains."""
    torch.manual_seed(0)
    model, loss_of = make(shape)
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(params, lr=1e-3, fused=True)
    tokens_BT = torch.randint(0, shape["vocab"], (shape["batch"], shape["context"] + 1))

    def step() -> None:
        loss_of(tokens_BT).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, sum(p.numel() for p in params)


def measure(shape: dict[str, int], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Medians of tokens per CPU second and ratios of ours over each peer."""
    rng = np.random.default_rng(0)
    steps = {name: make_step(make, shape) for name, make in PEERS.items()}
    for step, _ in steps.values():
        step()
    began = time.process_time()
    steps["isoflop"][0]()
    repeats = max(1, round(seconds / (time.process_time() - began)))
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name in rng.permutation(list(steps)):
            began = time.process_time()
            for _ in range(repeats):
                steps[name][0]()
            spent[name].append((time.process_time() - began) / repeats)
    tokens = shape["batch"] * shape["context"]
    result: dict[str, Any] = {"shape": shape, "rounds": rounds, "steps_a_round": repeats, "models": {}}
    for name, values in spent.items():
        ratio = np.asarray(values) / np.asarray(spent["isoflop"])
        draws = np.median(ratio[rng.integers(0, rounds, (4000, rounds))], axis=1)
        result["models"][name] = {
            "params": steps[name][1],
            "tokens_per_cpu_second": round(tokens / float(np.median(values)), 1),
            "isoflop_is_times_faster": round(float(np.median(ratio)), 3),
            "interval_95": [round(float(edge), 3) for edge in np.quantile(draws, [0.025, 0.975])],
        }
    return result


def main() -> None:
    """Measure every shape, print a table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds of each shape")
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU seconds of our model in a round")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    record: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.models --out benchmarks/models.json",
        "what": "float32 training steps on one thread; ratios are a peer's CPU time over ours, medians over rounds",
        "machine": {"processor": cpu_name(), "capability": torch.backends.cpu.get_cpu_capability()},
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "litgpt")},
        "shapes": {},
    }
    print(f"{'shape':10} {'model':14} {'tokens/s':>10} {'times faster':>13}  95 % interval")
    for name in args.shapes:
        found = measure(SHAPES[name], rounds=args.rounds, seconds=args.seconds)
        record["shapes"][name] = found
        for model, row in found["models"].items():
            low, high = row["interval_95"]
            speed, ratio = row["tokens_per_cpu_second"], row["isoflop_is_times_faster"]
            print(f"{name:10} {model:14} {speed:10,.0f} {ratio:13.3f}  {low:.3f} to {high:.3f}", flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
