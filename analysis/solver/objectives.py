"""What a fit minimises: a sum over rows of squared, Huber or absolute residuals, with its first and second derivatives.

Owns the objectives and nothing else; residuals come from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError

OBJECTIVES = ("huber", "lad", "squared")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """rho(r): huber = r**2 / 2 up to delta, then delta (|r| - delta / 2); squared = r**2; lad = |r|. Always summed."""

    name: str = "huber"
    """"huber", "lad" or "squared"."""
    delta: float = 1e-3
    """Where huber turns linear, in the unit of the residuals; for lad the width of the smoothing (0 at the end)."""

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise UserError(f"no objective is called {self.name!r}; there are {', '.join(OBJECTIVES)}")
        if self.name == "huber" and not (np.isfinite(self.delta) and self.delta > 0):
            raise UserError(f"delta is {self.delta}, but the huber objective needs a finite delta above zero")

    def rho(self, r: Array) -> Array:
        """Summand."""
        if self.name == "squared":
            return r * r
        size = np.abs(r)
        if self.name == "lad" and self.delta <= 0:
            return size
        inner = np.minimum(size, self.delta)
        out = inner * (size - 0.5 * inner)
        return out if self.name == "huber" else out / self.delta

    def psi(self, r: Array) -> Array:
        """Derivative of rho."""
        if self.name == "squared":
            return 2.0 * r
        if self.name == "lad":
            return np.clip(r / self.delta, -1.0, 1.0) if self.delta > 0 else np.sign(r)
        return np.clip(r, -self.delta, self.delta)

    def slope(self, r: Array) -> Array:
        """Second derivative of rho."""
        if self.name == "squared":
            return np.full_like(r, 2.0)
        inside = (np.abs(r) <= self.delta).astype(np.float64)
        return inside / self.delta if self.name == "lad" and self.delta > 0 else inside

    def irls(self, r: Array, floor: float) -> Array:
        """Weights psi(r) / r with which squared residuals share the objective's gradient."""
        if self.name == "squared":
            return np.full_like(r, 2.0)
        return 1.0 / np.maximum(np.abs(r), max(self.delta if self.name == "huber" else 0.0, floor))

    def smoothed(self, width: float) -> Objective:
        """The objective that the solver walks on: lad smoothed within `width`, the others as they are."""
        return Objective(name=self.name, delta=width) if self.name == "lad" else self
