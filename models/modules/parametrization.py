"""Initial scale, learning-rate multiplier and forward multipliers by role: standard, muP, depth scalings.

Owns the only place where weights are written and where optimiser groups are made; knows nothing of data or schedules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from models.config.transformer import TransformerConfig
from models.modules.roles import Role, Tag, seeded_generator, tagged_parameters

TABLE_STD = 1.0
"""Initial scale of untied tables: 300 steps on Python source at width 32 and 64 ended .01 to .14 nats below 0.02."""

BUCKET_STD = 0.02
"""Initial scale of T5's position buckets, which are added to attention logits."""


@dataclass(frozen=True, kw_only=True)
class ParameterRule:
    """How one parameter starts and learns."""

    init_std: float | None
    """Standard deviation of the initial normal; None: the constant `init_value`."""
    init_value: float = 0.0
    """Initial constant of gains (1) and biases (0)."""
    decays: bool = False
    """Whether weight decay applies."""
    learning_rate: float = 1.0
    """Multiplier on the learning rate."""
    weight_decay: float = 1.0
    """Multiplier on the weight decay, which keeps learning rate x decay constant."""
    eps: float = 1.0
    """Multiplier on AdamW's eps."""


def width_ratio(config: TransformerConfig) -> float:
    """Return width / base width under muP, else 1."""
    return config.width / config.base_width if config.parametrization == "mup" and config.base_width else 1.0


def base_of(config: TransformerConfig) -> int:
    """Return the width whose initial output scale is used: muP's base, else the model's own."""
    return config.base_width if config.parametrization == "mup" and config.base_width else config.width


def depth_power(config: TransformerConfig) -> tuple[float, float]:
    """Return (L / L0, alpha) of branch multipliers (L / L0)^-alpha: depth-muP 1/2, CompleteP 1, else ratio 1."""
    if config.depth_scaling not in ("depth-mup", "completep") or config.base_depth is None:
        return 1.0, 0.0
    return config.depth / config.base_depth, 0.5 if config.depth_scaling == "depth-mup" else 1.0


def branch_scale(config: TransformerConfig) -> float:
    """Return the factor on every residual branch (Dey et al. 2025, arXiv 2505.01618, table 1; Yang et al. 2023)."""
    ratio, alpha = depth_power(config)
    return ratio**-alpha


def output_scale(config: TransformerConfig) -> float:
    """Return the factor on logits: muP's base_width / width (Yang et al. 2022, arXiv 2203.03466, table 8)."""
    return 1.0 / width_ratio(config)


def rule_of(role: Role, shape: torch.Size, config: TransformerConfig) -> ParameterRule:
    """Return how a parameter starts and learns.

    Tables start at `TABLE_STD`, or at 1/sqrt(width) where they are the head too, so that logits start at variance one.
    Matrices start with variance 1 / fan-in, those that write into the residual stream with 1 / (2 L fan-in) under
    residual-init. Under muP with m = width / base_width, matrices learn at 1 / m, with weight decay x m and eps / m.

    Parameters
    ----------
    role : Role
        What it is for.
    shape : torch.Size
        Its shape; a matrix is (fan-out, fan-in).
    config : TransformerConfig
        The model's widths, depth and parametrization.

    Returns
    -------
    ParameterRule
    """
    if role in (Role.GAIN, Role.BIAS):
        return ParameterRule(init_std=None, init_value=1.0 if role == Role.GAIN else 0.0)
    if role == Role.BUCKETS:
        return ParameterRule(init_std=BUCKET_STD)
    if role == Role.TABLE:
        own = base_of(config) ** -0.5 if config.tie_embeddings else TABLE_STD
        return ParameterRule(init_std=config.init_std or own)
    if role == Role.OUTPUT_TABLE:
        return ParameterRule(init_std=config.init_std or base_of(config) ** -0.5, decays=True)
    ratio, (depth_ratio, alpha) = width_ratio(config), depth_power(config)
    std = shape[1] ** -0.5
    if config.init_std is not None:
        std = config.init_std * ratio**-0.5
    if config.depth_scaling == "residual-init" and role == Role.RESIDUAL_MATRIX:
        std /= math.sqrt(2 * (config.num_encoder_blocks + config.num_decoder_blocks))
    return ParameterRule(
        init_std=std,
        decays=True,
        learning_rate=depth_ratio ** (alpha - 1.0) / ratio if depth_ratio != 1 else 1.0 / ratio,
        weight_decay=ratio,
        eps=depth_ratio**-alpha / ratio,
    )


@torch.no_grad()
def initialise_(module: nn.Module, config: TransformerConfig, *, seed: int) -> None:
    """Write every parameter as a pure function of (config, seed, parameter's name).

    Each tensor has a generator of its own, so that the global one is neither read nor moved and a tensor does not
    depend on which others exist. On the meta device there is nothing to write.

    Parameters
    ----------
    module : nn.Module
        A model before anything was added to it.
    config : TransformerConfig
        What it is.
    seed : int
        Of its initial weights.
    """
    for name, parameter, tag in tagged_parameters(module):
        if parameter.is_meta:
            continue
        rule = rule_of(known(name, tag).role, parameter.shape, config)
        if rule.init_std is None:
            parameter.fill_(rule.init_value)
            continue
        values = torch.empty(parameter.shape, dtype=torch.float32)
        parameter.copy_(values.normal_(0.0, rule.init_std, generator=seeded_generator(seed, name)))


def known(name: str, tag: Tag | None) -> Tag:
    """The tag of a parameter; LookupError where its module gave none."""
    if tag is None:
        raise LookupError(f"no module says what its parameter {name!r} is for; call models.modules.roles.tag on it")
    return tag
