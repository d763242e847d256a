"""Texts to be written (translation, summaries, passages), by a decoder or from the source of an encoder-decoder.

Losses are over the target's tokens; the test split is written by beam search. Measures are in `measures`.
Shapes: B batch, T tokens, S source tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.config.tuning.run import FinetuneRun
from experiments.data.tasks import Example
from experiments.data.tokenizers.checkpoint import Marks
from experiments.data.tokenizers.tokenizer import Tokenizer
from experiments.training.tuning.measures import text_measures
from experiments.training.tuning.tasks import Measured, Row, padded
from models.generation import GenerationConfig, generate
from models.modules.finetuning import SoftPrompt
from models.modules.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be written."""

    source: str
    """The text that it is written from."""
    text: str
    """The true text."""
    ids: tuple[int, ...]
    """Its tokens as far as there is room, and the mark at its end."""


class Writer(nn.Module):
    """A body whose own output head learns with it where its method says so."""

    def __init__(self, body: Transformer, run: FinetuneRun) -> None:
        super().__init__()
        assert body.head is not None
        if run.method.name == "head" and body.head.weight is None:
            body.head.weight = nn.Parameter(body.tokens.weight.detach().clone())
        body.head.requires_grad_(run.method.name in ("full", "scratch", "head"))
        self.body = body


@dataclass(frozen=True)
class Writing:
    """A text for each text."""

    tokenizer: Tokenizer
    """That of the body."""
    marks: Marks
    """What stands around and between texts."""
    run: FinetuneRun
    """Says how long targets are, and how many beams there are."""

    @property
    def _has_source(self) -> bool:
        """Whether an encoder reads what is written from."""
        return self.run.model.family == "encoder-decoder"

    def rows(self, examples: Sequence[Example], longest: int) -> list[Row]:
        """Sources as ids with the mark after which is written, and targets; each is cut at its room."""
        if self.run.task.kind == "language":
            return self._passages(examples, longest)
        sources = self.tokenizer.encode([example.text.encode() for example in examples])
        targets = self.tokenizer.encode([str(example.target or "").encode() for example in examples])
        return [
            self._row(example, [int(i) for i in source], [int(i) for i in target], longest)
            for example, source, target in zip(examples, sources, targets, strict=True)
        ]

    def _row(self, example: Example, source: Sequence[int], target: Sequence[int], longest: int) -> Row:
        most = self.run.target_room
        room = longest - 2 if self._has_source else longest + 1 - most - 2
        last = (self.marks.separator,) if not self._has_source or self.marks.end is not None else ()
        ids = (self.marks.begin, *source[:room], *last)
        written = (*target[: most - 1], self.marks.stop)
        return Row(
            ids=ids,
            target=Target(source=example.text, text=str(example.target or ""), ids=written),
            num_targets=len(written),
            is_cut=len(source) > room or len(target) > most - 1,
            written=len(written),
            continued=0 if self._has_source else len(written) - 1,
        )

    def _passages(self, examples: Sequence[Example], longest: int) -> list[Row]:
        """Texts that are read and written at once: every token is predicted from those before."""
        rows = []
        for example, encoded in zip(
            examples, self.tokenizer.encode([one.text.encode() for one in examples]), strict=True
        ):
            ids = tuple(int(i) for i in encoded[:longest])
            rows.append(
                Row(
                    ids=(self.marks.begin,),
                    target=Target(source="", text=example.text, ids=ids),
                    num_targets=len(ids),
                    is_cut=len(encoded) > longest,
                    written=len(ids),
                    continued=len(ids) - 1,
                )
            )
        return rows

    def model(self, body: Transformer, seed: int) -> Writer:
        """The body, which writes by its own head."""
        return Writer(body, self.run)

    def losses(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> Tensor:
        """Nats of each row, summed over the target's tokens."""
        body = cast(Writer, model).body
        if self._has_source:
            source_BS, source_mask_BS = padded(rows, device, self.marks.pad)
            read = [(self.marks.start, *row.target.ids[:-1]) for row in rows]
            states_BTD = body.hidden(self._padded(read, device)[0], source_BS=source_BS, source_mask_BS=source_mask_BS)
            first = [0] * len(rows)
        else:
            read = [(*row.ids, *row.target.ids[:-1]) for row in rows]
            tokens_BT, mask_BT = self._padded(read, device)
            states_BTD = body.hidden(tokens_BT, mask_BT=mask_BT)
            first = [len(row.ids) - 1 for row in rows]
        owner = [place for place, row in enumerate(rows) for _ in row.target.ids]
        where = [begin + k for begin, row in zip(first, rows, strict=True) for k in range(len(row.target.ids))]
        assert body.head is not None
        logits = body.head(states_BTD[owner, where][None], body.tokens.weight)[0].float()
        true = torch.tensor([token for row in rows for token in row.target.ids], device=device)
        losses = F.cross_entropy(logits, true, reduction="none")
        return torch.zeros(len(rows), device=device, dtype=losses.dtype).index_add(
            0, torch.tensor(owner, device=device), losses
        )

    def answers(self, model: nn.Module, rows: Sequence[Row], device: torch.device) -> list[Any]:
        """What the model writes from each row, by beam search; of a passage, nats per token."""
        if self.run.task.kind == "language":
            nats = self.losses(model, rows, device).tolist()
            return [one / row.num_targets for one, row in zip(nats, rows, strict=True)]
        body = cast(Writer, model).body
        if isinstance(body.decoder, SoftPrompt):  # it takes no caches and no padding
            return [self._write(body, [row], device, cached=False)[0] for row in rows]
        return self._write(body, rows, device, cached=True)

    def _write(self, body: Transformer, rows: Sequence[Row], device: torch.device, *, cached: bool) -> list[str]:
        how = GenerationConfig(
            method="beam",
            num_beams=self.run.task.beams,
            length_penalty=1.0,
            max_new_tokens=self.run.target_room,
            end_id=self.marks.stop,
            cached=cached,
        )
        if self._has_source:
            source_BS, mask_BS = padded(rows, device, self.marks.pad)
            start_B1 = torch.full((len(rows), 1), self.marks.start, device=device)
            done = generate(body, start_B1, how, source_BS=source_BS, source_mask_BS=mask_BS)
        else:
            lengths = {len(row.ids) for row in rows}
            tokens_BT, mask_BT = padded(rows, device, self.marks.pad)
            if len(lengths) > 1:  # prompts end together
                shifts = mask_BT.sum(1).tolist()
                tokens_BT = torch.stack([one.roll(-int(n)) for one, n in zip(tokens_BT, shifts, strict=True)])
                mask_BT = torch.stack([one.roll(-int(n)) for one, n in zip(mask_BT, shifts, strict=True)])
            done = generate(body, tokens_BT, how, prompt_mask_BT=mask_BT if len(lengths) > 1 else None)
        found = []
        for tokens, length in zip(done.tokens_BT.tolist(), done.lengths_B.tolist(), strict=True):
            ids = [token for token in tokens[: int(length)] if token != self.marks.stop]
            found.append(self.tokenizer.decode(ids).decode("utf-8", errors="replace"))
        return found

    def metrics(self, measured: Measured, rows: Sequence[Row]) -> dict[str, Any]:
        """BLEU, chrF2 and ROUGE with intervals and signatures, those of simple baselines, and the loss per byte."""
        targets = [row.target for row in rows]
        read = sum(len(self.tokenizer.decode([i for i in one.ids if i != self.marks.stop])) for one in targets)
        if self.run.task.kind == "language":
            return {"loss_per_byte": float(measured.sums.sum() / read)}
        found = text_measures(measured.answers, [one.text for one in targets], [one.source for one in targets])
        return found | {"loss_per_byte": float(measured.sums.sum() / read) if read else None}

    def say(self, text: str, answer: Any, row: Row) -> dict[str, Any]:
        """What is written from one text, or how likely a passage is."""
        if self.run.task.kind == "language":
            return {"text": text, "nats_per_token": answer, "is_cut": row.is_cut}
        return {"text": text, "written": answer, "is_cut": row.is_cut}

    def _padded(self, read: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
        rows = [Row(ids=tuple(ids), target=None, is_cut=False) for ids in read]
        return padded(rows, device, self.marks.pad)
