"""Over-training (Gadre et al. 2024): the loss by compute C = 6 N D and tokens per parameter M = D / N.

The exponent in C is the same at every M, so that runs at one ratio say how the loss falls at another. In N and D it
is Hoffmann's law with both exponents equal to 2 eta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, exponent_grid


@dataclass(frozen=True, kw_only=True)
class Gadre(Law):
    """L = E + (a M**eta + b M**-eta) C**-eta, C = 6 N D and M = D / N."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor, size term and data term."""
        E, a, b, eta = theta
        size, data = (6.0**-eta * x[name] ** (-2 * eta) for name in self.inputs)
        return E + a * size + b * data

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, a, b and eta."""
        _, a, b, eta = theta
        size, data = (6.0**-eta * x[name] ** (-2 * eta) for name in self.inputs)
        logs = (np.log(6.0 * x[name] ** 2) for name in self.inputs)
        by_eta = -a * size * next(logs) - b * data * next(logs)
        return [np.ones_like(size), size, data, by_eta]

    def _unit_shift(self, j: int, theta_or_phi: Array, log_refs: Array) -> Array:
        """Both amplitudes grow as the square of their input to the power eta."""
        return 2.0 * super()._unit_shift(j, theta_or_phi, log_refs)

    def frontier_exponent(self, theta: Array) -> Array:
        """a = 1/2: N and D grow alike, whatever eta."""
        return np.full(theta.shape[0], 0.5)


GADRE = Gadre(
    name="gadre",
    formula="L = E + (a * M**eta + b * M**-eta) * C**-eta, M = tokens / params, C = 6 * params * tokens",
    inputs=("params", "tokens"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="a", kind="amplitude", meaning="size term, loss times FLOPs**eta", scales=(("params", "eta"),)),
        Parameter(name="b", kind="amplitude", meaning="data term, loss times FLOPs**eta", scales=(("tokens", "eta"),)),
        Parameter(
            name="eta",
            kind="exponent",
            meaning="exponent of compute at any ratio of tokens to params",
            lower=MIN_EXPONENT / 2,
            upper=MAX_EXPONENT / 2,
            grid=tuple(v / 2 for v in exponent_grid(60)),
        ),
    ),
    source="Gadre et al. 2024, arXiv 2403.08540",
    domain="params and tokens above zero, at two ratios of tokens to params or more",
)
