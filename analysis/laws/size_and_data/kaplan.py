"""Laws that couple size and data by an outer exponent: Kaplan et al. 2020, and Skaling (Videau et al. 2026)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

BALANCE = tuple(float(v) for v in np.linspace(-6.0, 6.0, 9))
"""Grid of the log ratio of the size term to the data term at the middle of the data."""


def _product(*axes: Sequence[float]) -> Array:
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


@dataclass(frozen=True, kw_only=True)
class Kaplan(Law):
    """L = ((N_c / N)**(alpha_N / alpha_D) + D_c / D)**alpha_D: no floor, one frontier exponent."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The joint law."""
        alpha_n, alpha_d, n_c, d_c = theta
        return ((n_c / x["params"]) ** (alpha_n / alpha_d) + d_c / x["tokens"]) ** alpha_d

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By alpha_N, alpha_D, N_c and D_c."""
        alpha_n, alpha_d, n_c, d_c = theta
        ratio = alpha_n / alpha_d
        log_size = np.log(n_c / x["params"])
        size, data = np.exp(ratio * log_size), d_c / x["tokens"]
        total = size + data
        loss = total**alpha_d
        per_size = alpha_d * loss / total * size
        return [
            per_size * log_size / alpha_d,
            loss * np.log(total) - per_size * log_size * ratio / alpha_d,
            per_size * ratio / n_c,
            alpha_d * loss / total * data / d_c,
        ]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n), through the logarithms of both terms.

        N_c and D_c alone are too large for floating point where the loss's unit is small.
        """
        alpha_n, alpha_d, log_n, log_d = (phi[:, [j]] for j in range(4))
        return np.asarray(np.exp(alpha_d * np.logaddexp(alpha_n / alpha_d * (log_n - z[0]), log_d - z[1])))

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        alpha_n, alpha_d, log_n, log_d = (phi[:, [j]] for j in range(4))
        ratio, size = alpha_n / alpha_d, log_n - z[0]
        total = np.logaddexp(ratio * size, log_d - z[1])
        loss = np.exp(alpha_d * total)
        share = np.exp(ratio * size - total)
        by_size = loss * share * size
        columns = [by_size, loss * total - by_size * ratio, loss * share * alpha_n, alpha_d * loss * (1 - share)]
        return loss, np.stack(columns, axis=1)

    def frontier_exponent(self, theta: Array) -> Array:
        """a = alpha_D / (alpha_N + alpha_D).

        The outer exponent moves no minimum, so this is Hoffmann's rule with beta = 1.
        """
        return theta[:, 1] / (theta[:, 0] + theta[:, 1])

    def grid(self) -> Array:
        """alpha_N, alpha_D and the balance of the two terms."""
        return _product(self.parameters[0].grid, self.parameters[1].grid, BALANCE)

    def grid_shape(self) -> tuple[int, ...]:
        """As `grid`."""
        return len(self.parameters[0].grid), len(self.parameters[1].grid), len(BALANCE)

    def offset_columns(self) -> tuple[int, ...]:
        """None: the one column is an amplitude."""
        return ()

    def basis(self, eta: Array, z: Array) -> Array:
        """One column: the law with D_c at the middle of the data."""
        alpha_n, alpha_d, balance = (eta[:, [j]] for j in range(3))
        column = np.logaddexp(balance - alpha_n / alpha_d * z[0], -z[1] + 0.0 * balance) * alpha_d
        return np.asarray(np.exp(column)[:, None, :])

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """D_c from the amplitude, N_c from the balance."""
        alpha_n, alpha_d, balance = eta.T
        log_d = np.log(np.maximum(coefficients[:, 0], 1e-12)) / alpha_d
        return np.stack([alpha_n, alpha_d, (balance + log_d) * alpha_d / alpha_n, log_d], axis=1)


def _exponent(name: str, meaning: str, count: int, low: float, high: float) -> Parameter:
    grid = tuple(float(v) for v in np.geomspace(low, high, count))
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=MIN_EXPONENT, upper=MAX_EXPONENT, grid=grid)


KAPLAN = Kaplan(
    name="kaplan",
    formula="L = ((N_c / params)**(alpha_N / alpha_D) + D_c / tokens)**alpha_D",
    inputs=("params", "tokens"),
    parameters=(
        _exponent("alpha_N", "exponent of the loss in params at infinite data", 12, 0.02, 1.2),
        _exponent("alpha_D", "exponent of the loss in tokens at infinite size", 12, 0.02, 1.2),
        Parameter(
            name="N_c",
            kind="amplitude",
            meaning="scale of params",
            scales=(("params", 1.0),),
            lower=-650.0,
            upper=650.0,
        ),
        Parameter(
            name="D_c",
            kind="amplitude",
            meaning="scale of tokens",
            scales=(("tokens", 1.0),),
            lower=-650.0,
            upper=650.0,
        ),
    ),
    source="Kaplan et al. 2020, arXiv 2001.08361, equation 1.5",
    domain="params without embeddings, tokens above zero; no irreducible loss",
)


@dataclass(frozen=True, kw_only=True)
class Skaling(Law):
    """L = E + (A / N**alpha + B / D**beta)**k: Hoffmann's law at k = 1, coupled otherwise."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The coupled law."""
        E, A, B, alpha, beta, k = theta
        return E + (A * x["params"] ** -alpha + B * x["tokens"] ** -beta) ** k

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, B, alpha, beta and k."""
        _, A, B, alpha, beta, k = theta
        size, data = x["params"] ** -alpha, x["tokens"] ** -beta
        total = A * size + B * data
        power = total**k
        slope = k * power / total
        return [
            np.ones_like(power),
            slope * size,
            slope * data,
            -slope * A * size * np.log(x["params"]),
            -slope * B * data * np.log(x["tokens"]),
            power * np.log(total),
        ]

    def frontier_exponent(self, theta: Array) -> Array:
        """a = beta / (alpha + beta): the outer exponent moves no minimum."""
        return theta[:, 4] / (theta[:, 3] + theta[:, 4])

    def grid(self) -> Array:
        """alpha, beta, k and the balance of the two terms."""
        return _product(*(self.parameters[j].grid for j in (3, 4, 5)), BALANCE[1::2])

    def grid_shape(self) -> tuple[int, ...]:
        """As `grid`."""
        return (*(len(self.parameters[j].grid) for j in (3, 4, 5)), len(BALANCE[1::2]))

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and the power at a balance of the two terms."""
        alpha, beta, k, balance = (eta[:, [j]] for j in range(4))
        power = np.exp(k * np.logaddexp(0.5 * balance - alpha * z[0], -0.5 * balance - beta * z[1]))
        return np.stack([np.ones_like(power), power], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """A and B from the amplitude and the balance."""
        alpha, beta, k, balance = eta.T
        level = np.log(np.maximum(coefficients[:, 1], 1e-12)) / k
        return np.stack([coefficients[:, 0], level + 0.5 * balance, level - 0.5 * balance, alpha, beta, k], axis=1)


SKALING = Skaling(
    name="skaling",
    formula="L = E + (A / params**alpha + B / tokens**beta)**k",
    inputs=("params", "tokens"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="A", kind="amplitude", meaning="size term, loss**(1/k)", scales=(("params", "alpha"),)),
        Parameter(name="B", kind="amplitude", meaning="data term, loss**(1/k)", scales=(("tokens", "beta"),)),
        _exponent("alpha", "exponent of params inside", 8, 0.05, 2.5),
        _exponent("beta", "exponent of tokens inside", 8, 0.05, 2.5),
        Parameter(
            name="k",
            kind="exponent",
            meaning="outer exponent: 1 is no coupling, below 1 size and data help each other",
            lower=0.02,
            upper=MAX_EXPONENT,
            grid=(0.15, 0.3, 0.5, 0.75, 1.0, 1.5),
        ),
    ),
    source="Videau, Youbi-Idrissi, Lopez-Paz and Ahuja 2026 (Skaling), arXiv 2608.07222",
)
