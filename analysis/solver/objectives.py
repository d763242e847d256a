"""What a fit minimises: a sum over rows of squared, Huber or absolute residuals, with its first and second derivatives.

Owns the objectives and all that depends on which of them is used; residuals come from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.univariate import minimum

ObjectiveName = Literal["huber", "lad", "squared"]
"""Huber's function, least absolute deviations, least squares."""
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)

MIN_DELTA = 0.05
"""A huber delta below this fraction of the typical residual is reached through wider ones."""
FIRST_WIDTH, LAST_WIDTH = 0.1, 1e-9
"""Widths of the first and last smoothing of lad, as fractions of the typical residual."""
GRADUATED_WIDTH = 4.0
"""Width of the first smoothing of a graduated descent: nearly least squares, without the kinks of few residuals (Blake
and Zisserman 1987, graduated non-convexity)."""
NO_RESIDUAL = 1e-3
"""What counts as the typical residual where all residuals vanish."""
LIKELIHOOD_SPAN, LIKELIHOOD_STEPS = 20.0, 90
"""Range of the logarithm of the scale, on either side of that of lad, and golden-section steps in it: to 1e-17."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The term rho(r) that is summed over the residuals r.

    huber is r**2 / 2 up to delta, then delta (|r| - delta / 2) (Huber 1964); squared is r**2; lad is |r|. The terms are
    always summed, never averaged.
    """

    name: ObjectiveName = "huber"
    """Which objective."""
    delta: float = 1e-3
    """Where huber turns linear, in the unit of the residuals; for lad the width of the smoothing (0 at the end)."""

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise UserError(f"no objective is called {self.name!r}; there are {', '.join(OBJECTIVES)}")
        if self.name == "huber" and not (np.isfinite(self.delta) and self.delta > 0):
            raise UserError(f"delta is {self.delta}, but the huber objective needs a finite delta above zero")

    @classmethod
    def named(cls, name: str, delta: float | None) -> Objective:
        """The objective of that name.

        Parameters
        ----------
        name : str
            huber, lad or squared.
        delta : float or None
            Where huber turns linear; the other objectives have no use for it.

        Returns
        -------
        Objective
            The objective, not smoothed.

        Raises
        ------
        UserError
            When no objective has that name, or huber's delta is not above zero.
        """
        return cls(name=cast(ObjectiveName, name), delta=(delta or 0.0) if name == "huber" else 0.0)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Objective:
        """The objective of a saved fit, from its `options`."""
        return cls.named(options["objective"], options["delta"])

    @property
    def is_quadratic(self) -> bool:
        """Whether the term is a parabola everywhere, so that neither smoothing nor reweighting is needed."""
        return self.name == "squared"

    def rho(self, r: Array) -> Array:
        """The term itself, for residuals of any shape."""
        if self.name == "squared":
            return r * r
        size = np.abs(r)
        if self.name == "lad" and self.delta <= 0:
            return size
        inner = np.minimum(size, self.delta)
        out = inner * (size - 0.5 * inner)
        return out if self.name == "huber" else out / self.delta

    def psi(self, r: Array) -> Array:
        """First derivative of rho."""
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

    def mean_slope(self, r: Array) -> Array:
        """Second derivative of rho, averaged over a window of the residuals' own width about each of them.

        Few residuals fall inside delta, so that the second derivative itself says little. The window is that of the
        usual estimate of a density at zero: 1.06 robust standard deviations times n**(-1/5) (Silverman 1986, 3.28).

        Parameters
        ----------
        r : Array, shape (n,)
            Residuals.

        Returns
        -------
        Array, shape (n,)
            The mean second derivative at each residual.
        """
        if self.is_quadratic:
            return np.full_like(r, 2.0)
        window = 1.06 * 1.4826 * float(np.median(np.abs(r))) * max(r.size, 2) ** -0.2 + 1e-300
        psi = self.smoothed(0.0).psi
        return np.asarray((psi(r + window) - psi(r - window)) / (2 * window))

    def irls(self, r: Array, floor: float) -> Array:
        """Weights psi(r) / r with which squared residuals share the objective's gradient.

        Parameters
        ----------
        r : Array
            Residuals.
        floor : float
            Residuals below it all count alike.

        Returns
        -------
        Array
            Weights in the shape of `r`.
        """
        if self.name == "squared":
            return np.full_like(r, 2.0)
        return 1.0 / np.maximum(np.abs(r), max(self.delta if self.name == "huber" else 0.0, floor))

    def majorising_slope(self, r: Array) -> Array:
        """psi(r) / r: the curvature of the parabola that touches rho at r and lies nowhere below it.

        A step with it descends where steps with `slope` go back and forth across the kinks of a robust objective.
        """
        if self.is_quadratic:
            return np.full_like(r, 2.0)
        width = max(self.delta, 1e-300)
        inside = 1.0 / np.maximum(np.abs(r), width)
        return np.asarray(inside * width if self.name == "huber" else inside)

    def smoothed(self, width: float) -> Objective:
        """The objective that the solver walks on: lad smoothed within `width`, the others as they are."""
        return Objective(name=self.name, delta=width) if self.name == "lad" else self

    def widening(self, typical: float, *, graduated: bool = False) -> tuple[Objective, ...]:
        """Smoother objectives through which a minimum is reached, widest first.

        Parameters
        ----------
        typical : float
            Median size of the residuals at the start.
        graduated : bool
            Whether to begin where all residuals count by their square, even if the objective can be minimised as it is.

        Returns
        -------
        tuple of Objective
            The last is the objective itself, or lad smoothed within a billionth of the typical residual. Empty where
            the objective can be minimised as it is.
        """
        if self.is_quadratic or (not graduated and self.name == "huber" and self.delta > MIN_DELTA * typical):
            return ()
        scale = typical or NO_RESIDUAL
        last = self.delta if self.name == "huber" else LAST_WIDTH * scale
        first = max((GRADUATED_WIDTH if graduated else FIRST_WIDTH) * scale, 4.0 * last)
        widths = np.geomspace(first, last, 1 + int(np.ceil(np.log(first / last) / np.log(4.0) - 1e-9)))
        return tuple(Objective(name=self.name, delta=float(width)) for width in widths)

    def share_inside(self, r: Array, num_params: int) -> float:
        """The share of residuals on which the term is a parabola, beyond those that any fit passes through.

        Parameters
        ----------
        r : Array, shape (n,)
            Residuals, more than there are parameters.
        num_params : int
            Free parameters: that many residuals of a robust fit vanish.

        Returns
        -------
        float
            Between 0 (lad) and 1 (squared).
        """
        if self.is_quadratic:
            return 1.0
        if self.name == "lad":
            return 0.0
        inside = float((np.abs(r) <= self.delta).sum())
        return max(inside - num_params, 0.0) / (r.size - num_params)

    def log_likelihood(self, value: float, weights: Array) -> float:
        """The greatest log-likelihood of residuals, over the scale s of their density.

        The density is exp(-rho(r) / s) / Z(s), of which the fit is the maximum for every s: normal for squared
        residuals, Laplace for lad, and for huber
        Z(s) = sqrt(2 pi s) erf(delta / sqrt(2 s)) + 2 s / delta exp(-delta**2 / (2 s)).

        Parameters
        ----------
        value : float
            The sum of terms at the fit.
        weights : Array, shape (n,)
            Row weights.

        Returns
        -------
        float
            Infinite when the law runs through every run.
        """
        n = float(weights.sum())
        if value <= 0:
            return math.inf
        if self.is_quadratic:
            return -0.5 * n * (math.log(2 * math.pi * value / n) + 1)
        if self.name == "lad":
            return -n * (math.log(2 * value / n) + 1)
        delta = self.delta

        def negative(log_s: float) -> float:
            s = math.exp(log_s)
            ratio = delta / math.sqrt(2 * s)
            tail = 2 * s / delta * math.exp(-min(ratio * ratio, 700.0))
            return n * math.log(math.sqrt(2 * math.pi * s) * math.erf(ratio) + tail) + value / s

        centre = np.array([math.log(value / n)])
        best = minimum(
            lambda log_s: np.array([negative(float(log_s[0]))]),
            centre - LIKELIHOOD_SPAN,
            centre + LIKELIHOOD_SPAN,
            steps=LIKELIHOOD_STEPS,
        )
        return -negative(float(best[0]))
