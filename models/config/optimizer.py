"""The optimiser of a run: which rule moves the weights, with its rates and their decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.config.checks import require_fraction, require_name
from models.errors import UserError

OPTIMIZERS = ("adamw",)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2): decoupled weight decay on matrices, none on gains and biases."""

    name: str = "adamw"
    """Optimiser; adamw."""
    learning_rate: float = 3e-3
    """Peak learning rate of the matrices, before parametrization multipliers."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.95
    """Decay of the second moment."""
    eps: float = 1e-8
    """Number added to the root of the second moment."""
    weight_decay: float = 0.1
    """Decoupled decay; a step subtracts learning_rate x weight_decay x weight."""
    grad_clip: float | None = 1.0
    """Largest global L2 norm of the gradient; None: no clipping."""

    def __post_init__(self) -> None:
        require_name("optimizer name", self.name, OPTIMIZERS)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(f"learning_rate is {self.learning_rate!r}; give a positive number")
        for field in ("beta1", "beta2"):
            require_fraction(field, getattr(self, field), below_one=True)
        if self.eps <= 0:
            raise UserError(f"eps is {self.eps!r}; give a positive number")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay is {self.weight_decay!r}; give zero or a positive number")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise UserError(f"grad_clip is {self.grad_clip!r}; give a positive norm, or null for no clipping")
