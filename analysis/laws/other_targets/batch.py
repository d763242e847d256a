"""Learning rates and batch sizes: the best ones as powers of size and data, and what a larger batch costs.

Use `lr-batch` on a table whose rows are optima (the best rate, or the best batch, at each N and D), `optimum-power`
where they vary with one thing only. `critical-batch` says how the batch beyond which steps no longer fall in proportion
grows as loss falls; `batch-tradeoff` measures it, from the steps that runs of several batches took to one loss. Their
targets are no losses: `optimum`, `batch` and `steps` are the fitted columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter


@dataclass(frozen=True, kw_only=True)
class Product(Law):
    """optimum = c * product of input**exponent; the exponents have either sign."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The product."""
        log_value = sum((e * np.log(x[name]) for e, name in zip(theta[1:], self.inputs, strict=True)), np.zeros(1))
        return theta[0] * np.exp(log_value)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By c and the exponents."""
        value = self.value(theta, x)
        return [value / theta[0], *(value * np.log(x[name]) for name in self.inputs)]

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact: the logarithm is linear in the working parameters."""
        columns = np.concatenate([np.ones((1, z.shape[1])), z])
        weighted = weights * self.working_value(phi, z)
        return np.asarray(np.einsum("bn,in,jn->bij", weighted, columns, columns, optimize=True))

    def _unit_shift(self, j: int, theta_or_phi: Array, log_refs: Array) -> Array:
        return -theta_or_phi[:, 1:] @ log_refs if j == 0 else np.zeros(theta_or_phi.shape[0])


def _power_of(name: str, column: str) -> Parameter:
    return Parameter(
        name=name,
        kind="real",
        meaning=f"power of {column}: above zero where the optimum grows",
        lower=-4.0,
        upper=4.0,
        grid=tuple(float(v) for v in np.linspace(-1.5, 1.5, 13)),
    )


LR_BATCH = Product(
    name="lr-batch",
    formula="optimum = c * params**a * tokens**b",
    inputs=("params", "tokens"),
    target="optimum",
    parameters=(
        Parameter(name="c", kind="amplitude", meaning="scale, in the unit of the optimum"),
        _power_of("a", "params"),
        _power_of("b", "tokens"),
    ),
    source="Li et al. 2025 (Step Law), arXiv 2503.04715: lr = 1.79 params**-.713 tokens**.307, batch = .58 "
    "tokens**.571 in tokens",
    domain="optima of one family and recipe, found inside the grid of rates or batches; N and D that vary apart",
    units="optimum is the best learning rate, or the best batch in tokens; params and tokens are counts",
)
OPTIMUM_POWER = Product(
    name="optimum-power",
    formula="optimum = c * x**a",
    inputs=("x",),
    target="optimum",
    parameters=(
        Parameter(name="c", kind="amplitude", meaning="scale, in the unit of the optimum"),
        _power_of("a", "x"),
    ),
    source="DeepSeek-AI 2024, arXiv 2401.02954 (x is compute); Porian et al. 2024, arXiv 2406.19146 (x is params)",
    domain="optima of one family and recipe along one ladder, where N and D grow together",
    units="optimum is the best learning rate, or the best batch in tokens; x is whatever column is named",
)


@dataclass(frozen=True, kw_only=True)
class CriticalBatch(Law):
    """batch = B_star / loss**(1 / alpha_B)."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Critical batch at a loss."""
        scale, alpha = theta
        return scale * x["loss"] ** (-1 / alpha)

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By B_star and alpha_B."""
        scale, alpha = theta
        power = x["loss"] ** (-1 / alpha)
        return [power, scale * power * np.log(x["loss"]) / alpha**2]

    def _unit_shift(self, j: int, theta_or_phi: Array, log_refs: Array) -> Array:
        return log_refs[0] / theta_or_phi[:, 1] if j == 0 else np.zeros(theta_or_phi.shape[0])


CRITICAL_BATCH = CriticalBatch(
    name="critical-batch",
    formula="batch = B_star / loss**(1 / alpha_B)",
    inputs=("loss",),
    target="batch",
    parameters=(
        Parameter(name="B_star", kind="amplitude", meaning="critical batch at a loss of one, in the unit of batch"),
        Parameter(
            name="alpha_B",
            kind="exponent",
            meaning="inverse of the power of loss: the smaller, the faster the critical batch grows",
            lower=0.02,
            upper=5.0,
            grid=tuple(float(v) for v in np.geomspace(0.04, 3.0, 40)),
        ),
    ),
    source="Kaplan et al. 2020, arXiv 2001.08361: B_star = 2e8 tokens, alpha_B = .21; after McCandlish et al. 2018, "
    "arXiv 1812.06162",
    domain="losses above zero on one data set; batch is the critical one, as `batch-tradeoff` measures it",
    units="batch in tokens (or sequences, for all rows alike); loss in nats per token",
)


@dataclass(frozen=True, kw_only=True)
class BatchTradeoff(Law):
    """steps = S_min (1 + B_crit / batch).

    With E = batch * steps this is S / S_min - 1 = 1 / (E / E_min - 1), E_min = S_min * B_crit.
    """

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Steps at a batch."""
        steps, critical = theta
        return steps * (1 + critical / x["batch"])

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By S_min and B_crit."""
        steps, critical = theta
        return [1 + critical / x["batch"], steps / x["batch"]]


BATCH_TRADEOFF = BatchTradeoff(
    name="batch-tradeoff",
    formula="steps = S_min * (1 + B_crit / batch)",
    inputs=("batch",),
    target="steps",
    parameters=(
        Parameter(name="S_min", kind="amplitude", meaning="steps to the loss with batches without end"),
        Parameter(
            name="B_crit",
            kind="amplitude",
            meaning="batch at which steps and data are both twice their least; S_min * B_crit is the least data",
            lower=-20.0,
            upper=20.0,
            grid=tuple(float(v) for v in np.linspace(-8.0, 8.0, 33)),
            scales=(("batch", 1.0),),
        ),
    ),
    source="McCandlish et al. 2018, arXiv 1812.06162: (S / S_min - 1) (E / E_min - 1) = 1",
    domain="runs of one model to one loss, each at the best rate of its batch; batches on both sides of B_crit",
    units="steps are updates; batch in tokens or sequences; data E = batch * steps in the same",
)
