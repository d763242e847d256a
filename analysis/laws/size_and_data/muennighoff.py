"""Repeated data (Muennighoff et al. 2023): tokens and parameters beyond what the unique data warrant decay in worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import power_parameters

REPEATS = 0.02
"""log epochs above which a run counts as repeating its data."""
_TERMS = (("A", "params", "alpha"), ("B", "tokens", "beta"))


def saturating(count: Array, base: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Worth of a count when what exceeds a base decays: base (1 + R* (1 - exp(-R / R*))), R = count / base - 1.

    Parameters
    ----------
    count : Array
        Such as tokens.
    base : Array
        Such as unique tokens.
    scale : Array
        R*, the repetitions at which the worth of one more has fallen to 1 / e.

    Returns
    -------
    worth, by_base, by_scale : Array
        The worth, which is the count where this is no larger than the base, and its derivatives.
    """
    excess = np.maximum(count / base - 1, 0.0)
    lost = -np.expm1(-excess / scale)
    more = excess > 0
    worth = np.where(more, base * (1 + scale * lost), count)
    by_base = np.where(more, 1 + scale * lost - (1 - lost) * count / base, 0.0)
    return worth, by_base, base * (lost - (1 - lost) * excess / scale)


@dataclass(frozen=True, kw_only=True)
class Muennighoff(Law):
    """L = E + A / N'**alpha + B / D'**beta with effective N' and D'.

    D' = U + U R_D (1 - exp(-(D / U - 1) / R_D)) for U unique tokens; N' likewise around U_N, the size that would be
    compute-optimal for U tokens seen once: alpha A / U_N**alpha = beta B / U**beta. With one epoch and a size of at
    most U_N it is Hoffmann's law.
    """

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor, size term and data term."""
        E, A, B, alpha, beta, r_d, r_n = theta
        unique, params = np.minimum(x["unique_tokens"], x["tokens"]), x["params"]
        tokens = saturating(x["tokens"], unique, r_d)[0]
        size = saturating(params, np.exp(self._log_base(theta, unique)), r_n)[0]
        return E + A * size**-alpha + B * tokens**-beta

    @staticmethod
    def _log_base(theta: Sequence[Array], unique: Array) -> Array:
        """log U_N."""
        _, A, B, alpha, beta = theta[:5]
        return np.clip((np.log(alpha * A / (beta * B)) + beta * np.log(unique)) / alpha, -300.0, 300.0)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, B, alpha, beta, R_D and R_N."""
        _, A, B, alpha, beta, r_d, r_n = theta
        unique = np.minimum(x["unique_tokens"], x["tokens"])
        log_base = self._log_base(theta, unique)
        base = np.exp(log_base)
        tokens, _, by_r_d = saturating(x["tokens"], unique, r_d)
        size, by_base, by_r_n = saturating(x["params"], base, r_n)
        size_term, data_term = size**-alpha, tokens**-beta
        by_size, by_tokens = -alpha * A * size_term / size, -beta * B * data_term / tokens
        through = by_size * by_base * base / alpha  # by alpha log U_N
        return [
            np.ones_like(size_term),
            size_term + through / A,
            data_term - through / B,
            -A * size_term * np.log(size) + through * (1 / alpha - log_base),
            -B * data_term * np.log(tokens) + through * (np.log(unique) - 1 / beta),
            by_tokens * by_r_d,
            by_size * by_r_n,
        ]

    def prepare(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Without unique_tokens no run repeats its data."""
        given = dict(data)
        if "unique_tokens" not in given and "tokens" in given:
            given["unique_tokens"] = given["tokens"]
        return given

    def shared_units(self) -> Mapping[str, str]:
        """Unique tokens are centred with tokens: the two are compared."""
        return {"unique_tokens": "tokens"}

    def undetermined(self, features: Array) -> dict[str, str]:
        """R_D where no run repeats its data."""
        if bool((features[1] - features[2] > REPEATS).any()):
            return {}
        return {"R_D": "no run repeats its data; give runs of several epochs, or fit hoffmann"}

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, the power of N as it is, and the power of D' at the grid's R_D."""
        alpha, beta, log_r = (eta[:, [j]] for j in range(3))
        tokens = saturating(np.exp(z[1]), np.exp(np.minimum(z[1], z[2])), np.exp(log_r))[0]
        size, data = np.exp(-alpha * z[0]), tokens**-beta
        return np.stack([np.ones_like(data), size, data], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """A and B from the coefficients; R_N starts at R_D."""
        alpha, beta, log_r = eta.T
        log_a, log_b = (np.log(np.maximum(coefficients[:, j], 1e-12)) for j in (1, 2))
        return np.stack([coefficients[:, 0], log_a, log_b, alpha, beta, log_r, log_r], axis=1)


def _decay(name: str, meaning: str, grid: tuple[float, ...] = ()) -> Parameter:
    return Parameter(name=name, kind="amplitude", meaning=meaning, lower=-5.0, upper=9.0, grid=grid)


MUENNIGHOFF = Muennighoff(
    name="muennighoff",
    formula="L = E + A / N'**alpha + B / D'**beta, D' = U + U * R_D * (1 - exp(-(D / U - 1) / R_D)), D = tokens, "
    "U = unique_tokens, N' likewise with R_N about the optimal size for U",
    inputs=("params", "tokens", "unique_tokens"),
    optional=("unique_tokens",),
    parameters=(
        *power_parameters(_TERMS, count=10),
        _decay(
            "R_D",
            "repetitions after which repeated data have lost most of their worth, the paper's R_D*",
            tuple(float(v) for v in np.log([0.5, 2.0, 8.0, 32.0])),
        ),
        _decay("R_N", "multiples of the optimal size after which further size is worth little, the paper's R_N*"),
    ),
    source="Muennighoff et al. 2023, arXiv 2305.16264",
    domain="runs with and without repetition; R_D needs runs of several epochs, R_N sizes above the optimum for the "
    "unique data",
)
