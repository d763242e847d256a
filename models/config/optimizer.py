"""The optimiser of a run: which rule moves the weights, with its rates and their decay; torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from models.config.accounting import hidden_matrix_params, params_total
from models.config.checks import require_fraction, require_name, require_positive
from models.config.transformer import TransformerConfig
from models.errors import UserError

OptimizerName = Literal["adamw", "muon", "sgd", "lion"]
"""Rules that move weights; each is a file of models/optimizers/."""
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Which rule moves the weights; weight decay acts on matrices, never on gains and biases."""

    name: OptimizerName = "adamw"
    """adamw (Loshchilov and Hutter 2019), muon for hidden matrices with adamw for the rest (Jordan et al. 2024; Liu et
    al. 2025), sgd with momentum, or lion (Chen et al. 2023)."""
    learning_rate: float = 3e-3
    """Peak learning rate of the matrices, before parametrization multipliers."""
    beta1: float = 0.9
    """Decay of the first moment (adamw, lion)."""
    beta2: float = 0.95
    """Decay of the second moment (adamw), or of the momentum itself (lion)."""
    eps: float = 1e-8
    """Number added to the root of the second moment (adamw)."""
    weight_decay: float = 0.1
    """Decoupled decay; a step subtracts learning_rate x weight_decay x weight."""
    grad_clip: float | None = 1.0
    """Largest global L2 norm of the gradient; None: no clipping."""
    matrix_rate: float | None = None
    """muon: peak rate of hidden matrices; None: learning_rate, since updates have the size of AdamW's."""
    matrix_decay: float | None = None
    """muon: weight decay of hidden matrices; None: weight_decay."""
    momentum: float = 0.95
    """Decay of the momentum (muon, sgd)."""
    ema_decay: float | None = None
    """Validation and kept weights are an average of the weights after each step, of this decay a step (Polyak and
    Juditsky 1992; torch.optim.swa_utils); None: the last weights."""

    def __post_init__(self) -> None:
        require_name("optimizer name", self.name, OPTIMIZERS)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"learning_rate is {self.learning_rate!r}; give a positive number")
        for field in ("beta1", "beta2", "momentum"):
            require_fraction(field, getattr(self, field), below_one=True)
        if self.eps <= 0:
            raise UserError(f"eps is {self.eps!r}; give a positive number")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay is {self.weight_decay!r}; give zero or a positive number")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise UserError(f"grad_clip is {self.grad_clip!r}; give a positive norm, or null for no clipping")
        for field in ("matrix_rate", "matrix_decay"):
            if getattr(self, field) is not None and self.name != "muon":
                raise UserError(f"{field} is for muon's matrices, but the optimizer is {self.name!r}; leave it out")
        if self.matrix_rate is not None:
            require_positive("matrix_rate", self.matrix_rate)
        if self.matrix_decay is not None and not self.matrix_decay >= 0:
            raise UserError(f"matrix_decay is {self.matrix_decay!r}; give zero or a positive number")
        if self.ema_decay is not None:
            require_fraction("ema_decay", self.ema_decay, below_one=True)


def check_optimizer(optimizer: OptimizerConfig, config: TransformerConfig) -> None:
    """Refuse an optimiser whose rates a model's parametrization does not know.

    Parameters
    ----------
    optimizer : OptimizerConfig
        The rule.
    config : TransformerConfig
        What it trains.

    Raises
    ------
    UserError
        For SGD under muP, depth-muP or CompleteP, whose multipliers are those of rules that normalise the gradient.
    """
    scaled = config.parametrization == "mup" or config.depth_scaling in ("depth-mup", "completep")
    if optimizer.name == "sgd" and scaled:
        raise UserError(
            "optimizer 'sgd' needs other multipliers than adamw under muP and depth scalings; use adamw, muon or lion, "
            "or the standard parametrization"
        )


def optimizer_numbers(optimizer: OptimizerConfig, config: TransformerConfig) -> int:
    """Return how many numbers are kept beside weights and gradients: moments, and the average of the weights.

    Parameters
    ----------
    optimizer : OptimizerConfig
        AdamW keeps two moments, Lion and SGD one, Muon one of hidden matrices and two of the rest.
    config : TransformerConfig
        What it trains.

    Returns
    -------
    int
    """
    params = params_total(config)
    moments = {
        "adamw": 2 * params,
        "muon": 2 * params - hidden_matrix_params(config),
        "sgd": params,
        "lion": params,
    }
    return moments[optimizer.name] + (params if optimizer.ema_decay is not None else 0)
