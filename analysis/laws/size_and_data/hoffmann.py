"""Hoffmann et al. 2022: one power of size plus one power of data above an irreducible loss."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.arrays import Array
from analysis.laws.sums import SumOfPowers, power_parameters

_TERMS = (("A", "params", "alpha"), ("B", "tokens", "beta"))


@dataclass(frozen=True, kw_only=True)
class Hoffmann(SumOfPowers):
    """L = E + A / N**alpha + B / D**beta, with the compute-optimal exponent in closed form."""

    def frontier_exponent(self, theta: Array) -> Array:
        """a = beta / (alpha + beta): Hoffmann et al. 2022, equation 4."""
        alpha, beta = theta[:, 3], theta[:, 4]
        return beta / (alpha + beta)


HOFFMANN = Hoffmann(
    name="hoffmann",
    formula="L = E + A / params**alpha + B / tokens**beta",
    inputs=("params", "tokens"),
    terms=_TERMS,
    parameters=power_parameters(_TERMS, count=20),
    source="Hoffmann et al. 2022, arXiv 2203.15556, equation 2",
)
