"""A process that trains models compiled and as they stand, side by side, and prints how far apart their losses are.

It is a process of its own, because a compiler cannot read through the checks of types that other tests switch on.
    python compile_process.py BACKEND STEPS OBJECTIVE/POSITIONS[/recompute]...
where `stack` is three causal models trained together, and `recompute` computes layers again in the backward pass.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import torch

from models.config.objective import FAMILY_OF, ObjectiveConfig
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.kernels import linear
from models.lit import LitTransformer
from models.modules.transformer import set_recompute
from models.stack import Stack

linear.MIN_PRODUCTS = 1  # as if every product were as large as those of models that people compile


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


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch's own
    torch.set_num_threads(1)
    backend, steps, *cases = sys.argv[1:]
    pairs = {case: case.split("/") for case in cases}
    print(
        json.dumps(
            {
                case: compare_stack(pair[1], backend=backend, steps=int(steps))
                if pair[0] == "stack"
                else compare(*pair, backend=backend, steps=int(steps))
                for case, pair in pairs.items()
            }
        )
    )
