"""Bounded laws: a loss that leaves a ceiling I, falls to a floor E, and is determined at x = 0.

With h a power of one input this is the rectified law of Lin et al. 2024 and the sigmoid of ScaleRL in one form; with h
a sum of two powers it reads the model's size as well as the number of examples. Every law here is the same class with
other terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, exponent_grid

MAX_LOG = 300.0
"""A power is held at exp(300): beyond, the loss is E to the last digit, and squares overflow."""


@dataclass(frozen=True, kw_only=True)
class Bounded(Law):
    """L = E + (I - E) / (1 + h), h the sum over terms of (input / scale)**exponent.

    Working parameters are E, log(I - E), and for each term the logarithm of its scale and its exponent.
    """

    terms: tuple[str, ...]
    """Input of every term; its scale and its exponent are the parameters 2 + 2 j and 3 + 2 j."""

    def _powers(self, phi: Array, z: Array) -> list[tuple[Array, Array]]:
        """(log(input / scale), power) of every term, each (B, n)."""
        out = []
        for j, name in enumerate(self.terms):
            distance = z[self.inputs.index(name)] - phi[:, [2 + 2 * j]]
            out.append((distance, np.exp(np.minimum(phi[:, [3 + 2 * j]] * distance, MAX_LOG))))
        return out

    def _working(self, theta: Sequence[Array], x: Mapping[str, Array]) -> tuple[Array, Array]:
        """Parameters (1, p) and log inputs (k, n) of public ones; zero has a logarithm that no power survives."""
        columns = [theta[0], np.log(np.maximum(theta[1] - theta[0], 1e-300))]
        for j in range(len(self.terms)):
            columns += [np.log(theta[2 + 2 * j]), theta[3 + 2 * j]]
        phi = np.stack([np.broadcast_to(c, np.broadcast_shapes(*(np.shape(v) for v in columns))) for c in columns])
        return phi.reshape(len(columns), -1).T, self.logs(np.stack([x[name] for name in self.inputs]))

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Between E and I."""
        value = self.working_value(*self._working(theta, x))
        return value[0] if value.shape[0] == 1 else value

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, I, and each term's scale and exponent."""
        phi, z = self._working(theta, x)
        columns = self.working_jacobian(phi, z)[1]
        s = columns[:, 1] / np.exp(phi[:, [1]])
        public = [1 - s, s]
        for j in range(len(self.terms)):
            public += [columns[:, 2 + 2 * j] / np.exp(phi[:, [2 + 2 * j]]), columns[:, 3 + 2 * j]]
        return [column[0] if column.shape[0] == 1 else column for column in public]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        total = sum((power for _, power in self._powers(phi, z)), start=np.ones((1, 1)))
        return phi[:, [0]] + np.exp(phi[:, [1]]) / total

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        powers = self._powers(phi, z)
        gap = np.exp(phi[:, [1]])
        s = 1 / sum((power for _, power in powers), start=np.ones((1, 1)))
        columns = [np.ones_like(s), gap * s]
        for j, (distance, power) in enumerate(powers):
            slope = gap * s * s * power
            columns += [slope * phi[:, [3 + 2 * j]], -slope * distance]
        return phi[:, [0]] + gap * s, np.stack(columns, axis=1)

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """I = E + gap; scales in the unit of their inputs."""
        theta = super().to_public(phi, log_refs)
        theta[:, 1] = phi[:, 0] + np.exp(phi[:, 1])
        return theta

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        phi = super().to_working(theta, log_refs)
        phi[:, 1] = np.log(np.maximum(theta[:, 1] - theta[:, 0], 1e-300))
        return phi

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and the curve between floor and ceiling."""
        phi = np.concatenate([np.zeros((eta.shape[0], 2)), eta], axis=1)
        s = self.working_value(phi, z)
        return np.stack([np.ones_like(s), s], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """The gap from the curve's coefficient."""
        log_gap = np.log(np.maximum(coefficients[:, 1], 1e-12))
        return np.concatenate([coefficients[:, :1], log_gap[:, None], eta], axis=1)


def _term(scale: str, name: str, exponent: str, counts: tuple[int, int]) -> tuple[Parameter, Parameter]:
    """The two parameters of a term, with so many starting values each."""
    return (
        Parameter(
            name=scale,
            kind="amplitude",
            meaning=f"scale of {name}, in its unit: where the term is as large as the ceiling's one",
            grid=tuple(float(v) for v in np.linspace(-8.0, 8.0, counts[0])),
            scales=((name, 1.0),),
        ),
        Parameter(
            name=exponent,
            kind="exponent",
            meaning=f"exponent of {name}",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=exponent_grid(counts[1]),
        ),
    )


_ENDS = (
    Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
    Parameter(
        name="I",
        kind="real",
        meaning="loss where the curve starts, at inputs of zero, in the loss's unit",
        lower=-20.0,
        upper=20.0,
    ),
)

BOUNDED = Bounded(
    name="bounded",
    formula="L = E + (I - E) / (1 + (x / m)**b)",
    inputs=("x",),
    zero_inputs=("x",),
    terms=("x",),
    parameters=(*_ENDS, *_term("m", "x", "b", (17, 12))),
    source="the rectified law of Lin et al. 2024, arXiv 2402.02314, in the sigmoid form of Khatri et al. 2025, "
    "arXiv 2510.13786",
    domain="x at or above zero, losses that fall from I to E; a score that rises is fitted as what it lacks",
    units="loss in nats per token; x is whatever column is named, such as examples, finetune_tokens or flops",
)
BOUNDED_SIZE = Bounded(
    name="bounded-size",
    formula="L = E + (I - E) / (1 + (params / n)**a + (x / m)**b)",
    inputs=("params", "x"),
    zero_inputs=("x",),
    terms=("params", "x"),
    parameters=(*_ENDS, *_term("n", "params", "a", (7, 5)), *_term("m", "x", "b", (9, 6))),
    source="two inputs in the form of `bounded`",
    domain="x at or above zero; at x = 0 the loss falls with the model's size alone",
    units="loss in nats per token; params is a count; x is whatever column is named",
)
