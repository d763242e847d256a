"""The least compute that reaches a loss, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.advice.shapes import Ladder
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.derived import frontier_reason, neighbourhood, plausible
from analysis.fitting.fit import Fit
from analysis.fitting.reach import why_no_interval
from analysis.laws.allocation import FlopsPerToken, optimum
from analysis.laws.base import Law
from analysis.univariate import boundary

MIN_FLOPS, MAX_FLOPS = 1e3, 1e36
"""Compute between which a target loss is looked for."""

Reachable = Literal["yes", "no", "unsure"]
"""Whether a loss is above the irreducible one: no below its interval, unsure within it."""


@dataclass(frozen=True, kw_only=True)
class TargetLoss:
    """What a loss costs at least."""

    loss: float
    """The loss asked for."""
    reachable: Reachable
    """Whether some compute reaches it."""
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


def target_loss(fit: Fit, loss: float, ladder: Ladder) -> TargetLoss:
    """The least compute that reaches a loss, with N and D there: the inverse of the frontier's loss, draw by draw.

    Parameters
    ----------
    fit : Fit
        Of a law of params and tokens.
    loss : float
        The loss, nats per token.
    ladder : Ladder
        Says what a token costs by size.

    Returns
    -------
    TargetLoss
        C, N and D with intervals, and whether the loss can be reached at all.

    Raises
    ------
    UserError
        For a loss that is not above zero.
    """
    if not (math.isfinite(loss) and loss > 0):
        raise UserError(f"--target-loss is {loss:g}; give a loss above zero in nats per token")
    near = neighbourhood(fit)
    value, about = (_least_flops(fit.law, theta, loss, ladder.per_token) for theta in (near.centre, near.about))
    drawn = about if near.has_draws else _least_flops(fit.law, plausible(fit), loss, ladder.per_token)
    share = float(np.isfinite(drawn[0]).mean())
    reached = bool(np.isfinite(value[0][0]))
    reason = frontier_reason(fit)
    if reached and reason is None:
        (reason,) = why_no_interval(fit, {"params": np.exp(value[1]), "tokens": np.exp(value[2])})
    if not reached:
        reason = f"by the estimate no compute up to {MAX_FLOPS:.0e} FLOPs reaches the loss"
    flops, params, tokens = (
        near.interval(float(np.exp(one[0])), np.exp(many), reason=reason, missing=1 - share)
        for one, many in zip(value, about, strict=True)
    )
    floor = _irreducible(fit)
    known_share = None if fit.predictor.reason is not None else share
    return TargetLoss(
        loss=loss,
        reachable=_reachable(loss, floor, reached=reached, share=known_share),
        flops=flops,
        params=params,
        tokens=tokens,
        floor=floor,
        share=known_share,
    )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _least_flops(law: Law, theta: Array, loss: float, per_token: FlopsPerToken) -> tuple[Array, Array, Array]:
    """Least log C at which each draw reaches the loss, with log N and log D there.

    Each has shape (B,) and is infinite where the loss is not reached.
    """
    lo = np.full((len(theta), 1), np.log(MIN_FLOPS))
    hi = np.full((len(theta), 1), np.log(MAX_FLOPS))
    never = ~(optimum(law, theta, hi, per_token)[2][:, 0] <= loss)
    log_c = boundary(lambda c: optimum(law, theta, c, per_token)[2] > loss, lo, hi)
    log_n, log_d, _ = optimum(law, theta, log_c, per_token)
    c, n, d = (np.where(never, np.inf, side[:, 0]) for side in (log_c, log_n, log_d))
    return c, n, d


def _irreducible(fit: Fit) -> Estimate | None:
    """The law's one offset; None for a law with none or several."""
    floors = [fit.estimates[parameter.name] for parameter in fit.law.parameters if parameter.kind == "offset"]
    return floors[0] if len(floors) == 1 else None


def _reachable(loss: float, floor: Estimate | None, *, reached: bool, share: float | None) -> Reachable:
    """What the irreducible loss, the estimate and the draws say together."""
    if share == 0.0 and not reached:
        return "no"
    if floor is not None and floor.lo is not None and floor.hi is not None:
        if loss <= floor.lo:
            return "no"
        if loss <= floor.hi:
            return "unsure"
    elif floor is not None and loss <= floor.value:
        return "no"
    return "yes" if reached else "unsure"
