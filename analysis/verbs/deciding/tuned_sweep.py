"""Sweeps of a tuned frontier: the next round of rates, and the law of the best rate as a recipe that `run` takes.

It owns their text. It must not know how rates are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.design.sweep_file import REPLACED, Template
from experiments.config.yaml_text import dump_yaml


@dataclass(frozen=True, kw_only=True)
class RateCell:
    """One cell of the next round."""

    width: int
    """d_model."""
    depth: int
    """Layers."""
    num_heads: int | None
    """Attention heads; None: the design's rule."""
    tokens: float
    """D."""
    rates: Sequence[float]
    """Peak learning rates to train it with."""


def next_round(template: Template, *, name: str, cells: Sequence[RateCell], notes: str) -> str:
    """The text of a sweep that tries more rates.

    Parameters
    ----------
    template : Template
        Data, model, recipe and schedule.
    name : str
        Of the sweep.
    cells : sequence of RateCell
        What it runs.
    notes : str
        Sentences for the head of the file.

    Returns
    -------
    str
        YAML of a design of kind tuned.
    """
    lines = [f"# {line}" for line in notes.splitlines()]
    lines += [f"name: {name}", "design:", "  kind: tuned"]
    if "head_width" in (template.raw.get("design") or {}):
        lines.append(f"  head_width: {template.sweep.design.head_width}")
    lines.append("  cells:")
    for cell in cells:
        heads = "" if cell.num_heads is None else f"num_heads: {cell.num_heads}, "
        rates = ", ".join(f"{rate:.5e}" for rate in cell.rates)
        lines.append(
            f"    - {{width: {cell.width}, depth: {cell.depth}, {heads}tokens: [{cell.tokens:.9e}], rates: [{rates}]}}"
        )
    kept = {key: value for key, value in template.raw.items() if key not in REPLACED}
    return "\n".join(lines) + "\n" + dump_yaml(kept)


def with_rate_law(template: Template, law: Mapping[str, float], *, notes: str) -> str:
    """The template with a fitted law of the peak rate in its recipe.

    Parameters
    ----------
    template : Template
        A sweep. A tuned ladder of shapes becomes a plain ladder.
    law : mapping
        coefficient, and powers of params, tokens and batch.
    notes : str
        Sentences for the head of the file.

    Returns
    -------
    str
        YAML.
    """
    raw: dict[str, Any] = dict(template.raw)
    design = dict(raw.get("design") or {})
    if design.get("kind") == "tuned" and "cells" not in design:
        raw["design"] = {"kind": "ladder", **{k: v for k, v in design.items() if k not in ("kind", "rate_scales")}}
    recipe = {k: v for k, v in dict(raw.get("recipe") or {}).items() if k not in ("learning_rate", "rate_law")}
    raw["recipe"] = {**recipe, "rate_law": {name: float(f"{value:.8g}") for name, value in law.items()}}
    return "\n".join(f"# {line}" for line in notes.splitlines()) + "\n" + dump_yaml(raw)
