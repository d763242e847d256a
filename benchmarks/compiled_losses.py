"""How far losses of compiled models are from those of the code as it stands: `python -m benchmarks.compiled_losses`.

    python -m benchmarks.compiled_losses --json benchmarks/compiled_losses.json

Every objective, and so every family, and every position encoding; a stack of models trained together; and layers that
are computed again in the backward pass. Each case is trained both ways, step by step, and validated; a second run of a
shape must compile nothing. The tests run it in a process of its own, because a compiler cannot read through the checks
of types that other tests switch on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from experiments.machine.devices import cpu_name
from experiments.machine.hardware import versions
from models.config.objective import FAMILY_OF, ObjectiveConfig
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.kernels import linear
from models.lit import LitTransformer
from models.modules.transformer import set_recompute
from models.stack import Stack

CASES = (
    "causal/rotary",
    "causal/none",
    "masked/t5",
    "masked/sinusoidal",
    "span/alibi",
    "infilling/learned",
    "stack/learned",
    "causal/rotary/recompute",
)
"""OBJECTIVE/POSITIONS of each case. `stack` is three causal models trained together, and `recompute` computes layers
again in the backward pass."""


def make(objective: Any, positions: str, seed: int) -> LitTransformer:
    """A small model of the objective's family."""
    fields: dict[str, Any] = {
        "vocab_size": 320,
        "width": 16,
        "depth": 1,
        "num_heads": 2,
        "context": 16,
        "positions": positions,
    }
    return LitTransformer(
        model=TransformerConfig(family=FAMILY_OF[objective], **fields),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**6,
        batch_tokens=64,
        seed=seed,
        objective=ObjectiveConfig(name=objective, z_loss=1e-4 if positions == "none" else 0.0),
    )


def compare(objective: str, positions: str, recompute: str = "", *, backend: str, steps: int) -> tuple[float, float]:
    """The largest differences of training and of validation losses; a second run of the shape compiles nothing."""
    worst = 0.0
    for seed in range(2):
        torch._dynamo.config.error_on_recompile = seed > 0
        pair = [make(objective, positions, seed), make(objective, positions, seed)]
        pair[1].compile_losses(backend)
        if recompute:
            set_recompute(pair[1])
        optimizers = [module.configure_optimizers() for module in pair]
        generator = torch.Generator().manual_seed(1)
        for step in range(steps if seed == 0 else 2):
            tokens = torch.randint(0, 256, (4, 17), generator=generator)
            losses = []
            for module, optimizer in zip(pair, optimizers, strict=True):
                loss = module.training_step(tokens, step)
                loss.backward()
                module.clip_gradients_()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
            worst = max(worst, abs(losses[0] - losses[1]))
        held_out = [module.eval().losses_and_mask(tokens)[0] for module in pair]
    torch._dynamo.config.error_on_recompile = False
    return worst, (held_out[0] - held_out[1]).abs().max().item()


def compare_stack(positions: str, *, backend: str, steps: int) -> tuple[float, float]:
    """The largest difference of training losses of a compiled stack from models alone; a second one compiles nothing.

    There is no validation of a stack: its members are validated one by one.
    """
    worst = 0.0
    for round_ in range(2):
        torch._dynamo.config.error_on_recompile = round_ > 0
        alone, members = ([make("causal", positions, seed) for seed in range(3)] for _ in range(2))
        stack = Stack([member.model for member in members], members[0].objective, backend=backend)
        modules = [*alone, *members]
        optimizers = [module.configure_optimizers() for module in modules]
        generator = torch.Generator().manual_seed(1)
        for step in range(steps if round_ == 0 else 2):
            batches = torch.randint(0, 256, (3, 4, 17), generator=generator).unbind()
            expected = torch.stack([one.training_step(batch, step) for one, batch in zip(alone, batches, strict=True)])
            found = stack.losses(batches, [step] * 3)
            (expected.sum() + found.sum()).backward()
            stack.hand_out_gradients()
            for module, optimizer in zip(modules, optimizers, strict=True):
                module.clip_gradients_()
                optimizer.step()
                optimizer.zero_grad()
            worst = max(worst, (expected - found).abs().max().item())
    torch._dynamo.config.error_on_recompile = False
    return worst, 0.0


def compare_case(case: str, *, backend: str, steps: int) -> tuple[float, float]:
    """The largest differences of training and of validation losses of one of `CASES`, in nats per token."""
    words = case.split("/")
    if words[0] == "stack":
        return compare_stack(words[1], backend=backend, steps=steps)
    return compare(*words, backend=backend, steps=steps)


def main() -> int:
    """Compare the cases that are named, print what was found as one line of JSON, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help="default: all")
    parser.add_argument("--backend", default="inductor", help="a name of torch.compile's (default: inductor)")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each case (default: 200)")
    parser.add_argument("--json", type=Path, help="write the record here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    linear.MIN_PRODUCTS = 1  # as if every product were as large as those of models that people compile
    found = {case: compare_case(case, backend=args.backend, steps=args.steps) for case in args.cases}
    if args.json:
        record = {
            "command": "python -m benchmarks.compiled_losses",
            "what": "float32 on one thread; largest difference between compiled and eager losses, nats per token",
            "backend": args.backend,
            "steps": args.steps,
            "machine": {"processor": cpu_name(), "capability": torch.backends.cpu.get_cpu_capability()},
            "versions": versions(),
            "cases": {case: {"training": pair[0], "validation": pair[1]} for case, pair in found.items()},
        }
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's own
    sys.exit(main())
