"""The multi-power law (Luo et al. 2025): the whole loss curve of one model under any learning-rate schedule.

Use it to predict curves under schedules and horizons that were not run, from two or three that were: a constant rate, a
cosine and one sudden fall determine it. It knows one model size; for sizes use a law of params and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.parameter import Parameter
from analysis.laws.schedules.base import AREA_PARAMETERS, Curve, ScheduleLaw, Second
from analysis.laws.sums import MAX_EXPONENT


@dataclass(frozen=True, kw_only=True)
class MultiPower(ScheduleLaw):
    """L = L0 + A S1**-alpha - B sum_k fall_k G(rate_k**-gamma S_k), G(x) = 1 - (1 + C x)**-beta.

    A fall pays back over the area since it, S_k, the faster the lower the rate.
    """

    @property
    def num_quantities(self) -> int:
        """Log rate after the fall, and log area since."""
        return 2

    def quantities(self, curve: Curve, step: Array) -> Sequence[Array]:
        """Log rate_k and log S_k."""
        since = curve.area[:, None] - curve.at_area
        rate = np.broadcast_to(np.log(curve.rate), since.shape)
        return rate, np.log(np.where(since > 0, since, 1.0))

    def kernel(self, q: Array, quantities: Sequence[Array], order: int) -> tuple[Array, list[Array], Second]:
        """G and its derivatives by log C, beta and gamma."""
        log_rate, log_area = quantities
        beta = q[:, [1]]
        x = np.exp(q[:, [0]] - q[:, [2]] * log_rate + log_area)
        u = np.log1p(x)
        left = np.exp(-beta * u)
        if order == 0:
            return 1 - left, [], {}
        share = x / (1 + x)
        slope = beta * left * share
        first = [slope, u * left, -log_rate * slope]
        if order == 1:
            return 1 - left, first, {}
        bend = slope * (1 - (1 + beta) * share)
        cross = left * share * (1 - beta * u)
        steep = -log_rate * bend
        second = {(0, 0): bend, (0, 1): cross, (0, 2): steep, (1, 1): -u * first[1], (1, 2): -log_rate * cross}
        return 1 - left, first, second | {(2, 2): -log_rate * steep}


MULTIPOWER = MultiPower(
    name="multipower",
    formula="L = L0 + A * S1**-alpha - B * sum_k (lr[k-1] - lr[k]) * (1 - (1 + C * lr[k]**-gamma * S_k)**-beta)",
    inputs=("step", "lr", "curve"),
    parameters=(
        *AREA_PARAMETERS,
        Parameter(
            name="B", kind="amplitude", meaning="loss taken off in the end by a unit fall of lr", scales=(("lr", -1.0),)
        ),
        Parameter(
            name="C",
            kind="amplitude",
            meaning="how soon a fall pays back: inverse of the area since, S_k, that it takes, times lr**gamma",
            lower=-25.0,
            upper=12.0,
            grid=tuple(float(v) for v in np.log(np.geomspace(1e-4, 1.0, 5))),
            scales=(("lr", "gamma"), ("lr", -1.0)),
        ),
        Parameter(
            name="beta",
            kind="exponent",
            meaning="exponent with which what is left of a fall's effect decays",
            lower=0.02,
            upper=MAX_EXPONENT,
            grid=(0.2, 0.5, 1.0, 2.0),
        ),
        Parameter(
            name="gamma",
            kind="real",
            meaning="what a fall's payback is counted in: area at 0, steps at 1",
            lower=0.0,
            upper=1.0,
            grid=(0.0, 0.35, 0.7, 1.0),
        ),
    ),
    source="Luo et al. 2025, arXiv 2503.12811",
    domain="curves of one model, batch size and data; after warm-up; rates above zero; two schedules or more, one with "
    "a sudden fall",
    units="loss in nats per token; step counts updates, lr is the rate of the step, curve tells schedules apart",
)
