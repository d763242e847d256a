"""Distillation (Busbridge et al. 2025): what a student keeps above its teacher's loss.

L = T + T**-c0 (1 + (T / (S d1))**(1 / f1))**(-c1 f1) (A / params**alpha + B / tokens**beta)**gamma, with T the
teacher's loss and S the loss that the student would have reached without a teacher, both measured or from a law.
What identifies it: teachers better and worse than the student (d1, f1), students of several sizes on several numbers of
tokens (A to gamma); gamma and the exponents trade for each other where the terms span less than a decade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT


@dataclass(frozen=True, kw_only=True)
class Distillation(Law):
    """Student's loss from teacher, size and data."""

    def centred_inputs(self) -> tuple[str, ...]:
        """Params and tokens; losses are compared."""
        return ("params", "tokens")

    def _parts(self, theta: Sequence[Array], x: Mapping[str, Array]) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Log ratio u, softplus(u / f1), its slope, size term, data term, and what is above the teacher."""
        c0, c1, d1, f1, A, B, alpha, beta, gamma = theta
        u = np.log(x["teacher_loss"]) - np.log(x["student_loss"]) - np.log(d1)
        soft = np.logaddexp(0.0, u / f1)
        slope = 0.5 * (1 + np.tanh(0.5 * u / f1))
        size, data = A * x["params"] ** -alpha, B * x["tokens"] ** -beta
        above = np.exp(-c0 * np.log(x["teacher_loss"]) - c1 * f1 * soft + gamma * np.log(size + data))
        return u, soft, slope, size, data, above

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The student's loss."""
        return np.asarray(x["teacher_loss"] + self._parts(theta, x)[-1])

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By every parameter."""
        _, c1, d1, f1, A, B, _, _, gamma = theta
        u, soft, slope, size, data, above = self._parts(theta, x)
        share = gamma * above / (size + data)
        return [
            -above * np.log(x["teacher_loss"]),
            -above * f1 * soft,
            above * c1 * slope / d1,
            above * c1 * (slope * u / f1 - soft),
            share * size / A,
            share * data / B,
            -share * size * np.log(x["params"]),
            -share * data * np.log(x["tokens"]),
            above * np.log(size + data),
        ]

    def basis(self, eta: Array, z: Array) -> Array:
        """The teacher, and the two terms at gamma one."""
        full = np.insert(eta, [4, 4], 0.0, axis=1)
        x = dict(zip(self.inputs, np.exp(z), strict=True))
        theta = self._public_at_unit_scale(full)
        one, zero = np.ones_like(theta[0]), np.full_like(theta[0], 1e-300)
        first, second = ([*theta[:4], a, b, *theta[6:8], one] for a, b in ((one, zero), (zero, one)))
        teacher = np.broadcast_to(x["teacher_loss"], (eta.shape[0], z.shape[1]))
        return np.stack([teacher, self._parts(first, x)[-1], self._parts(second, x)[-1]], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """A and B from the coefficients of the two terms."""
        logs = np.log(np.maximum(coefficients[:, 1:], 1e-12))
        return np.concatenate([eta[:, :4], logs, eta[:, 4:]], axis=1)


def _real(name: str, meaning: str, *grid: float) -> Parameter:
    return Parameter(name=name, kind="real", meaning=meaning, lower=-30.0, upper=30.0, grid=grid)


def _exponent(name: str, meaning: str, *grid: float) -> Parameter:
    return Parameter(name=name, kind="exponent", meaning=meaning, lower=MIN_EXPONENT, upper=MAX_EXPONENT, grid=grid)


DISTILLATION = Distillation(
    name="distillation",
    formula="L = teacher_loss + teacher_loss**-c0 * (1 + (teacher_loss / (student_loss * d1))**(1 / f1))**(-c1 * f1) "
    "* (A / params**alpha + B / tokens**beta)**gamma",
    inputs=("teacher_loss", "student_loss", "params", "tokens"),
    parameters=(
        _real("c0", "exponent of the teacher's loss", 0.0, 2.5),
        Parameter(
            name="c1",
            kind="amplitude",
            meaning="how much less a student keeps above a teacher that is the worse one",
            lower=-8.0,
            upper=10.0,
            grid=(0.0, 3.0, 6.0),
        ),
        Parameter(
            name="d1",
            kind="amplitude",
            meaning="ratio of the losses at which the teacher is too good",
            lower=-3.0,
            upper=3.0,
            grid=(0.0, 0.3),
        ),
        Parameter(
            name="f1",
            kind="amplitude",
            meaning="width of that change, in log ratio",
            lower=-6.0,
            upper=2.0,
            grid=(-2.4,),
        ),
        Parameter(name="A", kind="amplitude", meaning="size term, params**alpha", scales=(("params", "alpha"),)),
        Parameter(name="B", kind="amplitude", meaning="data term, tokens**beta", scales=(("tokens", "beta"),)),
        _exponent("alpha", "exponent of params before gamma", 0.2, 0.5),
        _exponent("beta", "exponent of tokens before gamma", 0.2, 0.5),
        _exponent("gamma", "exponent of the sum", 1.0),
    ),
    source="Busbridge et al. 2025, arXiv 2502.08606, equation 8",
    domain="student_loss is that of the same student trained without a teacher on as many tokens",
    units="losses in nats per token; params and tokens are counts of the student",
    by_default=False,
)
