"""What training longer than the optimum costs, and what it saves at inference.

A generated token costs a forward pass, a third of a training token, as in Sardana et al. 2024 (arXiv 2401.00448).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.advice.shapes import Ladder
from analysis.arrays import Array
from analysis.errors import UserError
from analysis.estimate import Estimate
from analysis.fitting.derived import Neighbourhood, frontier_reason, neighbourhood
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
NUM_RATIOS = 97
"""Factors that are tried between these."""
REACH = 60.0
"""log N is looked for this far to either side of that of the optimum."""


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
        out: dict[str, Any] = {"factor": self.factor, **{name: getattr(self, name).to_dict() for name in names}}
        return {**out, "total_flops": None if self.total_flops is None else self.total_flops.to_dict()}


@dataclass(frozen=True, kw_only=True)
class _Longer:
    """Training longer by a factor under many parameters of a law: arrays of shape (B,)."""

    log_n: Array
    """log N of equal loss."""
    log_d: Array
    """log D there."""
    flops_per_token: Array
    """Training FLOPs per token there."""
    training: Array
    """Training FLOPs over those of the optimum."""
    inference: Array
    """FLOPs per generated token over those of the optimum."""
    break_even: Array
    """Generated tokens from which it has paid."""
    same_compute_loss: Array
    """Loss over that of the optimum, less one, with this D / N at the same C."""


@dataclass(frozen=True, kw_only=True)
class _Optima:
    """The optimum of one budget under many parameters of a law: arrays of shape (B,)."""

    law: Law
    """The law."""
    theta: Array
    """Its public parameters, shape (B, p)."""
    flops: float
    """C."""
    per_token: FlopsPerToken
    """N -> training FLOPs per token."""
    log_n: Array
    """log N_opt."""
    log_d: Array
    """log D_opt."""
    loss: Array
    """Loss there."""

    @classmethod
    def of(cls, law: Law, theta: Array, flops: float, per_token: FlopsPerToken) -> _Optima:
        """The optimum of `flops`."""
        log_n, log_d, loss = (side[:, 0] for side in optimum(law, theta, np.array([np.log(flops)]), per_token))
        return cls(law=law, theta=theta, flops=flops, per_token=per_token, log_n=log_n, log_d=log_d, loss=loss)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def longer(self, factor: float) -> _Longer:
        """Training on `factor` times the tokens per parameter, at equal loss and at equal compute.

        Along a ray of constant D / N the loss falls with N and the cost rises, so that each is solved by bisection.
        """
        ratio = self.log_d - self.log_n + np.log(np.full(len(self.theta), factor))
        columns = [self.theta[:, j] for j in range(self.theta.shape[1])]

        def loss_at(n: Array) -> Array:
            return self.law.value(columns, {"params": np.exp(n), "tokens": np.exp(n + ratio)})

        low, high = self.log_n - REACH, self.log_n + REACH
        same = boundary(lambda n: loss_at(n) > self.loss, low, high)
        here, there = self.per_token(np.exp(self.log_n)), self.per_token(np.exp(same))
        spent = there * np.exp(same + ratio)
        paid = boundary(lambda n: self.per_token(np.exp(n)) * np.exp(n + ratio) < self.flops, low, high)
        saved = INFERENCE_SHARE * (here - there)
        return _Longer(
            log_n=same,
            log_d=same + ratio,
            flops_per_token=there,
            training=spent / self.flops,
            inference=there / here,
            break_even=np.where(saved > 0, (spent - self.flops) / saved, np.inf),
            same_compute_loss=loss_at(paid) / self.loss - 1,
        )

    def total(self, longer: _Longer, inference_tokens: float) -> Array:
        """FLOPs of training and of `inference_tokens` of inference."""
        inference = INFERENCE_SHARE * inference_tokens * longer.flops_per_token
        return np.asarray(longer.training * self.flops + inference)


def overtraining(
    fit: Fit, flops: float, factors: Sequence[float], ladder: Ladder, *, inference_tokens: float | None = None
) -> list[Overtraining]:
    """What training longer than optimal costs in training, and saves at inference.

    At equal loss a smaller model is trained on more tokens: the law is solved for N along D = k (D_opt / N_opt) N.

    Parameters
    ----------
    fit : Fit
        Of a law of params and tokens.
    flops : float
        C of the optimum.
    factors : sequence of float
        k: factors on tokens per parameter.
    ladder : Ladder
        Says what a token costs by size.
    inference_tokens : float, optional
        Tokens that the model will generate, for `total_flops`.

    Returns
    -------
    list of Overtraining
        One for each factor.

    Raises
    ------
    UserError
        For a factor that is not above zero.
    """
    for factor in factors:
        if not (math.isfinite(factor) and factor > 0):
            raise UserError(f"--overtrain holds {factor:g}; give factors above zero such as 2,4,10")
    near = neighbourhood(fit)
    centre, about = (_Optima.of(fit.law, theta, flops, ladder.per_token) for theta in (near.centre, near.about))
    reason = frontier_reason(fit)
    return [_row(near, centre, about, factor, reason, inference_tokens) for factor in factors]


def _row(
    near: Neighbourhood,
    centre: _Optima,
    about: _Optima,
    factor: float,
    reason: str | None,
    inference_tokens: float | None,
) -> Overtraining:
    """One factor, with intervals."""
    value, values = centre.longer(factor), about.longer(factor)

    def interval(pick: Callable[[_Longer], Array], *, log: bool = True) -> Estimate:
        return near.interval(float(pick(value)[0]), pick(values), log=log, reason=reason)

    total = None
    if inference_tokens is not None:
        at_centre, at_draws = centre.total(value, inference_tokens), about.total(values, inference_tokens)
        total = near.interval(float(at_centre[0]), at_draws, reason=reason)
    return Overtraining(
        factor=factor,
        params=interval(lambda one: np.exp(one.log_n)),
        tokens=interval(lambda one: np.exp(one.log_d)),
        training=interval(lambda one: one.training),
        inference=interval(lambda one: one.inference),
        break_even_tokens=interval(lambda one: one.break_even),
        same_compute_loss=interval(lambda one: one.same_compute_loss, log=False),
        total_flops=total,
    )


def cheapest_factor(fit: Fit, flops: float, inference_tokens: float, ladder: Ladder) -> Estimate:
    """The factor on tokens per parameter at which training and inference together cost least.

    Parameters
    ----------
    fit : Fit
        Of a law of params and tokens.
    flops : float
        C of the optimum whose loss is reached.
    inference_tokens : float
        Tokens that the model will generate.
    ladder : Ladder
        Says what a token costs by size.

    Returns
    -------
    Estimate
        k.

    Raises
    ------
    UserError
        For a number of tokens that is not above zero.
    """
    if not (math.isfinite(inference_tokens) and inference_tokens > 0):
        raise UserError(f"--inference-tokens is {inference_tokens:g}; give a number of tokens above zero, such as 1e12")
    near = neighbourhood(fit)

    def cheapest(theta: Array) -> Array:
        return _cheapest(_Optima.of(fit.law, theta, flops, ladder.per_token), inference_tokens)

    value, values = cheapest(near.centre), cheapest(near.about[:DRAWS_OF_FACTOR])
    return near.interval(float(value[0]), values, reason=frontier_reason(fit))


def _cheapest(optima: _Optima, inference_tokens: float) -> Array:
    """The cheapest factor of each draw, shape (B,).

    It is the lowest of a grid, refined by a parabola through its neighbours in logarithms.
    """
    grid = np.linspace(math.log(RATIOS[0]), math.log(RATIOS[1]), NUM_RATIOS)
    totals = np.stack([optima.total(optima.longer(float(np.exp(k))), inference_tokens) for k in grid])
    low = np.clip(np.nanargmin(totals, axis=0), 1, grid.size - 2)
    draws = np.arange(totals.shape[1])
    left, middle, right = (np.log(totals[low + shift, draws]) for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
    return np.asarray(np.exp(grid[low] + np.clip(shift, -1, 1) * (grid[1] - grid[0])))
