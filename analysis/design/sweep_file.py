"""The sweep that advice is written as: corpus, context and recipe from a template, cells from the advice.

Owns the reading of a template's YAML and the writing of the next one. It must not know laws or designs, and it imports
nothing of experiments: `python -m experiments plan` judges what it writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.advice.ladder import CHINCHILLA_ENDS, ShapeRules, Size
from analysis.errors import UserError
from experiments.config.yaml_text import dump_yaml, read_yaml

BYTE_VOCABULARY = 264
"""Ids of the tokenizer "bytes": 256 bytes and eight special ones (experiments/data/config.py)."""
LANGUAGES = ("markov", "zipf-memory", "random-hierarchy")
"""Synthetic corpora, which are tokens already and have vocabularies of their own."""
HEAD_WIDTH = 16
"""design.head_width of a sweep that gives none."""
DEFAULT_CONTEXT = 256
"""data.context of a sweep that gives none."""
DEFAULT_DECAY_FRACTION = 0.2
"""schedule.decay_fraction of a sweep that gives none."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A sweep file whose data, model, recipe and schedule the next sweep takes over."""

    path: Path
    """Where it was read."""
    raw: Mapping[str, Any]
    """Its content."""

    @property
    def decay_fraction(self) -> float | None:
        """Part of a run that decays; None when the schedule lets no runs share a trunk."""
        schedule = self.raw.get("schedule") or {}
        if schedule.get("name", "wsd") != "wsd":
            return None
        return float(schedule.get("decay_fraction", DEFAULT_DECAY_FRACTION))

    def rules(self, *, vocab_size: int | None, trained: Sequence[tuple[int, int]] = ()) -> ShapeRules:
        """What fixes its models apart from their shapes; depths follow `trained`, else its own shapes.

        Raises
        ------
        UserError
            When the number of token ids cannot be told from the file.
        """
        data, design = self.raw.get("data") or {}, self.raw.get("design") or {}
        shapes = [*(design.get("shapes") or ()), *(design.get("cells") or ())]
        own = [(int(shape["width"]), int(shape["depth"])) for shape in shapes]
        return ShapeRules(
            vocab_size=vocab_size or self._vocabulary(str(data.get("tokenizer", "bytes"))),
            context=int(data.get("context", DEFAULT_CONTEXT)),
            head_width=int(design.get("head_width", HEAD_WIDTH)),
            model=dict(self.raw.get("model") or {}),
            trained=tuple(trained) or tuple(own) or CHINCHILLA_ENDS,
            source=f"shapes after {self.path}",
        )

    def _vocabulary(self, tokenizer: str) -> int:
        named = re.fullmatch(r"bpe-([0-9]+)", tokenizer)
        if named:
            return int(named[1])
        corpus = str((self.raw.get("data") or {}).get("corpus", "sotu"))
        if tokenizer == "bytes" and corpus not in LANGUAGES:
            return BYTE_VOCABULARY
        raise UserError(
            f"the number of token ids of corpus {corpus!r} cannot be told from {self.path}; give --vocab-size"
        )

    def sweep(self, *, name: str, cells: Sequence[tuple[Size, float, Sequence[int]]], law: str, notes: str) -> str:
        """The text of a sweep of `cells`: (size, tokens, seeds) each.

        Parameters
        ----------
        name : of the sweep
        law : that its report fits
        notes : sentences for the head of the file
        """
        kept = {key: value for key, value in self.raw.items() if key not in ("name", "design", "replicates", "seeds")}
        kept["report"] = {**(kept.get("report") or {}), "law": law}
        kept["report"].pop("holdout", None)
        kept["report"].pop("title", None)
        lines = [f"# {line}" for line in notes.splitlines()]
        lines += [f"name: {name}", "design:", "  kind: parametric"]
        if "head_width" in (self.raw.get("design") or {}):
            lines.append(f"  head_width: {self.raw['design']['head_width']}")
        lines.append("  cells:")
        merged: dict[tuple[Size, tuple[int, ...]], list[float]] = {}
        for size, tokens, seeds in cells:
            merged.setdefault((size, tuple(seeds)), []).append(tokens)
        for (size, seeds), tokens_list in merged.items():
            amounts = ", ".join(f"{tokens:.6e}" for tokens in sorted(tokens_list))
            lines.append(
                f"    - {{width: {size.width}, depth: {size.depth}, num_heads: {size.num_heads}, "
                f"tokens: [{amounts}], seeds: {list(seeds)}}}"
            )
        rest = dump_yaml(kept)
        return "\n".join(lines) + "\n" + rest


def read_template(path: Path) -> Template:
    """A sweep file as template.

    Raises
    ------
    UserError
        When there is none, when it is not a sweep, or when advice cannot count its models.
    """
    raw = read_yaml(path)
    if not isinstance(raw.get("data"), dict):
        raise UserError(f"{path} is no sweep: it has no `data:`; see experiments/sweeps/ for examples")
    if raw.get("vary"):
        raise UserError(
            f"{path} varies {', '.join(raw['vary'])}; advice is for one arm: give a template without `vary`"
        )
    family, objective = (
        (raw.get("model") or {}).get("family", "decoder"),
        (raw.get("objective") or {}).get("name", "causal"),
    )
    if (family, objective) != ("decoder", "causal"):
        raise UserError(
            f"{path} trains a model of family {family} on {objective} targets; advice counts the FLOPs of causal "
            "decoders only"
        )
    return Template(path=path, raw=raw)
