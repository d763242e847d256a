"""Lion: every weight moves by the rate, in the direction of a sign (Chen et al. 2023, arXiv 2302.06675, algorithm 2).

With momentum m and gradient g a step is w <- w - rate (sign(b1 m + (1 - b1) g) + decay w), m <- b2 m + (1 - b2) g. The
paper takes rates three to ten times smaller than AdamW's, and decays as many times larger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from models.config.optimizer import OptimizerConfig
from models.optimizers.closure import evaluated


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, with decoupled weight decay.

    Parameters
    ----------
    groups : list of dict
        Parameters with `lr` and `weight_decay`.
    lr : float
        Rate of groups that have none.
    betas : (float, float)
        Shares of the momentum in the step, and in the next momentum.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "betas": betas})

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch declares one overload for None and one for a closure
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients.

        Returns
        -------
        float or None
            What the closure returns.
        """
        loss = evaluated(closure)
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not params:
                continue
            grads = [parameter.grad for parameter in params]
            for parameter in params:
                if "momentum" not in self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            momenta = [self.state[parameter]["momentum"] for parameter in params]
            share, keep = group["betas"]
            steps = torch._foreach_lerp(momenta, grads, 1 - share)
            torch._foreach_sign_(steps)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, steps, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, grads, 1 - keep)
        return loss


def lion(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return Lion.

    Parameters
    ----------
    groups : list of dict
        Of `models.optimizers.groups.optimizer_groups`.
    config : OptimizerConfig
        Its peak rate and shares.
    """
    return Lion(groups, config.learning_rate, (config.beta1, config.beta2))
