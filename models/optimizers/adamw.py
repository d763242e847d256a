"""AdamW: decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), fused where torch has it."""

from __future__ import annotations

from typing import Any

import torch

from models.config.optimizer import OptimizerConfig


def adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return torch's AdamW.

    Parameters
    ----------
    groups : list of dict
        Of `models.optimizers.groups.optimizer_groups`.
    config : OptimizerConfig
        Its peak rate and moments.
    """
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=can_fuse(groups))


def can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Whether torch has one kernel for all parameters of a step on their devices."""
    return all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
