"""Extractive question answering: the part of a text that answers a question, by its first and its last token.

A text is read in pieces (words, and marks between them), so that tokens of any tokenizer have places in it. An answer
that the context cuts off is asked for at the first token, as if the text held none. With an overlap a longer text is
not cut but read in windows: each is asked for the answer, or for the first token where it holds none, and the likeliest
span of all windows is the answer. Measures are torchmetrics' exact match and F1 of SQuAD. Shapes: B batch, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.config.tuning.windows import pieces_of, window_starts
from experiments.data.tasks import Example
from experiments.data.tokenizers.checkpoint import OWN, Marks
from experiments.data.tokenizers.tokenizer import Tokenizer
from experiments.training.tuning.bootstrap import mean_interval
from experiments.training.tuning.tasks import Measured, Row, padded
from models.modules.heads import ExtractiveQAHead, likeliest_spans
from models.modules.transformer import Transformer

MAX_ANSWER_TOKENS = 64
"""Tokens of an answer at most."""
SEQUENCES = 64
"""Windows that are read at a time, or as many as there are rows."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text as a row of tokens holds it."""

    text: str
    """All of it."""
    question: str
    """What is asked."""
    places: tuple[tuple[int, int], ...]
    """For each token of the text that is read: where its piece begins and ends, in characters."""
    start: int
    """Token of the row with which the text begins."""
    ends: tuple[int, int]
    """First and last token of the answer; (0, 0) where it is cut off."""
    answer: str
    """The true answer."""


@dataclass(frozen=True)
class Answers:
    """A part of a text for each question."""

    tokenizer: Tokenizer
    """That of the body."""
    marks: Marks = OWN
    """What stands around and between texts."""
    overlap: int | None = None
    """Tokens that two windows on a longer text share; None: the text is cut."""

    def rows(self, examples: Sequence[Example], longest: int) -> list[Row]:
        """Questions and texts as ids, in windows of `longest` tokens in all; without an overlap in the first alone."""
        return [self._row(example, longest) for example in examples]

    def _row(self, example: Example, longest: int) -> Row:
        asked = self.tokenizer.encode([str(example.question).encode()])[0]
        pieces, spelt = pieces_of(example.text)
        encoded = self.tokenizer.encode([piece.encode() for piece in spelt])
        before = [self.marks.begin, *(int(i) for i in asked[: longest // 2]), self.marks.separator]
        end = () if self.marks.end is None else (self.marks.end,)
        start, room = len(before), longest - len(before) - len(end)
        places = [span for span, piece in zip(pieces, encoded, strict=True) for _ in piece]
        ids = [int(i) for piece in encoded for i in piece]
        answer = example.answer or (0, 0)
        inside = [k for k, (left, right) in enumerate(places) if left < answer[1] and right > answer[0]]
        windows = []
        for first in window_starts(len(ids), room, self.overlap):
            is_held = bool(inside) and first <= inside[0] and inside[-1] < first + room
            passage = Passage(
                text=example.text,
                question=str(example.question),
                places=tuple(places[first : first + room]),
                start=start,
                ends=(start + inside[0] - first, start + inside[-1] - first) if is_held else (0, 0),
                answer=example.text[slice(*answer)],
            )
            windows.append(
                Row(ids=(*before, *ids[first : first + room], *end), target=passage, num_targets=2, is_cut=False)
            )
        is_cut = self.overlap is None and len(ids) > room
        return replace(windows[0], windows=tuple(windows[1:]), num_targets=2 * len(windows), is_cut=is_cut)

    def model(self, body: Transformer, seed: int) -> ExtractiveQAHead:
        """The body with its new head."""
        return ExtractiveQAHead(body, seed=seed)

    def losses(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Nats of each row, summed over both ends and its windows."""
        flat, owner = _flat(rows)
        nats = torch.cat([self._nats(model, some, device) for some in _pieces(flat, max(SEQUENCES, len(rows)))])
        if len(flat) == len(rows):
            return nats
        return torch.zeros(len(rows), device=device, dtype=nats.dtype).index_add(
            0, torch.tensor(owner, device=device), nats
        )

    def _nats(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Nats of each window, summed over both ends."""
        ends_B2 = torch.tensor([row.target.ends for row in rows], device=device)
        allowed_BT = self._allowed(rows, device, with_first=True)
        first_BT, last_BT = model(*padded(rows, device, self.marks.pad), allowed_BT)
        first_B = F.cross_entropy(first_BT, ends_B2[:, 0], reduction="none")
        return first_B + F.cross_entropy(last_BT, ends_B2[:, 1], reduction="none")

    def answers(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> list[tuple[int, int]]:
        """Where in its text the likeliest answer of each row begins and ends, in characters."""
        flat, owner = _flat(rows)
        best: list[tuple[float, tuple[int, int]]] = [(-math.inf, (0, 0))] * len(rows)
        scored = [one for some in _pieces(flat, max(SEQUENCES, len(rows))) for one in self._spans(model, some, device)]
        for place, one in zip(owner, scored, strict=True):
            best[place] = max(best[place], one, key=lambda each: each[0])  # the earlier one of two alike
        return [span for _, span in best]

    def _spans(
        self, model: nn.Module, rows: Sequence[Row], device: torch.device
    ) -> list[tuple[float, tuple[int, int]]]:
        """The likeliest span of each window with its log probability, beside that of holding no answer."""
        allowed_BT = self._allowed(rows, device, with_first=True)
        first_BT, last_BT = (
            one_BT.log_softmax(1) for one_BT in model(*padded(rows, device, self.marks.pad), allowed_BT)
        )
        not_text_BT = ~self._allowed(rows, device, with_first=False)
        first_BT, last_BT = (one_BT.masked_fill(not_text_BT, float("-inf")) for one_BT in (first_BT, last_BT))
        spans_B2, scores_B = likeliest_spans(first_BT, last_BT, MAX_ANSWER_TOKENS)
        found = []
        for row, (first, last), score in zip(rows, spans_B2.tolist(), scores_B.tolist(), strict=True):
            places, start = row.target.places, row.target.start
            span = (places[first - start][0], places[last - start][1]) if places else (0, 0)
            found.append((float(score), span))
        return found

    def metrics(self, measured: Measured, rows: Sequence[Row]) -> dict[str, Any]:
        """Exact match and F1 of SQuAD as fractions, with intervals, windows, and how many answers no window holds."""
        said = [row.target.text[slice(*answer)] for row, answer in zip(rows, measured.answers, strict=True)]
        scores = np.array([squad_scores(one, row.target.answer) for one, row in zip(said, rows, strict=True)])
        found: dict[str, Any] = {}
        for name, values in zip(("exact_match", "f1"), scores.T, strict=True):
            low, high = mean_interval(values)
            found |= {name: float(values.mean()), f"{name}_lo": low, f"{name}_hi": high}
        lost = sum(all(one.target.ends == (0, 0) for one in (row, *row.windows)) for row in rows)
        return found | {"num_answers_cut_off": lost, "num_windows": sum(row.num_sequences for row in rows)}

    def say(self, text: str, answer: Any, row: Row) -> dict[str, Any]:
        """What is told of one text and question."""
        start, end = answer
        said = {"text": text, "question": row.target.question, "answer": text[start:end], "start": start, "end": end}
        return said | {"is_cut": row.is_cut}

    def _allowed(self, rows: Sequence[Row], device: torch.device, *, with_first: bool) -> Tensor:
        """True (B, T) where an answer may begin or end: in the text, and at the first token where one says so.

        A row without any text allows its first token.
        """
        allowed = np.zeros((len(rows), max(len(row.ids) for row in rows)), dtype=np.bool_)
        for place, row in enumerate(rows):
            length = len(row.target.places)
            allowed[place, row.target.start : row.target.start + length] = True
            allowed[place, 0] = with_first or not length
        return torch.from_numpy(allowed).to(device)


def _flat(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """All windows of some rows, and the row of each."""
    pairs = [(one, place) for place, row in enumerate(rows) for one in (row, *row.windows)]
    return [one for one, _ in pairs], [place for _, place in pairs]


def _pieces(rows: list[Row], size: int) -> Iterator[list[Row]]:
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def squad_scores(said: str, true: str) -> tuple[float, float]:
    """Exact match and F1 of one answer, as fractions, by torchmetrics.

    Parameters
    ----------
    said, true : str
        Answers; case, articles and marks do not count.

    Returns
    -------
    tuple of (float, float)
        Both between 0 and 1.
    """
    from torchmetrics.functional.text import squad

    scores = squad(
        [{"prediction_text": said, "id": "0"}], [{"answers": {"answer_start": [0], "text": [true]}, "id": "0"}]
    )
    return float(scores["exact_match"]) / 100, float(scores["f1"]) / 100
