"""One fitting problem in working units: a law, centred log inputs, losses, weights and an objective; values and
derivatives.

Everything is vectorised over many parameter vectors, each with its own row weights (bootstrap draws). The solver sees
this and no table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import Law
from analysis.objectives import Objective

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """min over phi of sum_i w_i rho(r_i(phi)), r = log L(phi) - log y, or L(phi) - y."""

    law: Law
    """The law."""
    z: Array
    """Log inputs less `log_refs`, shape (k, n)."""
    log_refs: Array
    """Mean log input, shape (k,): what makes a fit independent of units."""
    y: Array
    """Losses, shape (n,)."""
    weights: Array
    """Row weights, shape (n,)."""
    objective: Objective
    """The objective."""
    log_residuals: bool
    """Residuals of log losses (True) or of losses."""
    lower: Array
    """Working lower bounds, shape (p,)."""
    upper: Array
    """Working upper bounds, shape (p,)."""

    @property
    def num_rows(self) -> int:
        """Rows."""
        return self.y.size

    @property
    def num_params(self) -> int:
        """Free parameters."""
        return len(self.law.parameters)

    def rows(self, keep: NDArray[np.intp]) -> Problem:
        """The same problem on some rows, in the same working units."""
        return replace(self, z=np.ascontiguousarray(self.z[:, keep]), y=self.y[keep], weights=self.weights[keep])

    def with_objective(self, objective: Objective) -> Problem:
        """The same rows under another objective."""
        return replace(self, objective=objective)

    def residuals(self, phi: Array) -> Array:
        """Residuals, shape (B, n); +inf where a log residual meets a loss that is not positive."""
        value = self.law.working_value(phi, self.z)
        return self._residuals_of(value)

    def _residuals_of(self, value: Array) -> Array:
        if not self.log_residuals:
            return value - self.y
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(value > 0, np.log(np.maximum(value, 1e-300)), np.inf) - np.log(self.y)

    def value(self, phi: Array, weights: Array) -> Array:
        """Objective, shape (B,); weights of shape (B, n) or (n,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            rho = self.objective.rho(self.residuals(phi))
            total = rho @ weights if weights.ndim == 1 else np.einsum("bn,bn->b", rho, weights)
        return np.where(np.isfinite(total), total, np.inf)

    def scaled_jacobian(self, phi: Array) -> tuple[Array, Array, Array, Array]:
        """Residuals r (B, n), dr/dphi (B, p, n), and the factors c, d with d2r = c * d2L - d * (dr dr^T)."""
        value, jacobian = self.law.working_jacobian(phi, self.z)
        r = self._residuals_of(value)
        if not self.log_residuals:
            return r, jacobian, np.ones_like(value), np.zeros_like(value)
        inverse = 1.0 / np.maximum(value, 1e-300)
        return r, jacobian * inverse[:, None, :], inverse, np.ones_like(value)

    def derivatives(self, phi: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Gradient (B, p), Hessian (B, p, p) and the positive Gauss-Newton scale of each parameter (B, p)."""
        r, J, c, d = self.scaled_jacobian(phi)
        wpsi = weights * self.objective.psi(r)
        gradient = np.matmul(J, wpsi[:, :, None])[:, :, 0]
        inner = weights * self.objective.slope(r) - wpsi * d
        hessian = np.matmul(J * inner[:, None, :], J.transpose(0, 2, 1))
        hessian += self.law.working_curvature(phi, self.z, wpsi * c)
        scale = np.einsum("bpn,bpn,bn->bp", J, J, np.broadcast_to(weights, r.shape), optimize=False)
        return gradient, hessian, scale
