"""Tagging: one label for every word, read from its first token in an encoder and from its last in a decoder.

Measures are torchmetrics' over words, and for tags in BIO the F1 of whole entities, strictly by IOB2, which is ours.
Shapes: B batch, T tokens, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.data.tasks import Example
from experiments.data.tokenizers.checkpoint import OWN, Marks
from experiments.data.tokenizers.tokenizer import Tokenizer
from experiments.training.tuning.bootstrap import mean_interval
from experiments.training.tuning.entities import entities, entity_f1, is_bio
from experiments.training.tuning.measures import label_measures
from experiments.training.tuning.tasks import Measured, Row, padded
from models.modules.heads import TokenClassifier
from models.modules.transformer import Transformer


@dataclass(frozen=True)
class Tagging:
    """One label for each word."""

    labels: tuple[str, ...]
    """The tags in order."""
    tokenizer: Tokenizer
    """That of the body."""
    is_causal: bool
    """Whether the body sees nothing to the right of a token."""
    marks: Marks = OWN
    """What stands around its texts."""

    def rows(self, examples: Sequence[Example], longest: int) -> list[Row]:
        """Examples as ids, cut at `longest`; words beyond it are left out, and the row says that it was cut."""
        words = [example.tokens or tuple(example.text.split()) for example in examples]
        spelt = [word if place == 0 else f" {word}" for some in words for place, word in enumerate(some)]
        encoded = iter(self.tokenizer.encode([word.encode() for word in spelt]))
        pieces = [[[int(i) for i in next(encoded)] for _ in some] for some in words]
        return [self._row(example, some, longest) for example, some in zip(examples, pieces, strict=True)]

    def _row(self, example: Example, words: Sequence[Sequence[int]], longest: int) -> Row:
        """One example, given the ids of each of its words."""
        ids, read = [self.marks.begin], []
        for word in words:
            read.append(len(ids) + (len(word) - 1 if self.is_causal else 0))
            ids += word
        kept = max(1, sum(place < longest for place in read))
        places = tuple(min(place, longest - 1) for place in read[:kept])
        known = {label: index for index, label in enumerate(self.labels)}
        tags = example.tags or ("",) * len(words)  # a text to be tagged has none
        target = (places, tuple(known.get(tag, 0) for tag in tags[:kept]))
        end = () if self.marks.end is None or len(ids) >= longest else (self.marks.end,)
        return Row(ids=(*ids[:longest], *end), target=target, num_targets=kept, is_cut=len(ids) > longest)

    def model(self, body: Transformer, seed: int) -> TokenClassifier:
        """The body with its new head."""
        return TokenClassifier(body, len(self.labels), seed=seed)

    def losses(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Nats of each row, summed over its words."""
        tags = torch.tensor([tag for row in rows for tag in row.target[1]], device=device)
        losses = F.cross_entropy(self._logits(model, rows, device), tags, reduction="none")
        owner = torch.tensor([index for index, row in enumerate(rows) for _ in row.target[1]], device=device)
        return torch.zeros(len(rows), device=device, dtype=losses.dtype).index_add(0, owner, losses)

    def answers(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> list[list[int]]:
        """The likeliest tag of each word of each row."""
        said = iter(self._logits(model, rows, device).argmax(1).tolist())
        return [[next(said) for _ in row.target[1]] for row in rows]

    def metrics(self, measured: Measured, rows: Sequence[Row]) -> dict[str, Any]:
        """Accuracy, macro-F1 and Matthews correlation over words; F1 of entities where tags are BIO."""
        said = torch.tensor([tag for answer in measured.answers for tag in answer])
        true = torch.tensor([tag for row in rows for tag in row.target[1]])
        right = np.array(
            [np.equal(answer, row.target[1]).sum() for answer, row in zip(measured.answers, rows, strict=True)]
        )
        low, high = mean_interval(right.astype(np.float64), measured.counts)
        found: dict[str, Any] = label_measures(said, true, len(self.labels))
        found |= {"accuracy_lo": low, "accuracy_hi": high}
        if not is_bio(self.labels):
            return found
        pairs = [
            (entities(self._names(answer)), entities(self._names(row.target[1])))
            for answer, row in zip(measured.answers, rows, strict=True)
        ]
        hits = np.array([2.0 * len(set(said) & set(true)) for said, true in pairs])
        sizes = np.array([len(said) + len(true) for said, true in pairs])
        low, high = mean_interval(hits, sizes)
        return found | {"entity_f1": entity_f1(pairs), "entity_f1_lo": low, "entity_f1_hi": high}

    def say(self, text: str, answer: Any, row: Row) -> dict[str, Any]:
        """What is told of one text."""
        return {"text": text, "tokens": text.split()[: len(answer)], "tags": self._names(answer), "is_cut": row.is_cut}

    def _names(self, tags: Sequence[int]) -> list[str]:
        return [self.labels[tag] for tag in tags]

    def _logits(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Logits (words, C) of all words of the rows."""
        logits_BTC = cast(Tensor, model(*padded(rows, device, self.marks.pad))).float()
        owner = [index for index, row in enumerate(rows) for _ in row.target[0]]
        return logits_BTC[owner, [place for row in rows for place in row.target[0]]]
