"""Laws of one input: a power above a floor, the same with a shifted input, and a power that levels off (M3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, SumOfPowers, exponent_grid, power_parameters

_TERMS = (("A", "x", "alpha"),)

POWER = SumOfPowers(
    name="power",
    formula="L = E + A / x**alpha",
    inputs=("x",),
    terms=_TERMS,
    parameters=power_parameters(_TERMS, count=60),
    source="Hestness et al. 2017, arXiv 1712.00409; M2 of Alabdulmohsin et al. 2022, arXiv 2209.06640",
    domain="x above zero; E = 0 gives the pure power law (M1)",
    units="loss in nats per token; x is whatever column is named, such as flops, params or tokens",
)


@dataclass(frozen=True, kw_only=True)
class Shifted(Law):
    """L = E + A / (x + s)**alpha: a plateau at small x."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The shifted power."""
        E, A, alpha, s = theta
        return E + A * (x["x"] + s) ** -alpha

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, alpha and s."""
        _, A, alpha, s = theta
        moved = x["x"] + s
        power = moved**-alpha
        return [np.ones_like(moved), power, -A * power * np.log(moved), -alpha * A * power / moved]


SHIFTED = Shifted(
    name="shifted",
    formula="L = E + A / (x + s)**alpha",
    inputs=("x",),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(name="A", kind="amplitude", meaning="amplitude, loss times x**alpha", scales=(("x", "alpha"),)),
        Parameter(
            name="alpha",
            kind="exponent",
            meaning="exponent",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=exponent_grid(30),
        ),
        Parameter(
            name="s",
            kind="amplitude",
            meaning="shift of x, in the unit of x; zero gives the power law",
            lower=-30.0,
            upper=12.0,
            grid=tuple(float(v) for v in np.linspace(-14.0, 6.0, 21)),
            scales=(("x", 1.0),),
        ),
    ),
    source="Hestness et al. 2017, arXiv 1712.00409, with x counted from -s",
    units="loss in nats per token; x is whatever column is named, such as flops, params or tokens",
)


@dataclass(frozen=True, kw_only=True)
class LevellingPower(Law):
    """L = A (1 / x + g)**c: a power law that levels off at large x, without a floor of its own."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The power."""
        A, c, g = theta
        return A * (1 / x["x"] + g) ** c

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By A, c and g."""
        A, c, g = theta
        inner = 1 / x["x"] + g
        power = inner**c
        return [power, A * power * np.log(inner), A * c * power / inner]


M3 = LevellingPower(
    name="m3",
    formula="L = A * (1 / x + g)**c",
    inputs=("x",),
    parameters=(
        Parameter(name="A", kind="amplitude", meaning="amplitude, loss times x**c", scales=(("x", "c"),)),
        Parameter(
            name="c",
            kind="exponent",
            meaning="exponent of x before the curve levels off",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=exponent_grid(30),
        ),
        Parameter(
            name="g",
            kind="amplitude",
            meaning="inverse of the x at which the curve levels off; zero gives the pure power law",
            lower=-30.0,
            upper=12.0,
            grid=tuple(float(v) for v in np.linspace(-10.0, 4.0, 15)),
            scales=(("x", -1.0),),
        ),
    ),
    source="M3 of Alabdulmohsin et al. 2022, arXiv 2209.06640: beta (1 / x + gamma)**c",
    domain="x above zero; the loss that is left at large x is A * g**c",
    units="loss in nats per token; x is whatever column is named, such as flops, params or tokens",
    by_default=False,
)
