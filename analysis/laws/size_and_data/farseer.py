"""Farseer (Li et al. 2025): the floor, the amplitude and the exponent of the data term all change with model size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter

TOKENS_SCALE = 1e10
"""Tokens at which the working amplitude of the data term is taken."""


def _box_cox(power: Array, z: Array) -> tuple[Array, Array]:
    """(exp(power z) - 1) / power and its derivative by power, both smooth through power = 0."""
    product = power * z
    small = np.abs(product) < 1e-3
    safe = np.where(np.abs(power) < 1e-12, 1e-12, power)
    plain = np.expm1(product) / safe
    slope = (z * np.exp(product) - plain) / safe
    series = z * (1 + product / 2 * (1 + product / 3 * (1 + product / 4)))
    slope_series = z**2 * (0.5 + product / 3 * (1 + product * 0.375 * (1 + product * 0.4)))
    return np.where(small, series, plain), np.where(small, slope_series, slope)


@dataclass(frozen=True, kw_only=True)
class Farseer(Law):
    """L = exp(a3 N**gamma + b3) + exp(a2 N**beta + b2) * D**(-exp(a1 N**alpha + b1)).

    Working parameters are, for each of the three functions of N, its value and slope in log N at the middle of the
    data and its power: public a and b blow up as a power goes to zero, these do not.
    """

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor plus data term."""
        a1, b1, alpha, a2, b2, beta, a3, b3, gamma = theta
        n, log_d = x["params"], np.log(x["tokens"])
        rate = np.exp(a1 * n**alpha + b1)
        return np.asarray(np.exp(a3 * n**gamma + b3) + np.exp(a2 * n**beta + b2 - rate * log_d))

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By a1, b1, alpha, a2, b2, beta, a3, b3 and gamma."""
        a1, b1, alpha, a2, b2, beta, a3, b3, gamma = theta
        n, log_n, log_d = x["params"], np.log(x["params"]), np.log(x["tokens"])
        n1, n2, n3 = n**alpha, n**beta, n**gamma
        rate = np.exp(a1 * n1 + b1)
        data, floor = np.exp(a2 * n2 + b2 - rate * log_d), np.exp(a3 * n3 + b3)
        by_rate = -data * rate * log_d
        return [
            by_rate * n1,
            by_rate,
            by_rate * a1 * n1 * log_n,
            data * n2,
            data,
            data * a2 * n2 * log_n,
            floor * n3,
            floor,
            floor * a3 * n3 * log_n,
        ]

    def centred_inputs(self) -> tuple[str, ...]:
        """Params only: the form is not closed under a change of the unit of tokens."""
        return ("params",)

    def _parts(self, phi: Array, z: Array) -> tuple[Array, ...]:
        c1, s1, alpha, c2, s2, beta, c3, s3, gamma = (phi[:, [j]] for j in range(9))
        log_n, log_d, level = z[0], z[1], np.log(TOKENS_SCALE)
        (g1, d1), (g2, d2), (g3, d3) = (_box_cox(power, log_n) for power in (alpha, beta, gamma))
        middle, rate = np.exp(c1), np.exp(c1 + s1 * g1)
        slope = s2 + middle * s1 * level
        data = np.exp(np.clip(c2 + middle * level + slope * g2 - rate * log_d, -700, 700))
        floor = np.exp(np.clip(c3 + s3 * g3, -700, 700))
        by_c1 = data * (middle * level * (1 + s1 * g2) - rate * log_d)
        by_s1 = data * (middle * level * g2 - rate * log_d * g1)
        by_alpha = -data * rate * log_d * s1 * d1
        return (floor, data, by_c1, by_s1, by_alpha, data * g2, data * slope * d2, floor * g3, floor * s3 * d3)

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        floor, data, *_ = self._parts(phi, z)
        return floor + data

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        floor, data, by_c1, by_s1, by_alpha, by_s2, by_beta, by_s3, by_gamma = self._parts(phi, z)
        return floor + data, np.stack([by_c1, by_s1, by_alpha, data, by_s2, by_beta, floor, by_s3, by_gamma], axis=1)

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """a = slope / power * N_ref**-power, b = level - slope / power."""
        c1, s1, alpha, c2, s2, beta, c3, s3, gamma = phi.T
        rate, level = np.exp(c1), np.log(TOKENS_SCALE)
        rows = []
        for c, s, power in ((c1, s1, alpha), (c2 + rate * level, s2 + rate * s1 * level, beta), (c3, s3, gamma)):
            safe = np.where(np.abs(power) < 1e-9, 1e-9, power)
            rows += [s / safe * np.exp(-safe * log_refs[0]), c - s / safe, safe]
        return np.stack(rows, axis=1)

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        levels, slopes, powers = [], [], []
        for j in (0, 3, 6):
            a, b, power = theta[:, j], theta[:, j + 1], theta[:, j + 2]
            scaled = a * np.exp(power * log_refs[0])
            levels.append(b + scaled)
            slopes.append(scaled * power)
            powers.append(power)
        rate, level = np.exp(levels[0]), np.log(TOKENS_SCALE)
        levels[1] = levels[1] - rate * level
        slopes[1] = slopes[1] - rate * slopes[0] * level
        return np.stack([v for group in zip(levels, slopes, powers, strict=True) for v in group], axis=1)

    def grid(self) -> Array:
        """Rate, its slope, and the slopes of amplitude and floor in log N, with all powers near zero."""
        axes = (
            np.log(np.geomspace(0.05, 1.0, 8)),
            [-0.1, 0.0, 0.1],
            [-0.6, -0.4, -0.2, -0.1, 0.0],
            [-0.2, -0.1, -0.03],
        )
        return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)

    def grid_shape(self) -> tuple[int, ...]:
        """As `grid`."""
        return (8, 3, 5, 3)

    def offset_columns(self) -> tuple[int, ...]:
        """None: floor and data term are both amplitudes."""
        return ()

    def _from_grid(self, eta: Array) -> Array:
        phi = np.zeros((eta.shape[0], 9))
        phi[:, [0, 1, 4, 7]] = eta
        phi[:, [2, 5, 8]] = 0.02
        return phi

    def basis(self, eta: Array, z: Array) -> Array:
        """Floor and data term at unit level."""
        floor, data, *_ = self._parts(self._from_grid(eta), z)
        return np.stack([floor, data], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """Levels from the coefficients."""
        phi = self._from_grid(eta)
        phi[:, 6] = np.log(np.maximum(coefficients[:, 0], 1e-12))
        phi[:, 3] = np.log(np.maximum(coefficients[:, 1], 1e-12))
        return phi


def _three(index: int, power: str, what: str, low: float, high: float) -> tuple[Parameter, ...]:
    """Public a, b and power of one function of N; the bounds are those of its working level, slope and power."""
    return (
        Parameter(
            name=f"a{index}", kind="real", meaning=f"slope of the {what} in params**{power}", lower=low, upper=high
        ),
        Parameter(name=f"b{index}", kind="real", meaning=f"level of the {what}", lower=-3.0, upper=3.0),
        Parameter(name=power, kind="exponent", meaning=f"power of params in the {what}", lower=-1.5, upper=1.5),
    )


FARSEER = Farseer(
    name="farseer",
    formula="L = exp(a3 params**gamma + b3) + exp(a2 params**beta + b2) * tokens**(-exp(a1 params**alpha + b1))",
    inputs=("params", "tokens"),
    parameters=(
        *_three(1, "alpha", "log rate of the data term", -5.0, 1.5),
        *_three(2, "beta", "log amplitude of the data term", -60.0, 60.0),
        *_three(3, "gamma", "log floor", -60.0, 60.0),
    ),
    source="Li et al. 2025 (Farseer), arXiv 2506.10972",
    min_starts=8,
    domain="params without embeddings and head; many sizes and budgets: nine parameters; depends on the unit of tokens",
)
