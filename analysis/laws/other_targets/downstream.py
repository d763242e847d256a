"""Error on downstream tasks from loss: an exponential that levels off at chance (Gadre et al. 2024), and a sigmoid.

Use the exponential for an error averaged over many tasks, which starts at chance and has not yet levelled off below;
use the sigmoid for one task or one family, whose error falls between two levels. Fit them to the losses that the runs
reached, and predict the error of a run from its size by `predict --downstream`, which carries the uncertainty of both
fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter

UNITS = "error is a fraction of answers; loss in nats per token, on the same validation set for every run"
"""Units of both laws."""


@dataclass(frozen=True, kw_only=True)
class Exponential(Law):
    """error = eps - k exp(-gamma loss).

    The working amplitude is that of the term at the middle loss, which the data hold, not that at loss zero.
    """

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Error at a loss."""
        eps, k, gamma = theta
        return eps - k * np.exp(-gamma * x["loss"])

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By eps, k and gamma."""
        _, k, gamma = theta
        fall = np.exp(-gamma * x["loss"])
        return [np.ones_like(fall), -fall, k * x["loss"] * fall]

    def _term(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """How far below eps (B, n), and gamma times the distance from the middle loss."""
        u = np.exp(phi[:, [2]]) * np.expm1(z[0])
        return np.exp(phi[:, [1]] - u), u

    def working_value(self, phi: Array, z: Array) -> Array:
        """Error (B, n)."""
        return phi[:, [0]] - self._term(phi, z)[0]

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Error and derivatives."""
        term, u = self._term(phi, z)
        return phi[:, [0]] - term, np.stack([np.ones_like(term), -term, term * u], axis=1)

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact."""
        term, u = self._term(phi, z)
        out = np.zeros((phi.shape[0], 3, 3))
        pull = weights * term
        out[:, 1, 1] = -pull.sum(axis=1)
        out[:, 1, 2] = out[:, 2, 1] = (pull * u).sum(axis=1)
        out[:, 2, 2] = (pull * u * (1 - u)).sum(axis=1)
        return out

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """k at loss zero from the term at the middle."""
        moved = np.array(phi, dtype=np.float64)
        moved[:, 1] += np.exp(phi[:, 2])
        return super().to_public(moved, log_refs)

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        phi = super().to_working(theta, log_refs)
        phi[:, 1] -= np.exp(phi[:, 2])
        return phi

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and what is taken off it."""
        term = np.exp(-np.exp(eta) * np.expm1(z[0]))
        return np.stack([np.ones_like(term), -term], axis=1)


EXPONENTIAL = Exponential(
    name="downstream-exponential",
    formula="error = eps - k * exp(-gamma * loss)",
    inputs=("loss",),
    target="error",
    parameters=(
        Parameter(
            name="eps", kind="offset", meaning="error of a model that knows nothing (chance), where loss is high"
        ),
        Parameter(name="k", kind="amplitude", meaning="how far below eps the error would be at loss zero"),
        Parameter(
            name="gamma",
            kind="amplitude",
            meaning="rate at which error falls away from eps, per nat of loss",
            lower=float(np.log(0.02)),
            upper=float(np.log(50.0)),
            grid=tuple(float(v) for v in np.log(np.geomspace(0.05, 30.0, 25))),
            scales=(("loss", -1.0),),
        ),
    ),
    source="Gadre et al. 2024, arXiv 2403.08540",
    domain="errors averaged over tasks, from chance downward; losses on one validation set",
    units=UNITS,
)


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Law):
    """error = floor + span / (1 + exp(-slope (loss - middle)))."""

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """Error at a loss."""
        floor, span, slope, middle = theta
        return floor + span * _logistic(slope * (x["loss"] - middle))

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By floor, span, slope and middle."""
        _, span, slope, middle = theta
        share = _logistic(slope * (x["loss"] - middle))
        steep = span * share * (1 - share)
        return [np.ones_like(share), share, steep * (x["loss"] - middle), -steep * slope]

    def _parts(self, phi: Array, z: Array) -> tuple[Array, Array, Array, Array]:
        """Span, exponent v, its derivative by the log of the middle, and the share above the floor."""
        span, slope, middle = (np.exp(phi[:, [j]]) for j in (1, 2, 3))
        v = slope * (np.exp(z[0]) - middle)
        return span, v, -slope * middle, _logistic(v)

    def working_value(self, phi: Array, z: Array) -> Array:
        """Error (B, n)."""
        span, _, _, share = self._parts(phi, z)
        return phi[:, [0]] + span * share

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Error and derivatives."""
        span, v, down, share = self._parts(phi, z)
        steep = span * share * (1 - share)
        columns = [np.ones_like(share), span * share, steep * v, steep * down]
        return phi[:, [0]] + span * share, np.stack(columns, axis=1)

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact."""
        span, v, down, share = self._parts(phi, z)
        steep = weights * span * share * (1 - share)
        bend = steep * (1 - 2 * share)
        entries = {
            (1, 1): weights * span * share,
            (1, 2): steep * v,
            (1, 3): steep * down,
            (2, 2): bend * v * v + steep * v,
            (2, 3): bend * v * down + steep * down,
            (3, 3): bend * down * down + steep * down,
        }
        out = np.zeros((phi.shape[0], 4, 4))
        for (i, j), entry in entries.items():
            out[:, i, j] = out[:, j, i] = entry.sum(axis=1)
        return out


def _logistic(v: Array) -> Array:
    """1 / (1 + exp(-v)) without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * v)))


SIGMOID = Sigmoid(
    name="downstream-sigmoid",
    formula="error = floor + span / (1 + exp(-slope * (loss - middle)))",
    inputs=("loss",),
    target="error",
    parameters=(
        Parameter(name="floor", kind="offset", meaning="error that is left where loss is low"),
        Parameter(name="span", kind="amplitude", meaning="error at chance less floor"),
        Parameter(
            name="slope",
            kind="amplitude",
            meaning="steepness, per nat of loss",
            lower=float(np.log(0.05)),
            upper=float(np.log(500.0)),
            grid=tuple(float(v) for v in np.log(np.geomspace(0.5, 150.0, 16))),
            scales=(("loss", -1.0),),
        ),
        Parameter(
            name="middle",
            kind="amplitude",
            meaning="loss at which the error is halfway",
            lower=float(np.log(0.05)),
            upper=float(np.log(20.0)),
            grid=tuple(float(v) for v in np.linspace(np.log(0.3), np.log(3.0), 21)),
            scales=(("loss", 1.0),),
        ),
    ),
    source="Bhagia et al. 2024, arXiv 2412.04403; Llama 3 relates likelihood to accuracy by a sigmoid: Dubey et al. "
    "2024, arXiv 2407.21783",
    domain="error of one task or family between two levels, both in sight; losses on one validation set, best the "
    "task's own",
    units=UNITS,
)
