"""One free parameter of a law: its kind, bounds, starting values, and how it carries the units of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["amplitude", "offset", "exponent", "real"]
"""An amplitude is positive and fitted by its logarithm; an offset is at least zero and linear; exponents and real
numbers are fitted as they stand."""
LOG_SPAN = 60.0
"""Working bound of a logarithm: amplitudes between exp(-60) and exp(60) times the loss's own scale."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One free parameter of a law."""

    name: str
    """Name used in tables and JSON."""
    kind: Kind
    """How it is fitted."""
    meaning: str
    """One line: symbol, role and unit."""
    lower: float = -np.inf
    """Smallest working value (a logarithm for an amplitude)."""
    upper: float = np.inf
    """Largest working value."""
    grid: tuple[float, ...] = ()
    """Working values from which the search starts; empty for parameters solved linearly."""
    scales: tuple[tuple[str, str | float], ...] = ()
    """(input, power): an amplitude grows as input**power when the input's unit shrinks; power is a parameter's name
    or a number."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Working bounds with the defaults of the kind filled in."""
        if self.kind != "amplitude":
            return max(self.lower, 0.0 if self.kind == "offset" else -np.inf), self.upper
        lower = self.lower if np.isfinite(self.lower) else -LOG_SPAN
        return lower, self.upper if np.isfinite(self.upper) else LOG_SPAN
