"""What a kind of task asks of a model: rows of ids, a head, losses, and measures. One file for each kind.

Shapes: B batch, T tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.data.tasks import Example
from experiments.data.tokenizers.tokenizer import PAD
from models.modules.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example as a model reads it."""

    ids: tuple[int, ...]
    """Token ids, the separator first."""
    target: Any
    """What is to be answered, as the kind of task has it."""
    num_targets: int = 1
    """Targets whose losses are added up."""
    is_cut: bool
    """Whether the input was longer than the context."""
    written: int | None = None
    """Tokens that are to be written, where the target is a text."""
    continued: int = 0
    """Tokens of the target that a decoder reads after these."""
    windows: tuple[Row, ...] = ()
    """Further windows on the same input, each a sequence of its own and none longer than this one."""

    @property
    def length(self) -> int:
        """Tokens that are read in one sequence."""
        return len(self.ids) + self.continued

    @property
    def num_sequences(self) -> int:
        """Sequences that are read for this example."""
        return 1 + len(self.windows)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A split as a model answers it."""

    sums: NDArray[np.float64]
    """Nats of each example, summed over its targets."""
    counts: NDArray[np.int64]
    """Targets of each example."""
    answers: list[Any]
    """What the model says to each."""

    @property
    def loss(self) -> float:
        """Mean loss in nats per target."""
        return float(self.sums.sum() / self.counts.sum())


class TuningTask(Protocol):
    """A kind of task on one body and one tokenizer."""

    def rows(self, examples: Sequence[Example], longest: int) -> list[Row]:
        """Examples as ids, cut at `longest`."""

    def model(self, body: Transformer, seed: int) -> nn.Module:
        """The body with its new head, which is `model.body`."""

    def losses(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Nats of each row, summed over its targets, (B,)."""

    def answers(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> list[Any]:
        """What the model says to each row."""

    def say(self, text: str, answer: Any, row: Row) -> dict[str, Any]:
        """What is told of one text, given what the model says to it."""

    def metrics(self, measured: Measured, rows: Sequence[Row]) -> dict[str, Any]:
        """Measures of a split beside the loss, with intervals."""


def padded(rows: Sequence[Row], device: torch.device, pad: int = PAD) -> tuple[Tensor, Tensor]:
    """(tokens, mask) of rows, both (B, T); the mask is True where a token is real."""
    longest = max(len(row.ids) for row in rows)
    tokens = torch.tensor([[*row.ids, *([pad] * (longest - len(row.ids)))] for row in rows])
    lengths = torch.tensor([len(row.ids) for row in rows])
    return tokens.to(device), (torch.arange(longest)[None] < lengths[:, None]).to(device)


def first_of(examples: Sequence[Example], count: int | None) -> list[Example]:
    """The first examples in the order of a hash of their inputs, which no order of the source decides.

    Parameters
    ----------
    examples : sequence of Example
        A split.
    count : int or None
        How many; None: all, in their own order.
    """
    if count is None:
        return list(examples)

    def key(example: Example) -> bytes:
        return hashlib.sha256(f"{example.text}\n{example.question}".encode()).digest()

    return sorted(examples, key=key)[:count]


@torch.no_grad()
def measure(
    task: TuningTask,
    model: nn.Module,
    rows: Sequence[Row],
    device: torch.device,
    batch: int = 64,
    *,
    with_answers: bool = True,
) -> Measured:
    """Losses and answers of a model in evaluation mode, in the order of the rows.

    Parameters
    ----------
    task : TuningTask
        The kind of task.
    model : Module
        In evaluation mode.
    rows : sequence of Row
        The split.
    device : device
        Where the model is.
    batch : int
        Rows at a time, of like lengths.
    with_answers : bool
        Whether the model is asked for answers too, which takes long where they are texts.
    """
    sums, counts = np.zeros(len(rows)), np.array([row.num_targets for row in rows], dtype=np.int64)
    answers: list[Any] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: (rows[i].length, i))
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        some = [rows[i] for i in chosen]
        sums[chosen] = task.losses(model, some, device).double().cpu().numpy()
        if with_answers:
            for place, answer in zip(chosen, task.answers(model, some, device), strict=True):
                answers[place] = answer
    return Measured(sums=sums, counts=counts, answers=answers)
