"""Fine-tuning (Zhang et al. 2024): one power of the model's size times one power of the fine-tuning data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, exponent_grid


@dataclass(frozen=True, kw_only=True)
class Zhang(Law):
    """L = E + A X**-alpha D_f**-beta: fine-tuning data are worth more to larger models, not the same to all."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Floor plus the product of powers."""
        E, A, alpha, beta = theta
        return E + A * x["params"] ** -alpha * x["finetune_tokens"] ** -beta

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, A, alpha and beta."""
        _, A, alpha, beta = theta
        power = x["params"] ** -alpha * x["finetune_tokens"] ** -beta
        logs = (np.log(x[name]) for name in self.inputs)
        return [np.ones_like(power), power, *(-A * power * log for log in logs)]

    def _term(self, phi: Array, z: Array) -> Array:
        """The loss above the floor, shape (B, n)."""
        return np.exp(phi[:, [1]] - phi[:, 2:] @ z)

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        return phi[:, [0]] + self._term(phi, z)

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        term = self._term(phi, z)
        return phi[:, [0]] + term, np.stack([np.ones_like(term), term, *(-term * row for row in z)], axis=1)

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact: the term is the exponential of a straight line in the logarithm of A and the exponents."""
        weighted = weights * (self._term(phi, z) if jacobian is None else jacobian[:, 1])
        slopes = np.stack([np.ones_like(z[0]), *-z])
        out = np.zeros((phi.shape[0], 4, 4))
        out[:, 1:, 1:] = np.einsum("bn,in,jn->bij", weighted, slopes, slopes, optimize=True)
        return out


ZHANG = Zhang(
    name="zhang",
    formula="L = E + A * params**-alpha * finetune_tokens**-beta",
    inputs=("params", "finetune_tokens"),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(
            name="A",
            kind="amplitude",
            meaning="amplitude, loss times params**alpha finetune_tokens**beta",
            scales=(("params", "alpha"), ("finetune_tokens", "beta")),
        ),
        Parameter(
            name="alpha",
            kind="exponent",
            meaning="exponent of params; zero or less where size does not help, as for adapters",
            lower=-1.0,
            upper=MAX_EXPONENT,
            grid=(-0.1, *exponent_grid(16)),
        ),
        Parameter(
            name="beta",
            kind="exponent",
            meaning="exponent of finetune_tokens",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=exponent_grid(16),
        ),
    ),
    source="Zhang et al. 2024, arXiv 2402.17193",
    domain="fine-tuning data much smaller than the model; params may be any one factor X that was varied: the model's "
    "size, its pretraining tokens or the number of tuned parameters",
    units="loss in nats per token on the task; params and finetune_tokens are counts",
)
