"""Loss with learning-rate annealing (Tissue et al. 2024): the area under the rate, and the area of its annealing.

Use it beside `multipower` for curves of one model under several schedules. It has two parameters fewer: a fall of the
rate pays back over a fixed number of steps, whatever the rate it ends at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.parameter import Parameter
from analysis.laws.schedules.base import AREA_PARAMETERS, Curve, ScheduleLaw, Second


@dataclass(frozen=True, kw_only=True)
class Tissue(ScheduleLaw):
    """L = L0 + A S1**-alpha - C S2, S2 = sum_i sum_{k <= i} (lr[k-1] - lr[k]) lambda**(i - k).

    A fall seen n steps later adds fall * (1 - lambda**n) / (1 - lambda) to S2. The working parameter is
    log(1 - lambda).
    """

    @property
    def num_quantities(self) -> int:
        """Steps since the fall."""
        return 1

    def quantities(self, curve: Curve, step: Array) -> Sequence[Array]:
        """Steps since the fall."""
        return (step[:, None] - curve.at_step,)

    def kernel(self, q: Array, quantities: Sequence[Array], order: int) -> tuple[Array, list[Array], Second]:
        """(1 - lambda**n) / (1 - lambda) and its derivatives by log(1 - lambda)."""
        (n,) = quantities
        rest = np.exp(q[:, [0]])
        log_lambda = np.log1p(-rest)
        value = -np.expm1(n * log_lambda) / rest
        if order == 0:
            return value, [], {}
        slope = n * np.exp((n - 1) * log_lambda) - value
        if order == 1:
            return value, [slope], {}
        return value, [slope], {(0, 0): -n * (n - 1) * rest * np.exp((n - 2) * log_lambda) - slope}

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """lambda from log(1 - lambda)."""
        theta = super().to_public(phi, log_refs)
        theta[:, 4] = -np.expm1(phi[:, 4])
        return theta

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        phi = super().to_working(theta, log_refs)
        phi[:, 4] = np.log1p(-theta[:, 4])
        return phi

    def working_slope(self, j: int, phi: Array) -> Array:
        """d log(1 - lambda) / d lambda beside those of the others."""
        return -np.exp(-phi[:, 4]) if j == 4 else super().working_slope(j, phi)


TISSUE = Tissue(
    name="tissue",
    formula="L = L0 + A * S1**-alpha - C * S2; S2 = sum_i sum_{k<=i} (lr[k-1] - lr[k]) * lambda**(i-k)",
    inputs=("step", "lr", "curve"),
    parameters=(
        *AREA_PARAMETERS,
        Parameter(
            name="C", kind="amplitude", meaning="loss taken off by a unit of annealing area", scales=(("lr", -1.0),)
        ),
        Parameter(
            name="lambda",
            kind="real",
            meaning="what is left of a fall's momentum after a step; 1 / (1 - lambda) steps are its memory",
            lower=float(np.log(1e-6)),
            upper=float(np.log(0.5)),
            grid=tuple(float(v) for v in np.log(np.geomspace(3e-5, 3e-2, 10))),
        ),
    ),
    source="Tissue et al. 2024, arXiv 2408.11029",
    domain="curves of one model, batch size and data; after warm-up; one schedule or more whose rate decays",
    units="loss in nats per token; step counts updates, lr is the rate of the step, curve tells schedules apart",
)
