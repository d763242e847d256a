"""Muon for hidden matrices, AdamW for all else: tables, the head, gains and biases.

A matrix moves by its momentum made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), times
0.2 sqrt(max(rows, columns)), so that an update is as large as one of AdamW's (Liu et al. 2025, arXiv 2502.16982,
section 2.2): both take the same rates, and the same multipliers of them under muP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from models.config.optimizer import OptimizerConfig
from models.optimizers.adamw import adamw
from models.optimizers.closure import evaluated


class MuonAdamW(torch.optim.Optimizer):
    """torch's Muon and AdamW as one optimiser: one list of groups, one state, one state dict.

    Parameters
    ----------
    groups : list of dict
        Of `models.optimizers.groups.optimizer_groups`; `matrix` says which of the two a group belongs to.
    config : OptimizerConfig
        Rates, moments and momentum.
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        matrices, rest = ([group for group in groups if group["matrix"] == kind] for kind in (True, False))
        self._parts = {
            True: torch.optim.Muon(
                matrices, lr=config.learning_rate, momentum=config.momentum, adjust_lr_fn="match_rms_adamw"
            ),
            False: adamw(rest, config),
        }
        super().__init__(groups, {})

    def step(  # type: ignore[override]  # torch declares one overload for None and one for a closure
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step of both.

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
        for kind, part in self._parts.items():  # linked here, since loading a state replaces groups and state
            part.param_groups = [group for group in self.param_groups if group["matrix"] == kind]
            part.state = self.state
            part.step()
        return loss


def muon(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return Muon for the groups of hidden matrices and AdamW for the others.

    Parameters
    ----------
    groups : list of dict
        Of `models.optimizers.groups.optimizer_groups`.
    config : OptimizerConfig
        Rates, moments and momentum.
    """
    return MuonAdamW(groups, config)
