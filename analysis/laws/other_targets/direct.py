"""Error on downstream tasks straight from scale (Krajewski et al. 2025): no loss in between.

The logarithm of the accuracy, over that above chance, falls as a power: 1 - error / chance = exp(-A x**-alpha).
Beside the two steps of `downstream-exponential` it has one fit and one noise. What identifies chance: runs that know
nothing yet; where there are none, give the known one by bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT

UNITS = "error is a fraction of answers; inputs are counts"
"""Units of both laws."""


@dataclass(frozen=True, kw_only=True)
class Direct(Law):
    """error = chance (1 - exp(-sum of A_i x_i**-a_i)); parameters are chance, amplitudes, exponents."""

    def _terms(self, theta: Sequence[Array], x: Mapping[str, Array]) -> list[Array]:
        k = len(self.inputs)
        return [a * x[name] ** -e for a, e, name in zip(theta[1 : k + 1], theta[k + 1 :], self.inputs, strict=True)]

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Error at a scale."""
        terms = self._terms(theta, x)
        return np.asarray(-theta[0] * np.expm1(-sum(terms[1:], start=terms[0])))

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By chance, amplitudes and exponents."""
        terms = self._terms(theta, x)
        total = sum(terms[1:], start=terms[0])
        pull = theta[0] * np.exp(-total)
        amplitudes = theta[1 : len(terms) + 1]
        return [
            -np.expm1(-total),
            *(pull * term / a for term, a in zip(terms, amplitudes, strict=True)),
            *(-pull * term * np.log(x[name]) for term, name in zip(terms, self.inputs, strict=True)),
        ]


def _direct(name: str, terms: Sequence[tuple[str, str, str]], formula: str, domain: str) -> Direct:
    levels = (-4.0, -2.5, -1.2, -0.3, 0.6) if len(terms) == 1 else (-3.0, -1.5, -0.3)
    slopes = (0.03, 0.08, 0.2, 0.4, 0.8) if len(terms) == 1 else (0.08, 0.25, 0.6)
    return Direct(
        name=name,
        formula=formula,
        inputs=tuple(x for _, x, _ in terms),
        target="error",
        parameters=(
            Parameter(name="chance", kind="amplitude", meaning="error of a model that knows nothing"),
            *(
                Parameter(
                    name=a,
                    kind="amplitude",
                    meaning=f"-log of the accuracy over its best where {x} is one",
                    lower=-30.0,
                    upper=30.0,
                    grid=levels,
                    scales=((x, e),),
                )
                for a, x, e in terms
            ),
            *(
                Parameter(
                    name=e,
                    kind="exponent",
                    meaning=f"exponent of {x}",
                    lower=MIN_EXPONENT,
                    upper=MAX_EXPONENT,
                    grid=slopes,
                )
                for _, x, e in terms
            ),
        ),
        source="Krajewski et al. 2025, arXiv 2512.08894",
        domain=domain,
        units=UNITS,
    )


DIRECT = _direct(
    "downstream-direct",
    (("A", "x", "alpha"),),
    "error = chance * (1 - exp(-A / x**alpha))",
    "errors of one task or a mean of tasks along one ratio of tokens to params; x is compute",
)
DIRECT_SIZE = _direct(
    "downstream-direct-size",
    (("A", "params", "alpha"), ("B", "tokens", "beta")),
    "error = chance * (1 - exp(-A / params**alpha - B / tokens**beta))",
    "errors of one task or a mean of tasks at several sizes and ratios of tokens to params",
)
