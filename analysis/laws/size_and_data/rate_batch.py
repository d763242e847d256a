"""Loss about the best learning rate and batch: tables whose runs were not all tuned.

Hoffmann's law for tuned runs, and a bowl in the logarithms of rate and batch above it, whose lowest point moves with
size and data. `lr-batch` fits tables of optima; this law needs no run at its optimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

FARTHEST = 20.0
"""Working bound of the logarithm of an optimum, from the middle of the runs."""


@dataclass(frozen=True, kw_only=True)
class RateBatch(Law):
    """L = E + A / N**alpha + B / D**beta + h (u - r v)**2 + g v**2.

    u = log(lr / (c N**a D**b)) and v = log(batch / (d D**e)) are the distances from the best rate and batch.
    At another batch than the best the best rate moves as batch**r: r is a half where noise rules, and near zero where
    it does not matter.
    """

    def _bowl(self, theta: Sequence[Array], x: Mapping[str, Array]) -> tuple[Array, Array]:
        """log lr - its optimum at this batch, and log batch - its optimum."""
        c, a, b, d, e, r = theta[7:]
        log_tokens = np.log(x["tokens"])
        v = np.log(x["batch"]) - np.log(d) - e * log_tokens
        return np.log(x["lr"]) - np.log(c) - a * np.log(x["params"]) - b * log_tokens - r * v, v

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Hoffmann's law and the bowl."""
        E, A, B, alpha, beta, h, g = theta[:7]
        u, v = self._bowl(theta, x)
        return E + A * x["params"] ** -alpha + B * x["tokens"] ** -beta + h * u**2 + g * v**2

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, B, alpha, beta, h, g, c, a, b, d, e and r."""
        _, A, B, alpha, beta, h, g, c, _, _, d, _, r = theta
        log_n, log_d = np.log(x["params"]), np.log(x["tokens"])
        size, data = x["params"] ** -alpha, x["tokens"] ** -beta
        u, v = self._bowl(theta, x)
        by_u, by_v = 2 * h * u, 2 * g * v - 2 * h * r * u
        return [
            np.ones_like(u),
            size,
            data,
            -A * size * log_n,
            -B * data * log_d,
            u**2,
            v**2,
            -by_u / c,
            -by_u * log_n,
            -by_u * log_d,
            -by_v / d,
            -by_v * log_d,
            -by_u * v,
        ]

    def _unit_shift(self, j: int, theta_or_phi: Array, log_refs: Array) -> Array:
        """c and d carry the units of what they are optima of, and of what they move with."""
        log_n, log_d, log_lr, log_batch = log_refs
        a, b, e = (theta_or_phi[:, k] for k in (8, 9, 11))
        if self.parameters[j].name == "c":
            return np.asarray(log_lr - a * log_n - b * log_d)
        if self.parameters[j].name == "d":
            return np.asarray(log_batch - e * log_d)
        return super()._unit_shift(j, theta_or_phi, log_refs)


def _term(name: str, what: str) -> Parameter:
    exponent = {"A": "alpha", "B": "beta"}[name]
    return Parameter(name=name, kind="amplitude", meaning=f"amplitude of the {what} term", scales=((what, exponent),))


def _exponent(name: str, what: str) -> Parameter:
    return Parameter(
        name=name,
        kind="exponent",
        meaning=f"exponent of the {what} term",
        lower=MIN_EXPONENT,
        upper=MAX_EXPONENT,
        grid=(0.15, 0.35, 0.7),
    )


def _optimum(name: str, what: str, grid: tuple[float, ...]) -> Parameter:
    return Parameter(
        name=name,
        kind="amplitude",
        meaning=f"scale of the best {what}",
        lower=-FARTHEST,
        upper=FARTHEST,
        grid=grid,
    )


def _power(name: str, meaning: str, grid: tuple[float, ...], limit: float = 4.0) -> Parameter:
    return Parameter(name=name, kind="real", meaning=meaning, lower=-limit, upper=limit, grid=grid)


RATE_BATCH = RateBatch(
    name="rate-batch",
    formula="L = E + A / params**alpha + B / tokens**beta + h (log(lr / lr_best) - r v)**2 + g v**2, "
    "lr_best = c params**a tokens**b, v = log(batch / (d tokens**e))",
    inputs=("params", "tokens", "lr", "batch"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        _term("A", "params"),
        _term("B", "tokens"),
        _exponent("alpha", "params"),
        _exponent("beta", "tokens"),
        Parameter(name="h", kind="amplitude", meaning="loss that a factor e in the rate costs"),
        Parameter(name="g", kind="amplitude", meaning="loss that a factor e in the batch costs, its rate the best"),
        _optimum("c", "rate", (-2.0, -1.0, 0.0, 1.0, 2.0)),
        _power("a", "power of params in the best rate", (-0.6, -0.1)),
        _power("b", "power of tokens in the best rate", (0.3,)),
        _optimum("d", "batch", (-1.5, 0.0, 1.5)),
        _power("e", "power of tokens in the best batch", (0.5,)),
        _power("r", "power of the batch in the best rate at another batch", (0.3,), 2.0),
    ),
    source="the bowl: Li et al. 2025 (Step Law), arXiv 2503.04715: convex in log rate and log batch about "
    "lr = 1.79 params**-.713 tokens**.307 and batch = .58 tokens**.571; the rest: Hoffmann et al. 2022",
    domain="runs on both sides of the best rate and batch that differ in size and data too; one family and recipe",
    units="loss in nats per token; params and tokens are counts; batch in tokens or sequences, as the table has it",
    by_default=False,
)
