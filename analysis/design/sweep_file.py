"""The sweep that advice is written as: data, model and recipe from a template, cells from the advice.

It owns the reading of a template and the writing of the next sweep; what a sweep file may hold, and its defaults, are
those of `experiments.config`. It must not know laws or designs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.advice.shapes import CHINCHILLA_ENDS, ShapeRules, Size
from analysis.advice.steps import Steps
from analysis.design.cells import PlannedCell
from analysis.errors import UserError
from experiments.config.designs import batch_tokens_of
from experiments.config.reading import build_sweep
from experiments.config.sweep import SweepConfig
from experiments.config.yaml_text import dump_yaml, read_yaml

REPLACED = ("name", "design", "replicates", "seeds")
"""Keys of the template that the next sweep has of its own."""
PLACEHOLDER: Mapping[str, object] = {
    "name": "template",
    "design": {"kind": "parametric", "cells": [{"width": 16, "depth": 1, "tokens": [1.0]}]},
}
"""What a template may leave out because it is replaced."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A sweep file whose data, model, recipe and schedule the next sweep takes over."""

    path: Path
    """Where it was read."""
    raw: Mapping[str, Any]
    """Its content, as it was written."""
    sweep: SweepConfig
    """The same, checked and with defaults."""

    @property
    def decay_fraction(self) -> float | None:
        """Part of a run that decays; None when the schedule lets no runs share a prefix."""
        schedule = self.sweep.schedule
        return schedule.decay_fraction if schedule.name == "wsd" else None

    def steps(self, least: int) -> Steps:
        """How many steps its recipe takes.

        Parameters
        ----------
        least : int
            Steps that a law needs.

        Returns
        -------
        Steps
            With the batch of its recipe.
        """
        return Steps(
            batch=lambda params, tokens: batch_tokens_of(self.sweep, params, tokens),
            source=f"batch of {self.path}",
            least=least,
        )

    def rules(self, *, vocab_size: int | None, trained: Sequence[tuple[int, int]] = ()) -> ShapeRules:
        """What fixes its models apart from their shapes.

        Parameters
        ----------
        vocab_size : int or None
            Token ids; None: as many as its data have.
        trained : sequence of (int, int)
            (width, depth) of the shapes that depth follows; by default those of the template's own design.

        Returns
        -------
        ShapeRules
            For a ladder.
        """
        design = self.sweep.design
        own = [(shape.width, shape.depth) for shape in (*design.shapes, *design.cells)] if "design" in self.raw else []
        return ShapeRules(
            vocab_size=vocab_size or self.sweep.data.vocab_size,
            context=self.sweep.data.context,
            head_width=design.head_width,
            model=dict(self.sweep.model),
            trained=tuple(trained) or tuple(own) or CHINCHILLA_ENDS,
            source=f"shapes as in {self.path}",
        )

    def next_sweep(self, *, name: str, cells: Sequence[PlannedCell], law: str, notes: str) -> str:
        """The text of a sweep of some cells.

        Parameters
        ----------
        name : str
            Of the sweep.
        cells : sequence of PlannedCell
            What it runs.
        law : str
            That its report fits.
        notes : str
            Sentences for the head of the file.

        Returns
        -------
        str
            YAML.
        """
        kept = {key: value for key, value in self.raw.items() if key not in REPLACED}
        report = {key: value for key, value in (kept.get("report") or {}).items() if key not in ("holdout", "title")}
        kept["report"] = {**report, "law": law}
        lines = [f"# {line}" for line in notes.splitlines()]
        lines += [f"name: {name}", "design:", "  kind: parametric"]
        if "head_width" in (self.raw.get("design") or {}):
            lines.append(f"  head_width: {self.sweep.design.head_width}")
        lines += ["  cells:", *_cell_lines(cells)]
        return "\n".join(lines) + "\n" + dump_yaml(kept)


def _cell_lines(cells: Sequence[PlannedCell]) -> list[str]:
    """A line of YAML for each size and its seeds, with all their token budgets."""
    merged: dict[tuple[Size, tuple[int, ...]], list[float]] = {}
    for cell in cells:
        merged.setdefault((cell.size, cell.seeds), []).append(cell.tokens)
    lines = []
    for (size, seeds), amounts in merged.items():
        tokens = ", ".join(f"{amount:.6e}" for amount in sorted(amounts))
        lines.append(
            f"    - {{width: {size.width}, depth: {size.depth}, num_heads: {size.num_heads}, "
            f"tokens: [{tokens}], seeds: {list(seeds)}}}"
        )
    return lines


def read_template(path: Path) -> Template:
    """Read a sweep file as template.

    Parameters
    ----------
    path : Path
        The YAML; it may leave out name and design.

    Returns
    -------
    Template
        Checked as `plan` checks a sweep.

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
    sweep = build_sweep({**PLACEHOLDER, **raw}, where=str(path))
    family, objective = sweep.model.get("family", "decoder"), sweep.objective.name
    if (family, objective) != ("decoder", "causal"):
        raise UserError(
            f"{path} trains a model of family {family} on {objective} targets; advice counts the FLOPs of causal "
            "decoders only"
        )
    return Template(path=path, raw=raw, sweep=sweep)
