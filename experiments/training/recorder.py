"""What is watched while a run trains: loss windows, throughput, model-FLOPs utilisation and memory.

Values stay on the device and are fetched once a window, so that watching costs no synchronisation a step. It must not
know stores or devices; the worker hands it numbers and writes what it returns.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.training.divergence import DivergenceGuard

ROWS_PER_RUN = 100
"""About how many rows metrics.jsonl gets; between this and twice this many."""


def window_steps(num_steps: int) -> int:
    """Steps of one window: the largest power of two that still gives ROWS_PER_RUN rows."""
    return 1 << max(0, int(math.log2(max(1.0, num_steps / ROWS_PER_RUN))))


@dataclass
class Recorder:
    """Turns fetched losses into rows, one a window.

    A row is a pure function of the run but for its rates, so that a resumed run writes the same rows again.
    """

    num_steps: int
    """Steps of the run."""
    batch_tokens: int
    """Tokens per step."""
    flops_per_step: float
    """Counted training FLOPs of one step."""
    peak_flops_per_second: float | None
    """Peak of the device; None when it is not known, and then no utilisation is given."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; monotonic."""
    window: list[float] = field(default_factory=list)
    """Losses of the window so far, nats per token."""
    guard_first: float | None = None
    """The divergence guard's memory; part of a checkpoint."""
    trained_seconds: float = 0.0
    """Seconds spent on steps, over all attempts."""

    def __post_init__(self) -> None:
        self.every = window_steps(self.num_steps)
        self.guard = DivergenceGuard(self.num_steps, self.guard_first)
        self._since = self.clock()
        self._since_step: int | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on with the same rows."""
        return {
            "window": list(self.window),
            "guard_first": self.guard.first,
            "trained_seconds": self.trained_seconds,
        }

    def is_row(self, step: int) -> bool:
        """Whether a window ends after `step` steps."""
        return step % self.every == 0 or step == self.num_steps

    def fetch(self, losses: Sequence[float], *, step: int) -> None:
        """Take fetched losses of the steps up to `step`; time since the last call is training time."""
        self.window.extend(losses)
        now = self.clock()
        self.trained_seconds += now - self._since
        self._since = now

    def resume_clock(self) -> None:
        """Leave out the time since the last fetch (a checkpoint was written)."""
        self._since = self.clock()

    def row(self, *, step: int, learning_rate: float, grad_norm: float | None) -> tuple[dict[str, Any], str | None]:
        """The row of the window that ends after `step` steps, and the guard's verdict."""
        loss = math.fsum(self.window) / len(self.window)
        first_step = step - len(self.window)
        verdict = self.guard.verdict(step=step, loss=loss)
        rate = step * self.batch_tokens / self.trained_seconds if self.trained_seconds else None
        row: dict[str, Any] = {
            "step": step,
            "tokens": step * self.batch_tokens,
            "flops": step * self.flops_per_step,
            "train_loss": loss if math.isfinite(loss) else None,
            "train_loss_tokens": (step - first_step) * self.batch_tokens,
            "lr": learning_rate,
            "grad_norm": grad_norm if grad_norm is None or math.isfinite(grad_norm) else None,
            "tokens_per_second": rate,
            "mfu": self.utilisation(rate),
            "memory_bytes": peak_memory_bytes(),
        }
        self.window.clear()
        return row, verdict

    def utilisation(self, tokens_per_second: float | None) -> float | None:
        """Counted FLOPs per second over the device's peak, a fraction; None when either is unknown."""
        if tokens_per_second is None or not self.peak_flops_per_second:
            return None
        return tokens_per_second * self.flops_per_step / self.batch_tokens / self.peak_flops_per_second


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
