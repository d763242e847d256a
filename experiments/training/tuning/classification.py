"""Classification of whole texts: one label for each, read from the mean state of an encoder or the last of a decoder.

Measures are torchmetrics' accuracy, macro-F1 and Matthews correlation. Shapes: B batch, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.data.tasks import Example
from experiments.data.tokenizers.checkpoint import OWN, Marks
from experiments.data.tokenizers.tokenizer import Tokenizer
from experiments.training.tuning.bootstrap import mean_interval
from experiments.training.tuning.measures import label_measures
from experiments.training.tuning.tasks import Measured, Row, padded
from models.modules.heads import Pooling, SequenceClassifier
from models.modules.transformer import Transformer


@dataclass(frozen=True)
class Classification:
    """One label for each text."""

    labels: tuple[str, ...]
    """The classes in order."""
    tokenizer: Tokenizer
    """That of the body."""
    marks: Marks = OWN
    """What stands around its texts."""

    def rows(self, examples: Sequence[Example], longest: int) -> list[Row]:
        """Examples as ids, cut at `longest`."""
        place = {label: index for index, label in enumerate(self.labels)}
        ids = self.tokenizer.encode([example.text.encode() for example in examples])
        end = () if self.marks.end is None else (self.marks.end,)
        room = longest - 1 - len(end)
        return [
            Row(
                ids=(self.marks.begin, *(int(i) for i in one[:room]), *end),
                target=place.get(str(example.label), 0),  # a text to be labelled has none
                is_cut=len(one) > room,
            )
            for one, example in zip(ids, examples, strict=True)
        ]

    def model(self, body: Transformer, seed: int) -> SequenceClassifier:
        """The body with its new head."""
        pooling: Pooling = "mean" if body.config.family == "encoder" else "last"
        return SequenceClassifier(body, len(self.labels), pooling=pooling, seed=seed)

    def losses(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Nats of each row."""
        targets = torch.tensor([row.target for row in rows], device=device)
        return F.cross_entropy(self._logits(model, rows, device), targets, reduction="none")

    def answers(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> list[NDArray[np.float64]]:
        """Probabilities (C,) of each row."""
        return list(self._logits(model, rows, device).softmax(1).double().cpu().numpy())

    def metrics(self, measured: Measured, rows: Sequence[Row]) -> dict[str, Any]:
        """Accuracy, macro-F1 and Matthews correlation, with an interval of the accuracy."""
        said = torch.tensor([int(answer.argmax()) for answer in measured.answers])
        true = torch.tensor([row.target for row in rows])
        low, high = mean_interval((said == true).double().numpy())
        return {**label_measures(said, true, len(self.labels)), "accuracy_lo": low, "accuracy_hi": high}

    def say(self, text: str, answer: Any, row: Row) -> dict[str, Any]:
        """What is told of one text: its likeliest label, with the probability."""
        place = int(answer.argmax())
        likely = float(answer[place])
        return {"text": text, "label": self.labels[place], "probability": likely, "is_cut": row.is_cut}

    def _logits(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        return cast(Tensor, model(*padded(rows, device, self.marks.pad))).float()
