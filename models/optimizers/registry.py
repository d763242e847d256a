"""Every optimiser by its name in a config; a new one is one file and one line here and in `OptimizerName`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from models.config.optimizer import OptimizerConfig, OptimizerName
from models.config.transformer import TransformerConfig
from models.optimizers.adamw import adamw
from models.optimizers.groups import optimizer_groups
from models.optimizers.lion import lion
from models.optimizers.muon import muon
from models.optimizers.sgd import sgd

Maker = Callable[[list[dict[str, Any]], OptimizerConfig], torch.optim.Optimizer]
"""(groups, config) -> an optimiser over them."""
REGISTRY: Mapping[OptimizerName, Maker] = {"adamw": adamw, "muon": muon, "sgd": sgd, "lion": lion}
"""Names -> makers."""


def make_optimizer(module: nn.Module, config: TransformerConfig, optimizer: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a model, over the groups of its parametrization.

    Parameters
    ----------
    module : nn.Module
        The model.
    config : TransformerConfig
        What it is.
    optimizer : OptimizerConfig
        Which rule, and its rates.
    """
    return REGISTRY[optimizer.name](optimizer_groups(module, config, optimizer), optimizer)
