"""The divergence guard: when a run is not worth going on with."""

from __future__ import annotations

import math
from dataclasses import dataclass

DIVERGED_ABOVE_START = 1.0
"""A loss this many nats above the first window's, after the first tenth of the run, is a divergence."""


@dataclass
class DivergenceGuard:
    """Stops a run whose loss is not finite, or has risen far above where it began."""

    num_steps: int
    """Steps of the whole run."""
    first: float | None = None
    """Mean loss of the first window, nats per token."""

    def verdict(self, *, step: int, loss: float) -> str | None:
        """Why the run is to be stopped, or None."""
        if not math.isfinite(loss):
            return f"the loss became {loss} by step {step}; lower the learning rate"
        if self.first is None:
            self.first = loss
        elif step > self.num_steps // 10 and loss > self.first + DIVERGED_ABOVE_START:
            return f"the loss rose from {self.first:.3f} to {loss:.3f} nats by step {step}; lower the learning rate"
        return None
