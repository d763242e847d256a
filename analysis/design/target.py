"""What runs are added for: a loss or an exponent, its value and its gradient in a law's working parameters.

Owns targets and the gradients of predictions at any rows; it must not know designs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.laws.allocation import FlopsPerToken, exponents, optimum, six_n
from analysis.laws.base import Law

STEP = 1e-4
"""Step of central differences in working parameters."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be known best."""

    flops: float | None = None
    """Loss at the compute-optimal point of this C."""
    params: float | None = None
    """Loss at this N, with `tokens`."""
    tokens: float | None = None
    """Loss at this D, with `params`."""
    exponent: str | None = None
    """"a" or "b" of N_opt ~ C^a, D_opt ~ C^b."""

    def __post_init__(self) -> None:
        point = self.params is not None and self.tokens is not None
        if [self.flops is not None, point, self.exponent is not None].count(True) != 1:
            raise UserError("a target is one of flops=C, params=N,tokens=D, or an exponent a or b")
        if self.exponent not in (None, "a", "b"):
            raise UserError(f"there is no exponent {self.exponent!r}; --for takes a or b")
        for name in ("flops", "params", "tokens"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UserError(f"{name} of the target is {value:g}; give a finite number above zero")


def values(fit: Fit, phi: Array, x: Mapping[str, Array]) -> Array:
    """log L (L for raw residuals) at the rows of `x` by working parameters (B, p), shape (B, n)."""
    z = np.log(np.stack([x[name] for name in fit.law.inputs])) - fit.predictor.log_refs[:, None]
    loss = fit.law.working_value(phi, z)
    return np.asarray(np.log(loss) if fit.predictor.log_residuals else loss)


def gradients(fit: Fit, phi: Array, x: Mapping[str, Array]) -> Array:
    """Derivatives of `values` by the working parameters, shape (B, n, p)."""
    z = np.log(np.stack([x[name] for name in fit.law.inputs])) - fit.predictor.log_refs[:, None]
    loss, jacobian = fit.law.working_jacobian(phi, z)
    if fit.predictor.log_residuals:
        jacobian = jacobian / np.maximum(loss, 1e-300)[:, None, :]
    return np.ascontiguousarray(jacobian.transpose(0, 2, 1))


def target_values(fit: Fit, phi: Array, target: Target, per_token: FlopsPerToken) -> Array:
    """The target by working parameters (B, p), shape (B,): log loss, loss or exponent."""
    law, refs = fit.law, fit.predictor.log_refs
    if target.exponent is not None:
        return _exponent(fit, law, law.to_public(phi, refs), target.exponent, per_token)
    if target.flops is None:
        return values(fit, phi, _point(target))[:, 0]
    loss = optimum(law, law.to_public(phi, refs), np.array([np.log(target.flops)]), per_token)[2][:, 0]
    return np.asarray(np.log(loss) if fit.predictor.log_residuals else loss)


def target_gradients(fit: Fit, phi: Array, target: Target, per_token: FlopsPerToken) -> Array:
    """Derivatives of `target_values` by the working parameters, shape (B, p).

    The loss at the optimum of C moves with the parameters at fixed N and D only (envelope theorem).
    """
    law, refs = fit.law, fit.predictor.log_refs
    if target.exponent is None and target.flops is None:
        return gradients(fit, phi, _point(target))[:, 0]
    out = np.empty_like(phi)
    if target.flops is not None:
        log_n, log_d, _ = optimum(law, law.to_public(phi, refs), np.array([np.log(target.flops)]), per_token)
        for b in range(phi.shape[0]):
            point = {"params": np.exp(log_n[b]), "tokens": np.exp(log_d[b])}
            out[b] = gradients(fit, phi[b : b + 1], point)[0, 0]
        return out
    for j in range(phi.shape[1]):
        step = STEP * np.maximum(np.abs(phi[:, j]), 0.1)
        ends = []
        for sign in (1, -1):
            moved = phi.copy()
            moved[:, j] += sign * step
            ends.append(target_values(fit, moved, target, per_token))
        out[:, j] = (ends[0] - ends[1]) / (2 * step)
    return out


def _point(target: Target) -> dict[str, Array]:
    return {"params": np.array([target.params], dtype=float), "tokens": np.array([target.tokens], dtype=float)}


def _exponent(fit: Fit, law: Law, theta: Array, name: str, per_token: FlopsPerToken) -> Array:
    assert fit.frontier_estimates is not None
    low, high = np.log(fit.frontier_estimates.flops_range)
    pair = exponents(law, theta, (float(low), float(high)), None if per_token is six_n else per_token)
    return pair["ab".index(name)]
