"""How runs are executed: compiled or not, which attention, threads, micro-batches, together or alone.

None of it is part of a run's identity, since losses agree to rounding. It must not know runs or sweeps; torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from models.config.checks import require_count, require_name
from models.config.transformer import ATTENTION_BACKENDS, AttentionBackend
from models.errors import UserError

NOT_REPLAYED = ("micro_batch", "stacked")
"""Choices that `cuda_graphs` excludes."""


def default_threads(device: str) -> int:
    """Threads of a worker where nobody decides: 1 on a CPU, 4 beside a GPU."""
    return 1 if device == "cpu" else 4


@dataclass(frozen=True, kw_only=True)
class ExecutionChoices:
    """What is decided for a run; a field that is None is what was measured (`isoflop profile`), else the default."""

    compile: bool | None = None
    """Train and validate by graphs of torch.compile, one for each shape; pays where runs are long. Default: false."""
    cuda_graphs: bool | None = None
    """Replay compiled steps as CUDA graphs (torch.compile's reduce-overhead), which saves launching kernels one by one;
    on a GPU, with `compile`, for runs that are trained alone and hold whole batches. Default: false."""
    attention: AttentionBackend | None = None
    """sdpa (torch's fused kernels), explicit (two products and a softmax) or blockwise (float32 on a CPU, causal);
    by default by device and precision."""
    threads: int | None = None
    """Threads of a worker; by default 1 on a CPU, 4 beside a GPU."""
    micro_batch: int | None = None
    """Sequences held in memory at a time, whose gradients add up to the batch's; by default the whole batch."""
    recompute: bool | None = None
    """Hold only the input of each layer for the backward pass and compute the rest again there: less memory, about a
    third more time. Default: where a batch would not fit on the GPU otherwise, by the estimate of `plan`."""
    stacked: int | Literal["auto", "off"] | None = None
    """Runs of one shape, batch and number of steps that a worker trains together, at most: a number; auto, by the work
    of a step; or off, the default."""
    profile: bool = True
    """Take what `isoflop profile` measured, for the fields that are None."""

    def __post_init__(self) -> None:
        if self.attention is not None:
            require_name("execution.attention", self.attention, ATTENTION_BACKENDS)
        for name in ("threads", "micro_batch"):
            if getattr(self, name) is not None:
                require_count(f"execution.{name}", getattr(self, name))
        if self.cuda_graphs:
            self._require_replayable()
        if isinstance(self.stacked, str):
            require_name("execution.stacked", self.stacked, ("auto", "off"))
        elif self.stacked is not None:
            require_count("execution.stacked", self.stacked)

    def _require_replayable(self) -> None:
        if not self.compile:
            raise UserError("execution.cuda_graphs replays compiled steps; set execution.compile to true beside it")
        for name in NOT_REPLAYED:
            if getattr(self, name) not in (None, "off"):
                raise UserError(f"execution.cuda_graphs and execution.{name} exclude each other; leave one of them out")

    @property
    def forced(self) -> dict[str, Any]:
        """What differs from the defaults, as plain data."""
        pairs = ((item.name, getattr(self, item.name), item.default) for item in fields(self))
        return {name: value for name, value, default in pairs if value != default}

    @property
    def stacks(self) -> bool:
        """Whether runs may be trained together."""
        return self.stacked not in (None, "off")

    def replays(self, batch_sequences: int, held: int | None) -> bool:
        """Whether steps are replayed as CUDA graphs: where that is asked for, and a batch is computed at once.

        Parameters
        ----------
        batch_sequences : int
            Sequences of a batch.
        held : int or None
            Sequences held in memory at a time; None: all.
        """
        return bool(self.cuda_graphs) and (held is None or held >= batch_sequences)

    def completed(self, measured: Mapping[str, Any]) -> ExecutionChoices:
        """Give the fields that are None the values that were measured to be fastest.

        Parameters
        ----------
        measured : mapping of str to object
            Fields -> values; what is forced here stays.

        Returns
        -------
        ExecutionChoices
            The choices themselves where `profile` is off.
        """
        if not self.profile:
            return self
        left = {name: value for name, value in measured.items() if getattr(self, name) is None}
        if self.cuda_graphs:
            left = {name: value for name, value in left.items() if name not in NOT_REPLAYED}
        return replace(self, **left)

    def in_words(self) -> str:
        """The choices as one line: `compiled, attention by device and precision, 1 thread, whole batches`."""
        threads = "threads by device" if self.threads is None else f"{self.threads} threads a worker"
        held = "whole batches" if self.micro_batch is None else f"{self.micro_batch} sequences at a time"
        attention = "by device and precision" if self.attention is None else self.attention
        held += ", layers computed again in the backward pass" if self.recompute else ""
        together = f", stacked {self.stacked}" if self.stacks else ""
        steps = "compiled" if self.compile else "eager"
        steps += ", replayed as CUDA graphs" if self.cuda_graphs else ""
        return f"{steps}, attention {attention}, {threads}, {held}{together}"
