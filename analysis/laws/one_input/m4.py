"""M4 of Alabdulmohsin et al. 2022: a power law that leaves a ceiling (random guessing) and ends at a floor.

The law is implicit in the loss. With L = E + (I - E) S it reads S / (1 - S)**alpha = u, u a power of x, so that one
function of (log u, alpha), a sigmoid found by Newton's method, gives the loss and, by implicit differentiation, its
derivatives. This file owns that function and the law.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.laws.base import Law
from analysis.laws.parameter import Parameter
from analysis.laws.sums import MAX_EXPONENT, MIN_EXPONENT, exponent_grid

MIN_ALPHA = 1e-3
"""Working lower bound of alpha: at zero the law is the power law cut off at I, which has a kink."""
MAX_STEPS = 60
"""Newton steps; at most some ten are taken, except at alpha near zero."""
SMALL_STEP = 1e-10
"""A step of this size is the last: the next would be below the rounding."""


def generalised_sigmoid(log_u: Array, alpha: Array) -> tuple[Array, Array]:
    """S in (0, 1) with S / (1 - S)**alpha = u.

    In v = log(S / (1 - S)) the equation is -log(1 + exp(-v)) + alpha log(1 + exp(v)) = log u. The slope of its left
    side, 1 - S + alpha S, is monotone between 1 and alpha, so that Newton's method converges from everywhere; it starts
    on the asymptotes. Equal to min(u, 1) at alpha = 0, to u / (1 + u) at alpha = 1, and to u as u goes to zero.

    Parameters
    ----------
    log_u : Array
        log u.
    alpha : Array
        Above zero; broadcasts against `log_u`.

    Returns
    -------
    s, rest : Array
        S, and 1 - S without cancellation.
    """
    log_u, alpha = np.broadcast_arrays(np.asarray(log_u, dtype=np.float64), np.asarray(alpha, dtype=np.float64))
    alpha = np.maximum(alpha, 1e-12)
    v = np.where(log_u < 0, log_u, log_u / alpha)
    for _ in range(MAX_STEPS):
        inside, outside, s, rest = _logistic(v)
        step = (log_u - inside - alpha * outside) / (rest + alpha * s)
        v = v + step
        if not (np.abs(step) > SMALL_STEP * (1 + np.abs(v))).any():
            break
    return _logistic(v)[2:]


def _logistic(v: Array) -> tuple[Array, Array, Array, Array]:
    """log S, -log(1 - S), S and 1 - S at v = log(S / (1 - S))."""
    small = np.exp(-np.abs(v))
    log_larger = np.log1p(small)  # -log of the larger of S and 1 - S
    larger = 1 / (1 + small)
    up = v > 0
    s, rest = np.where(up, larger, small * larger), np.where(up, small * larger, larger)
    return np.minimum(v, 0.0) - log_larger, np.maximum(v, 0.0) + log_larger, s, rest


def _slopes(log_u: Array, alpha: Array) -> tuple[Array, Array, Array]:
    """S and its derivatives by log u and by alpha, from (1 / S + alpha / (1 - S)) dS = dlog u + log(1 - S) dalpha."""
    s, rest = generalised_sigmoid(log_u, alpha)
    by_log_u = s * rest / (rest + alpha * s)
    return s, by_log_u, np.log(np.maximum(rest, 1e-300)) * by_log_u


@dataclass(frozen=True, kw_only=True)
class M4(Law):
    """(L - E) / (I - L)**alpha = A x**-b, solved for L between E and I.

    Working parameters are E, log(I - E), the logarithm of A (I - E)**alpha, alpha and b: the third is the amplitude of
    the power law that the loss follows near E, which stays put as I goes to infinity (and the law becomes `power`).
    """

    def value(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Array:
        """The loss that solves the law."""
        E, top, A, alpha, b = theta
        log_u = np.log(A) + (alpha - 1) * np.log(top - E) - b * np.log(x["x"])
        return E + (top - E) * generalised_sigmoid(log_u, alpha)[0]

    def jacobian(self, theta: Sequence[Array], x: Mapping[str, Array]) -> Sequence[Array]:
        """By E, I, A, alpha and b."""
        E, top, A, alpha, b = theta
        gap, log_x = top - E, np.log(x["x"])
        s, by_log_u, by_alpha = _slopes(np.log(A) + (alpha - 1) * np.log(gap) - b * log_x, alpha)
        by_gap = s + (alpha - 1) * by_log_u
        return [
            1 - by_gap,
            by_gap,
            gap * by_log_u / A,
            gap * (by_alpha + np.log(gap) * by_log_u),
            -gap * by_log_u * log_x,
        ]

    def working_value(self, phi: Array, z: Array) -> Array:
        """Loss (B, n)."""
        E, log_gap, level, alpha, b = (phi[:, [j]] for j in range(5))
        return E + np.exp(log_gap) * generalised_sigmoid(level - log_gap - b * z[0], alpha)[0]

    def working_jacobian(self, phi: Array, z: Array) -> tuple[Array, Array]:
        """Loss and derivatives."""
        E, log_gap, level, alpha, b = (phi[:, [j]] for j in range(5))
        s, by_log_u, by_alpha = _slopes(level - log_gap - b * z[0], alpha)
        gap = np.exp(log_gap)
        by_level = gap * by_log_u
        columns = [np.ones_like(s), gap * s - by_level, by_level, gap * by_alpha, -by_level * z[0]]
        return E + gap * s, np.stack(columns, axis=1)

    def working_curvature(self, phi: Array, z: Array, weights: Array, jacobian: Array | None = None) -> Array:
        """Exact, from the second derivatives of the sigmoid by log u and alpha."""
        J = self.working_jacobian(phi, z)[1] if jacobian is None else jacobian
        alpha, gap = phi[:, [3]], np.exp(phi[:, [1]])
        s, p = (J[:, 1] + J[:, 2]) / gap, J[:, 2] / gap
        log_rest = np.divide(J[:, 3], J[:, 2], out=np.zeros_like(p), where=J[:, 2] > 0)
        slope = np.exp(log_rest) + alpha * s
        bend = (1 - 2 * s - (alpha - 1) * s * s) / slope**2
        ww = bend * p
        wa = ww * log_rest - s * p / slope
        aa = log_rest * wa - log_rest * p * p * np.exp(-log_rest)
        second = [[s - 2 * p + ww, p - ww, log_rest * p - wa, z[0] * (ww - p)], [ww, wa, -z[0] * ww], [aa, -z[0] * wa]]
        second.append([z[0] ** 2 * ww])
        out = np.zeros((phi.shape[0], 5, 5))
        scaled = weights * gap
        for i, row in enumerate(second, start=1):
            for j, term in enumerate(row, start=i):
                out[:, i, j] = out[:, j, i] = (scaled * term).sum(axis=1)
        return out

    def to_public(self, phi: Array, log_refs: Array) -> Array:
        """I = E + gap, log A = level - alpha log gap + b log x_ref."""
        E, log_gap, level, alpha, b = phi.T
        log_a = level - alpha * log_gap + b * log_refs[0]
        return np.stack([E, E + np.exp(log_gap), np.exp(np.clip(log_a, -700, 700)), alpha, b], axis=1)

    def to_working(self, theta: Array, log_refs: Array) -> Array:
        """The inverse of `to_public`."""
        E, top, A, alpha, b = theta.T
        log_gap = np.log(np.maximum(top - E, 1e-300))
        level = np.log(np.maximum(A, 1e-300)) + alpha * log_gap - b * log_refs[0]
        return np.stack([E, log_gap, level, alpha, b], axis=1)

    def grid(self) -> Array:
        """alpha, b and log u at the middle of the data."""
        axes = (*(self.parameters[j].grid for j in (3, 4)), self.parameters[2].grid)
        return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)

    def grid_shape(self) -> tuple[int, ...]:
        """As `grid`."""
        return tuple(len(self.parameters[j].grid) for j in (3, 4, 2))

    def offset_columns(self) -> tuple[int, ...]:
        """The first column is E."""
        return (0,)

    def basis(self, eta: Array, z: Array) -> Array:
        """A constant, and the sigmoid between floor and ceiling."""
        alpha, b, middle = (eta[:, [j]] for j in range(3))
        s = generalised_sigmoid(middle - b * z[0], alpha)[0]
        return np.stack([np.ones_like(s), s], axis=1)

    def assemble(self, eta: Array, coefficients: Array) -> Array:
        """The gap from the sigmoid's coefficient, the level from both."""
        alpha, b, middle = eta.T
        log_gap = np.log(np.maximum(coefficients[:, 1], 1e-12))
        return np.stack([coefficients[:, 0], log_gap, middle + log_gap, alpha, b], axis=1)


M4_LAW = M4(
    name="m4",
    formula="(L - E) / (I - L)**alpha = A * x**-b",
    inputs=("x",),
    parameters=(
        Parameter(name="E", kind="offset", meaning="irreducible loss, in the loss's unit"),
        Parameter(
            name="I",
            kind="real",
            meaning="loss of random guessing, where the curve starts, in the loss's unit",
            lower=-20.0,
            upper=20.0,
        ),
        Parameter(
            name="A",
            kind="amplitude",
            meaning="amplitude, loss**(1 - alpha) times x**b",
            grid=(-7.0, -5.0, -3.5, -2.5, -1.5, -0.5, 0.5, 2.0),
        ),
        Parameter(
            name="alpha",
            kind="real",
            meaning="how slowly the curve leaves the ceiling; near zero a power law cut off at I",
            lower=MIN_ALPHA,
            upper=20.0,
            grid=(0.1, 0.3, 0.6, 1.0, 1.6, 3.0),
        ),
        Parameter(
            name="b",
            kind="exponent",
            meaning="exponent of x",
            lower=MIN_EXPONENT,
            upper=MAX_EXPONENT,
            grid=exponent_grid(16),
        ),
    ),
    source="M4 of Alabdulmohsin et al. 2022, arXiv 2209.06640",
    domain="x above zero, losses between E and I; I is determined only by runs near the start of the curve",
    units="loss in nats per token; x is whatever column is named, such as flops, params or tokens",
)
