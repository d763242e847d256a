"""Precision (Kumar et al. 2024): training in few bits is training a smaller model.

L = E + A / (params (1 - exp(-bits / gamma)))**alpha + B / tokens**beta. What identifies gamma: runs in three precisions
or more, some of them low enough to hurt, each at sizes that vary. What quantizing after training adds to the loss has a
law of its own and is not part of this one.
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
class Precision(Law):
    """Hoffmann's law in effective parameters."""

    def centred_inputs(self) -> tuple[str, ...]:
        """Params and tokens; a bit is a bit."""
        return ("params", "tokens")

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor, effective size and data."""
        E, A, B, alpha, beta, gamma = theta
        share = -np.expm1(-x["bits"] / gamma)
        return np.asarray(E + A * (x["params"] * share) ** -alpha + B * x["tokens"] ** -beta)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, B, alpha, beta and gamma."""
        _, A, B, alpha, beta, gamma = theta
        share = -np.expm1(-x["bits"] / gamma)
        effective = x["params"] * share
        size, data = effective**-alpha, x["tokens"] ** -beta
        by_gamma = alpha * A * size * np.exp(-x["bits"] / gamma) * x["bits"] / gamma**2 / share
        return [
            np.ones_like(size),
            size,
            np.broadcast_to(data, size.shape),
            -A * size * np.log(effective),
            -B * data * np.log(x["tokens"]),
            by_gamma,
        ]


PRECISION = Precision(
    name="precision",
    formula="L = E + A / (params * (1 - exp(-bits / gamma)))**alpha + B / tokens**beta",
    inputs=("params", "tokens", "bits"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(
            name="A", kind="amplitude", meaning="size term, loss times params**alpha", scales=(("params", "alpha"),)
        ),
        Parameter(
            name="B", kind="amplitude", meaning="data term, loss times tokens**beta", scales=(("tokens", "beta"),)
        ),
        *(
            Parameter(
                name=name,
                kind="exponent",
                meaning=meaning,
                lower=MIN_EXPONENT,
                upper=MAX_EXPONENT,
                grid=exponent_grid(9),
            )
            for name, meaning in (("alpha", "exponent of effective params"), ("beta", "exponent of tokens"))
        ),
        Parameter(
            name="gamma",
            kind="amplitude",
            meaning="bits in which all but 1/e of the parameters count",
            lower=-3.0,
            upper=5.0,
            grid=tuple(float(v) for v in np.log(np.geomspace(0.5, 8.0, 5))),
        ),
    ),
    source="Kumar et al. 2024, arXiv 2411.04330, equations 3 and 4 with one gamma for weights, activations and "
    "cache; their appendix K adds an offset to bits / gamma and ties beta to alpha",
    domain="bits of the weights (or of all three together) in training, above zero",
    units="loss in nats per token; params and tokens are counts",
)
