"""Hoffmann et al. 2022: one power of size plus one power of data above an irreducible loss, and the same with a break.

The break bends both terms where N D passes a place: a recipe that stops paying from some compute on, or begins to.
What identifies it: runs at several budgets on both sides of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, SumOfPowers, power_parameters

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

BREAK_WIDTH = 0.6
"""Width of the break in log(N D): a corner rounded over a factor of about four on both sides."""


@dataclass(frozen=True, kw_only=True)
class HoffmannBreak(Law):
    """L = E + (A / N**alpha + B / D**beta) (1 + (N D / c)**(1 / w))**(-w s), with w fixed."""

    def _parts(self, theta: Sequence[Array], x: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
        """Size and data terms without the bend, softplus of the distance from the break, and the bend."""
        _, A, B, alpha, beta, s, c = theta
        distance = (np.log(x["params"]) + np.log(x["tokens"]) - np.log(c)) / BREAK_WIDTH
        soft = np.logaddexp(0.0, distance)
        return A * x["params"] ** -alpha, B * x["tokens"] ** -beta, soft, np.exp(-BREAK_WIDTH * s * soft)

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor plus the bent terms."""
        size, data, _, bend = self._parts(theta, x)
        return np.asarray(theta[0] + (size + data) * bend)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By every parameter."""
        _, A, B, _, _, s, c = theta
        size, data, soft, bend = self._parts(theta, x)
        above = (size + data) * bend
        return [
            np.ones_like(above),
            size * bend / A,
            data * bend / B,
            -size * bend * np.log(x["params"]),
            -data * bend * np.log(x["tokens"]),
            -BREAK_WIDTH * soft * above,
            s * -np.expm1(-soft) * above / c,
        ]


def _exponent(name: str, of: str) -> Parameter:
    grid = (0.1, 0.2, 0.35, 0.5, 0.8)
    meaning = f"exponent of the {of} term"
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=MIN_EXPONENT, upper=MAX_EXPONENT, grid=grid)


HOFFMANN_BREAK = HoffmannBreak(
    name="hoffmann-break",
    formula=f"L = E + (A / params**alpha + B / tokens**beta) * (1 + (params * tokens / c)**(1 / {BREAK_WIDTH}))"
    f"**(-{BREAK_WIDTH} * s)",
    inputs=("params", "tokens"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(
            name="A", kind="amplitude", meaning="size term, loss times params**alpha", scales=(("params", "alpha"),)
        ),
        Parameter(
            name="B", kind="amplitude", meaning="data term, loss times tokens**beta", scales=(("tokens", "beta"),)
        ),
        _exponent("alpha", "params"),
        _exponent("beta", "tokens"),
        Parameter(
            name="s",
            kind="real",
            meaning="what the exponent in params times tokens gains beyond the break",
            lower=-1.0,
            upper=1.0,
            grid=(-0.06, 0.06),
        ),
        Parameter(
            name="c",
            kind="amplitude",
            meaning="place of the break, params times tokens",
            lower=-12.0,
            upper=12.0,
            grid=(-3.0, 0.0, 2.0),
            scales=(("params", 1.0), ("tokens", 1.0)),
        ),
    ),
    source="Hoffmann's law with a break as in Caballero et al. 2023, arXiv 2210.14891; the width is ours",
    domain="runs at budgets on both sides of the break",
    by_default=False,
)
