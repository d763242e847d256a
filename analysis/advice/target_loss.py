"""The least compute that reaches a loss, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.advice.ladder import Ladder
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.derived import frontier_reason, neighbourhood, plausible
from analysis.fitting.fit import Fit
from analysis.laws.allocation import FlopsPerToken, optimum
from analysis.laws.base import Law
from analysis.univariate import boundary

LEAST_FLOPS, MOST_FLOPS = 1e3, 1e36
"""Compute between which a target loss is looked for."""


@dataclass(frozen=True, kw_only=True)
class TargetLoss:
    """What a loss costs at least."""

    loss: float
    """The loss asked for."""
    reachable: str
    """"yes", "no" (below the irreducible loss by its interval) or "unsure" (within it)."""
    flops: Estimate
    """Least C; infinite when no compute reaches the loss."""
    params: Estimate
    """N there."""
    tokens: Estimate
    """D there."""
    floor: Estimate | None
    """The law's irreducible loss; None for a law without one."""
    share: float | None
    """Share of the draws in which the loss is reached; None without interval."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "loss": self.loss,
            "reachable": self.reachable,
            **{name: getattr(self, name).to_dict() for name in ("flops", "params", "tokens")},
            "floor": None if self.floor is None else self.floor.to_dict(),
            "share_of_draws": self.share,
        }


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _least_flops(law: Law, theta: Array, loss: float, per_token: FlopsPerToken) -> tuple[Array, Array, Array]:
    """Least log C, log N and log D at which each draw reaches the loss, each of shape (B,); infinite where it does
    not."""
    lo = np.full((len(theta), 1), np.log(LEAST_FLOPS))
    hi = np.full((len(theta), 1), np.log(MOST_FLOPS))
    reached = optimum(law, theta, hi, per_token)[2] <= loss
    log_c = boundary(lambda c: optimum(law, theta, c, per_token)[2] > loss, lo, hi)
    log_n, log_d, _ = optimum(law, theta, log_c, per_token)
    never = ~reached[:, 0]
    return tuple(np.where(never, np.inf, side[:, 0]) for side in (log_c, log_n, log_d))  # type: ignore[return-value]


def target_loss(fit: Fit, loss: float, ladder: Ladder) -> TargetLoss:
    """The least compute that reaches a loss, with N and D there: the inverse of the frontier's loss, draw by draw."""
    if not (math.isfinite(loss) and loss > 0):
        raise UserError(f"--target-loss is {loss:g}; give a loss above zero in nats per token")
    near = neighbourhood(fit)
    value, about = (_least_flops(fit.law, theta, loss, ladder.per_token) for theta in (near.centre, near.about))
    drawn = about if near.has_draws else _least_flops(fit.law, plausible(fit), loss, ladder.per_token)
    reached = float(np.isfinite(drawn[0]).mean())
    floors = [fit.estimates[p.name] for p in fit.law.parameters if p.kind == "offset"]
    floor = floors[0] if len(floors) == 1 else None
    reason = frontier_reason(fit)
    if not np.isfinite(value[0][0]):
        reason = f"by the estimate no compute up to {MOST_FLOPS:.0e} FLOPs reaches the loss"
    estimates = [
        near.interval(float(np.exp(one[0])), np.exp(many), reason=reason, missing=1 - reached)
        for one, many in zip(value, about, strict=True)
    ]
    share = None if fit.predictor.reason is not None else reached
    reachable = "yes" if np.isfinite(value[0][0]) else "unsure"
    if floor is not None and floor.lo is not None and floor.hi is not None:
        reachable = "no" if loss <= floor.lo else "unsure" if loss <= floor.hi else reachable
    elif floor is not None and loss <= floor.value:
        reachable = "no"
    if share == 0.0 and not np.isfinite(value[0][0]):
        reachable = "no"
    flops, params, tokens = estimates
    return TargetLoss(
        loss=loss, reachable=reachable, flops=flops, params=params, tokens=tokens, floor=floor, share=share
    )
