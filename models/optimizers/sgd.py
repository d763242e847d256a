"""SGD with momentum, by torch; weight decay goes through the momentum, as torch has it."""

from __future__ import annotations

from typing import Any

import torch

from models.config.optimizer import OptimizerConfig
from models.optimizers.adamw import can_fuse


def sgd(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return torch's SGD with momentum (Polyak 1964).

    Parameters
    ----------
    groups : list of dict
        Of `models.optimizers.groups.optimizer_groups`.
    config : OptimizerConfig
        Its peak rate and momentum.
    """
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=can_fuse(groups))
