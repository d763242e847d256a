"""How runs are executed where a user decides it: compiled or not, which attention, threads, micro-batches.

None of it is part of a run's identity, since losses agree to rounding. It must not know runs or sweeps; torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from models.config.checks import require_count, require_name
from models.config.transformer import ATTENTION_BACKENDS, AttentionBackend


@dataclass(frozen=True, kw_only=True)
class ExecutionChoices:
    """What a user forces; all else is chosen by device and precision."""

    compile: bool = False
    """Train and validate by graphs of torch.compile, one for each shape; pays where runs are long."""
    attention: AttentionBackend | None = None
    """sdpa (torch's fused kernels), explicit (two products and a softmax) or blockwise (float32 on a CPU, causal);
    None: by device and precision."""
    threads: int | None = None
    """Threads of a worker; None: 1 on a CPU, 4 beside a GPU."""
    micro_batch: int | None = None
    """Sequences held in memory at a time, whose gradients add up to the batch's; None: the whole batch."""
    stacked: int | Literal["auto", "off"] = "off"
    """Runs of one shape, batch and number of steps that a worker trains together, at most: a number; auto, by the work
    of a step; or off."""

    def __post_init__(self) -> None:
        if self.attention is not None:
            require_name("execution.attention", self.attention, ATTENTION_BACKENDS)
        for name in ("threads", "micro_batch"):
            if getattr(self, name) is not None:
                require_count(f"execution.{name}", getattr(self, name))
        if isinstance(self.stacked, str):
            require_name("execution.stacked", self.stacked, ("auto", "off"))
        else:
            require_count("execution.stacked", self.stacked)

    @property
    def forced(self) -> dict[str, Any]:
        """What differs from the defaults, as plain data."""
        pairs = ((item.name, getattr(self, item.name), item.default) for item in fields(self))
        return {name: value for name, value, default in pairs if value != default}

    def in_words(self) -> str:
        """The choices as one line: `compiled, attention by device and precision, 1 thread, whole batches`."""
        threads = "threads by device" if self.threads is None else f"{self.threads} threads a worker"
        held = "whole batches" if self.micro_batch is None else f"{self.micro_batch} sequences at a time"
        attention = "by device and precision" if self.attention is None else self.attention
        together = "" if self.stacked == "off" else f", stacked {self.stacked}"
        return f"{'compiled' if self.compile else 'eager'}, attention {attention}, {threads}, {held}{together}"
