"""Groups of parameters for an optimiser: which share rate, weight decay and eps, by role and parametrization."""

from __future__ import annotations

from typing import Any

from torch import nn

from models.config.optimizer import OptimizerConfig
from models.config.transformer import TransformerConfig
from models.modules.parametrization import known, rule_of
from models.modules.roles import Role, tagged_parameters


def optimizer_groups(module: nn.Module, config: TransformerConfig, optimizer: OptimizerConfig) -> list[dict[str, Any]]:
    """Return groups of parameters that share decay, multiplier and eps, each with its `lr_multiplier`.

    Under Muon hidden matrices have groups of their own, marked by `matrix`, and their own rate and decay.

    Parameters
    ----------
    module : nn.Module
        A model before anything was added to it.
    config : TransformerConfig
        What it is.
    optimizer : OptimizerConfig
        Peak rate, decay and eps before their multipliers.

    Returns
    -------
    list of dict
        Groups as torch.optim takes them.
    """
    muon = optimizer.name == "muon"
    matrix_rate = (optimizer.matrix_rate or optimizer.learning_rate) / optimizer.learning_rate
    matrix_decay = optimizer.weight_decay if optimizer.matrix_decay is None else optimizer.matrix_decay
    groups: dict[tuple[float, float, float, bool], list[nn.Parameter]] = {}
    for name, parameter, tag in tagged_parameters(module):
        if not parameter.requires_grad:
            continue
        role = known(name, tag).role
        rule = rule_of(role, parameter.shape, config)
        matrix = muon and role in (Role.MATRIX, Role.RESIDUAL_MATRIX)
        rate = rule.learning_rate * (matrix_rate if matrix else 1.0)
        weight_decay = matrix_decay if matrix else optimizer.weight_decay
        decay = weight_decay * rule.weight_decay if rule.decays else 0.0
        groups.setdefault((rate, decay, optimizer.eps * rule.eps, matrix), []).append(parameter)
    return [
        {
            "params": params,
            "lr": optimizer.learning_rate * rate,
            "lr_multiplier": rate,
            "weight_decay": decay,
            "eps": eps,
            **({"matrix": matrix} if muon else {}),
        }
        for (rate, decay, eps, matrix), params in groups.items()
    ]
