"""The history of a shared prefix, from which each of its runs writes the rows that it would have written alone.

Owns losses and norms that wait on the device, their history by step, and the replay of that history in another run's
windows. It must not know files or loops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from experiments.training.recorder import Recorder
from models.lit import LitTransformer


@dataclass
class History:
    """Loss and gradient norm of every step of a shared prefix so far."""

    losses: list[float] = field(default_factory=list)
    """Nats per token, by step."""
    norms: list[float] = field(default_factory=list)
    """Norms before clipping, by step; empty without clipping."""

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors: the values came from 32-bit ones, so nothing is lost."""
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float32),
            "norms": torch.tensor(self.norms, dtype=torch.float32),
        }

    @classmethod
    def of(cls, state: dict[str, torch.Tensor]) -> History:
        """Back from `state`."""
        return cls(losses=state["losses"].tolist(), norms=state["norms"].tolist())


def replay(
    recorder: Recorder, past: History, lit: LitTransformer, trained_seconds: float
) -> tuple[list[dict[str, Any]], str | None]:
    """Write the steps of a shared prefix again, as rows in the windows of one of its runs.

    Losses, norms and rates of learning are those of the run trained alone; times are the prefix's, spread evenly.

    Parameters
    ----------
    recorder : Recorder
        The run's; it is brought to the end of the prefix.
    past : History
        Of the prefix.
    lit : LitTransformer
        The run's module, for its rates of learning.
    trained_seconds : float
        Training time of the prefix.

    Returns
    -------
    rows : list of dict
        The run's rows until there.
    verdict : str or None
        Why the guard stops the run, or None.
    """
    rows: list[dict[str, Any]] = []
    num_steps, begun = len(past.losses), 0
    for step in range(1, num_steps + 1):
        if not recorder.is_row(step):
            continue
        recorder.window.extend(past.losses[begun:step])
        recorder.trained_seconds = trained_seconds * step / num_steps
        rate = lit.learning_rate((step - 1) * recorder.batch_tokens)
        norm = past.norms[step - 1] if past.norms else None
        row, verdict = recorder.row(step=step, learning_rate=rate, grad_norm=norm)
        rows.append(row)
        begun = step
        if verdict is not None:
            return rows, verdict
    recorder.window.extend(past.losses[begun:])
    recorder.trained_seconds = trained_seconds
    return rows, None


class Pending:
    """Losses and norms that are still on the device; fetched together, so that watching costs no synchronisation."""

    def __init__(
        self,
        recorder: Recorder,
        history: History | None,
        mean: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.recorder, self.history, self.mean = recorder, history, mean
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, grad_norm: torch.Tensor | None) -> None:
        """Take one step's."""
        self._losses.append(loss)
        if self.history is not None and grad_norm is not None:
            self._norms.append(grad_norm)

    def fetch(self, step: int) -> None:
        """Hand everything up to `step` to the recorder and the history."""
        losses: list[float] = []
        if self._losses:
            stacked = torch.stack(self._losses).float()
            losses = (stacked if self.mean is None else self.mean(stacked)).tolist()  # several ranks saw parts each
        self.recorder.fetch(losses, step=step)
        if self.history is not None:
            self.history.losses.extend(losses)
            self.history.norms.extend(torch.stack(self._norms).float().tolist() if self._norms else [])
        self._losses.clear()
        self._norms.clear()
