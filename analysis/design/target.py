"""What runs are added for: a loss or an exponent, its value, and its gradient in a law's working parameters.

It owns targets and the gradients of predictions at any rows; it must not know designs. Shapes: B draws of p working
parameters, n rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.fitting.fit import Fit
from analysis.laws.allocation import FlopsPerToken, exponents, optimum, six_n

Exponent = Literal["a", "b"]
"""N_opt ~ C^a, D_opt ~ C^b."""
STEP = 1e-4
"""Step of central differences in working parameters."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be known best: the loss at an optimum, the loss at a point, or an exponent."""

    flops: float | None = None
    """Loss at the compute-optimal point of this C."""
    params: float | None = None
    """Loss at this N, with `tokens`."""
    tokens: float | None = None
    """Loss at this D, with `params`."""
    exponent: Exponent | None = None
    """This exponent of the frontier."""

    def __post_init__(self) -> None:
        point = self.params is not None and self.tokens is not None
        if [self.flops is not None, point, self.exponent is not None].count(True) != 1:
            raise UserError("a target is one of flops=C, params=N,tokens=D, or an exponent a or b")
        if self.exponent is not None and self.exponent not in get_args(Exponent):
            raise UserError(f"there is no exponent {self.exponent!r}; --for takes a or b")
        for name in ("flops", "params", "tokens"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UserError(f"{name} of the target is {value:g}; give a finite number above zero")

    @property
    def point(self) -> dict[str, Array]:
        """params and tokens of a target that is the loss at a point, as one row."""
        return {"params": np.array([self.params], dtype=float), "tokens": np.array([self.tokens], dtype=float)}

    def to_dict(self) -> dict[str, float | str]:
        """Plain JSON: what was asked for."""
        every = {name: getattr(self, name) for name in ("flops", "params", "tokens", "exponent")}
        return {name: value for name, value in every.items() if value is not None}


def values(fit: Fit, phi: Array, x: Mapping[str, Array]) -> Array:
    """Predictions at some rows.

    Parameters
    ----------
    fit : Fit
        Of the law.
    phi : Array, shape (B, p)
        Working parameters.
    x : mapping
        The law's inputs, each of shape (n,).

    Returns
    -------
    Array, shape (B, n)
        log L; L for raw residuals.
    """
    loss = fit.law.working_value(phi, _scaled(fit, x))
    return np.asarray(np.log(loss) if fit.predictor.log_residuals else loss)


def gradients(fit: Fit, phi: Array, x: Mapping[str, Array]) -> Array:
    """Derivatives of `values` by the working parameters.

    Parameters
    ----------
    fit : Fit
        Of the law.
    phi : Array, shape (B, p)
        Working parameters.
    x : mapping
        The law's inputs, each of shape (n,).

    Returns
    -------
    Array, shape (B, n, p)
        The derivatives.
    """
    loss, jacobian = fit.law.working_jacobian(phi, _scaled(fit, x))
    if fit.predictor.log_residuals:
        jacobian = jacobian / np.maximum(loss, 1e-300)[:, None, :]
    return np.ascontiguousarray(jacobian.transpose(0, 2, 1))


def _scaled(fit: Fit, x: Mapping[str, Array]) -> Array:
    """Logarithms of the inputs over the law's references, shape (inputs, n)."""
    return np.asarray(np.log(np.stack([x[name] for name in fit.law.inputs])) - fit.predictor.log_refs[:, None])


def target_values(fit: Fit, phi: Array, target: Target, per_token: FlopsPerToken) -> Array:
    """The target.

    Parameters
    ----------
    fit : Fit
        Of the law.
    phi : Array, shape (B, p)
        Working parameters.
    target : Target
        What is wanted.
    per_token : callable
        N -> training FLOPs per token, for the optimum of a C.

    Returns
    -------
    Array, shape (B,)
        log loss, loss (for raw residuals) or exponent.
    """
    law, refs = fit.law, fit.predictor.log_refs
    if target.exponent is not None:
        return _exponent(fit, law.to_public(phi, refs), target.exponent, per_token)
    if target.flops is None:
        return np.asarray(values(fit, phi, target.point)[:, 0])
    loss = optimum(law, law.to_public(phi, refs), np.array([np.log(target.flops)]), per_token)[2][:, 0]
    return np.asarray(np.log(loss) if fit.predictor.log_residuals else loss)


def target_gradients(fit: Fit, phi: Array, target: Target, per_token: FlopsPerToken) -> Array:
    """Derivatives of `target_values` by the working parameters.

    The loss at the optimum of C moves with the parameters at fixed N and D only (envelope theorem); exponents are
    differentiated by central differences.

    Parameters
    ----------
    fit : Fit
        Of the law.
    phi : Array, shape (B, p)
        Working parameters.
    target : Target
        What is wanted.
    per_token : callable
        N -> training FLOPs per token, for the optimum of a C.

    Returns
    -------
    Array, shape (B, p)
        The derivatives.
    """
    if target.exponent is not None:
        return _central_differences(fit, phi, target, per_token)
    if target.flops is None:
        return np.asarray(gradients(fit, phi, target.point)[:, 0])
    law, refs = fit.law, fit.predictor.log_refs
    out = np.empty_like(phi)
    log_n, log_d, _ = optimum(law, law.to_public(phi, refs), np.array([np.log(target.flops)]), per_token)
    for b in range(phi.shape[0]):
        point = {"params": np.exp(log_n[b]), "tokens": np.exp(log_d[b])}
        out[b] = gradients(fit, phi[b : b + 1], point)[0, 0]
    return out


def _central_differences(fit: Fit, phi: Array, target: Target, per_token: FlopsPerToken) -> Array:
    out = np.empty_like(phi)
    for j in range(phi.shape[1]):
        step = STEP * np.maximum(np.abs(phi[:, j]), 0.1)
        up, down = phi.copy(), phi.copy()
        up[:, j] += step
        down[:, j] -= step
        ends = [target_values(fit, moved, target, per_token) for moved in (up, down)]
        out[:, j] = (ends[0] - ends[1]) / (2 * step)
    return out


def _exponent(fit: Fit, theta: Array, name: Exponent, per_token: FlopsPerToken) -> Array:
    """a or b over the range of compute that was fitted, shape (B,)."""
    assert fit.frontier_estimates is not None
    low, high = np.log(fit.frontier_estimates.flops_range)
    a, b = exponents(fit.law, theta, (float(low), float(high)), None if per_token is six_n else per_token)
    return a if name == "a" else b
