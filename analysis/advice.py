"""What a law says to do with a budget: the compute-optimal size on shapes that exist, what training longer costs and
saves, and what a target loss costs.

Owns three questions to a fitted law, each answered with intervals from the fit's draws. Which runs to add is
advice_plan.py's. C in floating-point operations, N in parameters, D in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.advice_draws import frontier_reason, interval, public_draws
from analysis.advice_shapes import Ladder, Size
from analysis.errors import UserError
from analysis.estimate import Estimate, json_ready
from analysis.fit import Fit
from analysis.laws.base import Law
from analysis.parametric import FlopsPerToken, optimum, supports_frontier

Array = NDArray[np.float64]
Start = tuple[Array, Array, Array]
"""log N, log D and loss at the optimum of a budget."""

LEAST_FLOPS, MOST_FLOPS = 1e3, 1e36
"""Compute between which a target loss is looked for."""
BISECTIONS = 60
"""Halvings of a bracket: to 1e-16 of its width."""
INFERENCE_SHARE = 1 / 3
"""FLOPs per generated token over training FLOPs per token: the forward pass alone."""
NEIGHBOUR = 1.25
"""Least factor in N between the shapes shown beside the best one."""
DRAWS_OF_FACTOR = 200
"""Draws for the interval of the cheapest factor."""
RATIOS = (1e-2, 1e4)
"""Over-training factors between which the cheapest is looked for."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A shape that exists, trained on what the budget pays for."""

    size: Size
    """The shape."""
    tokens: float
    """D = C / FLOPs per token."""
    loss: float
    """Predicted loss."""
    excess: float
    """Loss over that of the optimum, less one."""
    within: bool
    """Whether N lies in the interval of the optimal N."""


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Compute-optimal training at one budget."""

    flops: float
    """C."""
    params: Estimate
    """N between the shapes."""
    tokens: Estimate
    """D there."""
    loss: Estimate
    """Predicted loss there."""
    choices: tuple[Choice, ...]
    """The best shape and its neighbours, ascending in N."""

    @property
    def best(self) -> Choice:
        """The shape of least predicted loss."""
        return min(self.choices, key=lambda choice: choice.loss)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        rows = [
            {**c.size.to_dict(), "tokens": c.tokens, "loss": c.loss, "excess": c.excess, "within": c.within}
            for c in self.choices
        ]
        best = self.choices.index(self.best)
        return {
            "flops": self.flops,
            **{name: getattr(self, name).to_dict() for name in ("params", "tokens", "loss")},
            "shapes": rows,
            "best": rows[best],
        }


@dataclass(frozen=True, kw_only=True)
class Overtraining:
    """One size trained on `factor` times the tokens per parameter of the optimum."""

    factor: float
    """k: D / N over that of the optimum."""
    params: Estimate
    """N that reaches the optimum's loss."""
    tokens: Estimate
    """D that it needs."""
    training: Estimate
    """Training FLOPs over those of the optimum, at equal loss."""
    inference: Estimate
    """FLOPs per generated token over those of the optimum, at equal loss."""
    break_even_tokens: Estimate
    """Generated tokens from which training longer has paid."""
    same_compute_loss: Estimate
    """Loss over that of the optimum, less one, when C stays and only D / N changes."""
    total_flops: Estimate | None
    """Training and `inference_tokens` of inference together; None without them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        names = ("params", "tokens", "training", "inference", "break_even_tokens", "same_compute_loss")
        total = None if self.total_flops is None else self.total_flops.to_dict()
        return {
            "factor": self.factor, **{name: getattr(self, name).to_dict() for name in names}, "total_flops": total
        }  # fmt: skip


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


def check_law(fit: Fit) -> None:
    """UserError unless the law has a frontier of params and tokens."""
    if not supports_frontier(fit.law):
        raise UserError(
            f"{fit.law.name} is no law of params and tokens, so nothing is optimal for a budget; fit hoffmann"
        )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compute_optimal(fit: Fit, flops: float, ladder: Ladder, *, neighbours: int = 2) -> Optimum:
    """N, D and loss at the optimum of a budget, and the shapes about it.

    Parameters
    ----------
    flops : C
    ladder : shapes, which also say what a token costs between them
    neighbours : shapes shown on either side of the best one
    """
    centre, draws = public_draws(fit)
    at = np.array([np.log(flops)])
    middle, spread = optimum(fit.law, centre, at, ladder.per_token), optimum(fit.law, draws, at, ladder.per_token)
    reason = frontier_reason(fit)
    params, tokens = (
        interval(fit, float(np.exp(value[0, 0])), np.exp(sample[:, 0]), reason=reason)
        for value, sample in zip(middle[:2], spread[:2], strict=True)
    )
    loss = interval(fit, float(middle[2][0, 0]), spread[2][:, 0], log=bool(middle[2] > 0), reason=fit.predictor.reason)
    sizes = ladder.sizes
    amounts = np.array([flops / size.flops_per_token for size in sizes])
    losses = fit.law(centre[0], {"params": ladder.params, "tokens": amounts})
    shown = _spaced(ladder.params, int(np.nanargmin(losses)), neighbours)
    choices = tuple(
        Choice(
            size=sizes[i],
            tokens=float(amounts[i]),
            loss=float(losses[i]),
            excess=float(losses[i] / loss.value - 1),
            within=params.covers(sizes[i].params),
        )
        for i in shown
    )
    return Optimum(flops=flops, params=params, tokens=tokens, loss=loss, choices=choices)


def _spaced(params: Array, best: int, neighbours: int) -> list[int]:
    """The best size and its neighbours, each at least NEIGHBOUR times the size of the one before."""
    shown = [best]
    for step in (-1, 1):
        place, last, count = best, best, 0
        while 0 <= place + step < params.size and count < neighbours:
            place += step
            if abs(np.log(params[place] / params[last])) >= np.log(NEIGHBOUR):
                shown.append(place)
                last, count = place, count + 1
    return sorted(shown)


@dataclass(frozen=True, kw_only=True)
class _Longer:
    """Training longer by a factor, for many draws: each field of shape (B,)."""

    log_n: Array
    log_d: Array
    training: Array
    inference: Array
    even: Array
    loss: Array


def _start(law: Law, theta: Array, flops: float, per_token: FlopsPerToken) -> Start:
    """log N, log D and loss at the optimum of a budget, each of shape (B,)."""
    log_n, log_d, loss = optimum(law, theta, np.array([np.log(flops)]), per_token)
    return log_n[:, 0], log_d[:, 0], loss[:, 0]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _longer(law: Law, theta: Array, flops: float, factor: Array, per_token: FlopsPerToken, start: Start) -> _Longer:
    """At each draw's optimum `start` of `flops`: the N and D with `factor` (B,) times D / N that have its loss, what
    they cost, and the loss of that ratio at the same C."""
    log_n, log_d, loss = start
    ratio = log_d - log_n + np.log(factor)
    columns = [theta[:, j] for j in range(theta.shape[1])]

    def loss_at(n: Array) -> Array:
        return law.value(columns, {"params": np.exp(n), "tokens": np.exp(n + ratio)})

    lo, hi = log_n - 60.0, log_n + 60.0
    for _ in range(BISECTIONS):  # loss falls along a ray of constant D / N
        middle = 0.5 * (lo + hi)
        high = loss_at(middle) > loss
        lo, hi = np.where(high, middle, lo), np.where(high, hi, middle)
    same = 0.5 * (lo + hi)
    here, there = per_token(np.exp(log_n)), per_token(np.exp(same))
    spent = there * np.exp(same + ratio)
    lo, hi = log_n - 60.0, log_n + 60.0
    for _ in range(BISECTIONS):  # cost rises along the ray
        middle = 0.5 * (lo + hi)
        low = per_token(np.exp(middle)) * np.exp(middle + ratio) < flops
        lo, hi = np.where(low, middle, lo), np.where(low, hi, middle)
    saved = INFERENCE_SHARE * (here - there)
    return _Longer(
        log_n=same,
        log_d=same + ratio,
        training=spent / flops,
        inference=there / here,
        even=np.where(saved > 0, (spent - flops) / saved, np.inf),
        loss=loss_at(0.5 * (lo + hi)) / loss - 1,
    )


def overtraining(
    fit: Fit, flops: float, factors: Sequence[float], ladder: Ladder, *, inference_tokens: float | None = None
) -> list[Overtraining]:
    """What training longer than optimal costs in training and saves at inference, for each factor on tokens per
    parameter.

    At equal loss a smaller model is trained on more tokens: the law is solved for N along D = k (D_opt / N_opt) N. A
    generated token costs a forward pass, a third of a training token, as in Sardana et al. 2024 (arXiv 2401.00448).
    """
    for factor in factors:
        if not (math.isfinite(factor) and factor > 0):
            raise UserError(f"--overtrain holds {factor:g}; give factors above zero such as 2,4,10")
    centre, draws = public_draws(fit)
    reason = frontier_reason(fit)
    starts = [_start(fit.law, theta, flops, ladder.per_token) for theta in (centre, draws)]
    rows = []
    for factor in factors:
        value, sample = (
            _longer(fit.law, theta, flops, np.full(len(theta), factor), ladder.per_token, start)
            for theta, start in zip((centre, draws), starts, strict=True)
        )

        def of(pick: Any, *, log: bool = True, value: _Longer = value, sample: _Longer = sample) -> Estimate:
            return interval(fit, float(pick(value)[0]), pick(sample), log=log, reason=reason)

        rows.append(
            Overtraining(
                factor=factor,
                params=of(lambda one: np.exp(one.log_n)),
                tokens=of(lambda one: np.exp(one.log_d)),
                training=of(lambda one: one.training),
                inference=of(lambda one: one.inference),
                break_even_tokens=of(lambda one: one.even),
                same_compute_loss=of(lambda one: one.loss, log=False),
                total_flops=None
                if inference_tokens is None
                else of(lambda one: _total(one, flops, inference_tokens, ladder.per_token)),
            )
        )
    return rows


def _total(one: _Longer, flops: float, inference_tokens: float, per_token: FlopsPerToken) -> Array:
    return np.asarray(one.training * flops + INFERENCE_SHARE * inference_tokens * per_token(np.exp(one.log_n)))


def cheapest_factor(fit: Fit, flops: float, inference_tokens: float, ladder: Ladder) -> Estimate:
    """The factor on tokens per parameter at which training and inference together cost least, at the loss of the
    optimum of `flops`."""
    if not (math.isfinite(inference_tokens) and inference_tokens > 0):
        raise UserError(f"--inference-tokens is {inference_tokens:g}; give a number of tokens above zero, such as 1e12")
    grid = np.linspace(math.log(RATIOS[0]), math.log(RATIOS[1]), 97)

    def least(theta: Array) -> Array:
        start = _start(fit.law, theta, flops, ladder.per_token)
        sides = [_longer(fit.law, theta, flops, np.full(len(theta), np.exp(k)), ladder.per_token, start) for k in grid]
        totals = np.stack([_total(side, flops, inference_tokens, ladder.per_token) for side in sides])
        low = np.clip(np.nanargmin(totals, axis=0), 1, grid.size - 2)
        left, middle, right = (np.log(totals[low + shift, np.arange(len(theta))]) for shift in (-1, 0, 1))
        bend = left - 2 * middle + right
        shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
        return np.asarray(np.exp(grid[low] + np.clip(shift, -1, 1) * (grid[1] - grid[0])))

    centre, draws = public_draws(fit)
    return interval(fit, float(least(centre)[0]), least(draws[:DRAWS_OF_FACTOR]), reason=frontier_reason(fit))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _least_flops(law: Law, theta: Array, loss: float, per_token: FlopsPerToken) -> tuple[Array, Array, Array]:
    """Least log C, log N and log D at which each draw reaches the loss, each of shape (B,); infinite where it does
    not."""
    lo = np.full((len(theta), 1), np.log(LEAST_FLOPS))
    hi = np.full((len(theta), 1), np.log(MOST_FLOPS))
    reached = optimum(law, theta, hi, per_token)[2] <= loss
    for _ in range(BISECTIONS):
        middle = 0.5 * (lo + hi)
        high = optimum(law, theta, middle, per_token)[2] > loss
        lo, hi = np.where(high, middle, lo), np.where(high, hi, middle)
    log_c = 0.5 * (lo + hi)
    log_n, log_d, _ = optimum(law, theta, log_c, per_token)
    never = ~reached[:, 0]
    return tuple(np.where(never, np.inf, side[:, 0]) for side in (log_c, log_n, log_d))  # type: ignore[return-value]


def target_loss(fit: Fit, loss: float, ladder: Ladder) -> TargetLoss:
    """The least compute that reaches a loss, with N and D there: the inverse of the frontier's loss, draw by draw."""
    if not (math.isfinite(loss) and loss > 0):
        raise UserError(f"--target-loss is {loss:g}; give a loss above zero in nats per token")
    centre, draws = public_draws(fit)
    value, sample = (_least_flops(fit.law, theta, loss, ladder.per_token) for theta in (centre, draws))
    floors = [fit.estimates[p.name] for p in fit.law.parameters if p.kind == "offset"]
    floor = floors[0] if len(floors) == 1 else None
    reason = frontier_reason(fit)
    if not np.isfinite(value[0][0]):
        reason = f"by the estimate no compute up to {MOST_FLOPS:.0e} FLOPs reaches the loss"
    estimates = [
        interval(fit, float(np.exp(one[0])), np.exp(many), reason=reason)
        for one, many in zip(value, sample, strict=True)
    ]
    share = None if fit.predictor.reason is not None else float(np.isfinite(sample[0]).mean())
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


def to_json(**parts: Any) -> dict[str, Any]:
    """Parts of the advice as one plain JSON object; what was not asked for is null."""
    return dict(json_ready(parts))
