"""The coordinate check: whether what a few steps change inside a model keeps its size as the model grows.

Under muP the change of every activation is of order one at every width (Yang et al. 2022, arXiv 2203.03466,
appendix D.1); under the standard parametrization some grow. Owns the measurement and its figure.
Shapes: B batch, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.lit import LitTransformer
from models.modules.transformer import Block

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLACES = ("embedding", "attention", "ffn", "states", "logits")
"""Where activations are measured: token embeddings, the last block's branches, the last states, the logits."""


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """The size of one activation's change."""

    width: int
    """Width of the model."""
    depth: int
    """Depth of the model."""
    step: int
    """Optimiser steps taken."""
    place: str
    """A name of `PLACES`."""
    change: float
    """Root mean square over coordinates of the activation minus its value at the start."""


def coordinate_check(
    configs: Sequence[TransformerConfig], *, steps: int = 4, learning_rate: float = 1e-2, batch: int = 4, seeds: int = 2
) -> list[Coordinate]:
    """Return the root-mean-square change of activations after each step, averaged over seeds.

    Parameters
    ----------
    configs : sequence of TransformerConfig
        Decoders that differ in width or depth.
    steps : int
        Optimiser steps on one random batch of full sequences.
    learning_rate : float
        Peak rate, the same for all.
    batch : int
        Sequences in the batch.
    seeds : int
        Number of models of each config to average over.

    Returns
    -------
    list of Coordinate
        One for each config, step and place.

    Raises
    ------
    UserError
        For a config that is no decoder.
    """
    found = []
    for config in configs:
        if config.family != "decoder":
            raise UserError(f"the coordinate check trains decoders, not a model of family {config.family!r}")
        sums = {(step, place): 0.0 for step in range(1, steps + 1) for place in PLACES}
        for seed in range(seeds):
            for key, change in changes(config, steps, learning_rate, batch, seed).items():
                sums[key] += change / seeds
        found += [
            Coordinate(width=config.width, depth=config.depth, step=step, place=place, change=change)
            for (step, place), change in sums.items()
        ]
    return found


def changes(
    config: TransformerConfig, steps: int, learning_rate: float, batch: int, seed: int
) -> dict[tuple[int, str], float]:
    """Return the root-mean-square change of each place after each step of one model."""
    module = LitTransformer(
        model=config,
        optimizer=OptimizerConfig(learning_rate=learning_rate, weight_decay=0.0, grad_clip=None),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**9,
        batch_tokens=batch * config.context,
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(0, config.vocab_size, (batch, config.context + 1), generator=generator)
    optimizer = module.configure_optimizers()
    before = activations(module, tokens_BT)
    found: dict[tuple[int, str], float] = {}
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        module.training_step(tokens_BT, step).backward()
        optimizer.step()
        after = activations(module, tokens_BT)
        found |= {(step, place): (after[place] - before[place]).square().mean().sqrt().item() for place in PLACES}
    return found


@torch.no_grad()
def activations(module: LitTransformer, tokens_BT: Tensor) -> dict[str, Tensor]:
    """Return the activations of a decoder at all places."""
    found: dict[str, Tensor] = {}

    def keep(place: str, part: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            found[place] = output.clone()

        return part.register_forward_hook(hook)

    model = module.model
    assert model.decoder is not None
    assert model.head is not None
    block = model.decoder.blocks[-1]
    assert isinstance(block, Block)
    parts = (model.tokens, block.attention, block.ffn, model.decoder, model.head)
    handles = [keep(place, part) for place, part in zip(PLACES, parts, strict=True)]
    model(tokens_BT[:, :-1])
    for handle in handles:
        handle.remove()
    return found


def growth(coordinates: Sequence[Coordinate], *, place: str, step: int, by: str = "width") -> float:
    """Return the exponent g of change ~ width^g (or depth^g) at a place after a step: 0 is flat."""
    points = [(math.log(getattr(c, by)), math.log(c.change)) for c in coordinates if (c.place, c.step) == (place, step)]
    if len(points) < 2:
        raise UserError(f"growth needs at least two models of different {by} at place {place!r} and step {step}")
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def plot_coordinates(
    coordinates: Sequence[Coordinate], *, step: int, by: str = "width", title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the change of every place against width (or depth) after a step, log-log, each with its exponent."""
    from matplotlib.figure import Figure  # most who check coordinates draw nothing and need not wait for matplotlib

    axes = ax if ax is not None else Figure(figsize=(5, 4), layout="constrained").subplots()
    for place in PLACES:
        chosen = sorted((getattr(c, by), c.change) for c in coordinates if (c.place, c.step) == (place, step))
        exponent = growth(coordinates, place=place, step=step, by=by)
        axes.plot(*zip(*chosen, strict=True), marker="o", label=f"{place} ({exponent:+.2f})")
        axes.set_xticks([size for size, _ in chosen], labels=[str(size) for size, _ in chosen], minor=False)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(by)
    axes.set_ylabel(f"RMS change after {step} steps")
    axes.set_title(title)
    axes.legend(title="place (exponent)", fontsize="small")
    return axes
