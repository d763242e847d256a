"""What training longer than the optimum costs, and what it saves at inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.advice.ladder import Ladder
from analysis.advice.optimum import Start
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.derived import frontier_reason, neighbourhood
from analysis.fitting.fit import Fit
from analysis.laws.allocation import FlopsPerToken, optimum
from analysis.laws.base import Law
from analysis.univariate import boundary

INFERENCE_SHARE = 1 / 3
"""FLOPs per generated token over training FLOPs per token: the forward pass alone."""


DRAWS_OF_FACTOR = 200
"""Draws for the interval of the cheapest factor."""


RATIOS = (1e-2, 1e4)
"""Over-training factors between which the cheapest is looked for."""


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

    low, high = log_n - 60.0, log_n + 60.0
    same = boundary(lambda n: loss_at(n) > loss, low, high)  # loss falls along a ray of constant D / N
    here, there = per_token(np.exp(log_n)), per_token(np.exp(same))
    spent = there * np.exp(same + ratio)
    paid = boundary(lambda n: per_token(np.exp(n)) * np.exp(n + ratio) < flops, low, high)  # cost rises along it
    saved = INFERENCE_SHARE * (here - there)
    return _Longer(
        log_n=same,
        log_d=same + ratio,
        training=spent / flops,
        inference=there / here,
        even=np.where(saved > 0, (spent - flops) / saved, np.inf),
        loss=loss_at(paid) / loss - 1,
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
    near = neighbourhood(fit)
    reason = frontier_reason(fit)
    starts = [_start(fit.law, theta, flops, ladder.per_token) for theta in (near.centre, near.about)]
    rows = []
    for factor in factors:
        value, sample = (
            _longer(fit.law, theta, flops, np.full(len(theta), factor), ladder.per_token, start)
            for theta, start in zip((near.centre, near.about), starts, strict=True)
        )

        def of(pick: Any, *, log: bool = True, value: _Longer = value, sample: _Longer = sample) -> Estimate:
            return near.interval(float(pick(value)[0]), pick(sample), log=log, reason=reason)

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

    near = neighbourhood(fit)
    about = near.about[:DRAWS_OF_FACTOR]
    return near.interval(float(least(near.centre)[0]), least(about), reason=frontier_reason(fit))
