"""Parallel streams (Chen et al. 2025, ParScale): P passes of one model are worth a larger model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, exponent_grid


@dataclass(frozen=True, kw_only=True)
class Parallel(Law):
    """L = E + (A / (N (k log P + 1)))**alpha: P streams act as a model k log P + 1 times the size."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor plus the power of the effective size."""
        E, A, k, alpha = theta
        return E + (A / (x["params"] * (k * np.log(x["parallel_size"]) + 1))) ** alpha

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, k and alpha."""
        _, A, k, alpha = theta
        log_p = np.log(x["parallel_size"])
        gain = k * log_p + 1
        ratio = A / (x["params"] * gain)
        power = ratio**alpha
        return [np.ones_like(power), alpha * power / A, -alpha * power * log_p / gain, power * np.log(ratio)]

    def centred_inputs(self) -> tuple[str, ...]:
        """Params only: one stream must stay one."""
        return ("params",)

    def undetermined(self, features: Array) -> dict[str, str]:
        """k where all runs have the same number of streams."""
        if float(np.ptp(features[1])) > 0:
            return {}
        return {"k": "all runs have the same number of streams; give runs with one and with several"}

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and the power of the effective size."""
        k, alpha = np.exp(eta[:, [0]]), eta[:, [1]]
        power = np.exp(-alpha * (z[0] + np.log1p(k * z[1])))
        return np.stack([np.ones_like(power), power], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """log A from the coefficient A**alpha."""
        log_k, alpha = eta.T
        log_a = np.log(np.maximum(coefficients[:, 1], 1e-12)) / alpha
        return np.stack([coefficients[:, 0], log_a, log_k, alpha], axis=1)


PARALLEL = Parallel(
    name="parallel",
    formula="L = E + (A / (params * (k * log(parallel_size) + 1)))**alpha",
    inputs=("params", "parallel_size"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(
            name="A",
            kind="amplitude",
            meaning="size at which the reducible loss is one",
            scales=(("params", 1.0),),
            lower=-400.0,
            upper=400.0,
        ),
        Parameter(
            name="k",
            kind="amplitude",
            meaning="worth of a stream: P streams act as k log P + 1 times the size",
            lower=-8.0,
            upper=5.0,
            grid=tuple(float(v) for v in np.log(np.geomspace(0.02, 6.0, 9))),
        ),
        Parameter(
            name="alpha",
            kind="exponent",
            meaning="exponent of the effective size",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=exponent_grid(30),
        ),
    ),
    source="Chen et al. 2025 (ParScale), arXiv 2505.10475",
    domain="models trained with parallel_size streams on the same data; parallel_size is one or more",
    units="loss in nats per token; params and parallel_size are counts",
)
