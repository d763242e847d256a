"""The schema of a sweep's YAML: one frozen dataclass for each block. Reading files is `reading`; making runs is
`designs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from experiments.config.recipes import RECIPES
from experiments.data.config import DataConfig
from models.config.checks import nearest_names
from models.config.objective import ObjectiveConfig
from models.config.transformer import TransformerConfig

DESIGNS = ("isoflop", "ladder", "parametric")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One size of the ladder."""

    width: int
    """d_model."""
    depth: int
    """Number of layers (of each stack in an encoder-decoder)."""
    num_heads: int | None = None
    """Attention heads; None: width / design.head_width, at least one."""
    ffn_width: int | None = None
    """Hidden size of the feed-forward layer; None: the model's own rule."""


@dataclass(frozen=True, kw_only=True)
class Cell(Shape):
    """One size with token budgets of its own."""

    tokens: tuple[float, ...]
    """D of each run, tokens."""
    seeds: tuple[int, ...] = ()
    """Each of `tokens` is trained once with each of these; empty: the sweep's own seeds."""

    def __post_init__(self) -> None:
        if not self.tokens or not all(value > 0 for value in self.tokens):
            raise ValueError(
                f"the cell of width {self.width} and depth {self.depth} has tokens {list(self.tokens)}; "
                "give positive numbers such as [3.0e+5]"
            )


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """Which sizes meet which token or compute budgets."""

    kind: str
    """isoflop: every shape at every compute budget, D = C / FLOPs per token. ladder: every shape at every token
    budget. parametric: `cells`, each with its own token budgets and seeds, as `python -m analysis advise` writes
    them."""
    shapes: tuple[Shape, ...] = ()
    """Sizes of the fitted runs."""
    cells: tuple[Cell, ...] = ()
    """parametric: sizes with their token budgets."""
    budgets: tuple[float, ...] = ()
    """isoflop: C of each budget, counted training FLOPs."""
    tokens: tuple[float, ...] = ()
    """ladder: D of each rung, tokens."""
    tokens_per_param: tuple[float, ...] = ()
    """ladder: D as multiples of N, instead of `tokens`."""
    ratio_range: tuple[float, float] | None = None
    """isoflop: keep a shape at a budget only when D / N lies within these two numbers."""
    heldout_budgets: tuple[float, ...] = ()
    """isoflop: budgets that no fit may see; they test the prediction."""
    heldout_shapes: tuple[Shape, ...] = ()
    """Shapes of the held-out budgets; empty: `shapes`, within `ratio_range`."""
    head_width: int = 16
    """Width of one attention head where a shape does not give num_heads."""

    def __post_init__(self) -> None:
        if self.kind not in DESIGNS:
            raise ValueError(f"design.kind is {self.kind!r}; {_nearest(self.kind, DESIGNS)}")
        if self.kind == "parametric":
            if not self.cells:
                raise ValueError("design.cells is empty; give at least one {width: ..., depth: ..., tokens: [...]}")
            for name in ("shapes", "budgets", "tokens", "tokens_per_param", "heldout_budgets"):
                if getattr(self, name):
                    raise ValueError(f"design.{name} has no meaning in a parametric design; put it into design.cells")
        elif self.cells:
            raise ValueError(f"design.cells has no meaning in a design of kind {self.kind}; set kind to parametric")
        elif not self.shapes:
            raise ValueError("design.shapes is empty; give at least one {width: ..., depth: ...}")
        if self.kind == "isoflop" and not self.budgets:
            raise ValueError("design.budgets is empty; an isoflop design needs compute budgets such as [1e11, 2e11]")
        if self.kind == "ladder" and bool(self.tokens) == bool(self.tokens_per_param):
            raise ValueError("a ladder design needs either design.tokens or design.tokens_per_param, and not both")
        for name in ("budgets", "tokens", "tokens_per_param", "heldout_budgets"):
            for value in getattr(self, name):
                if not value > 0:
                    raise ValueError(f"design.{name} holds {value}; give positive numbers")


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """Hyperparameters by rule, and what departs from the rule."""

    name: str = "byte-small"
    """A name of experiments/config/recipes.py."""
    rate_scale: float = 1.0
    """Factor on the recipe's peak learning rate."""
    batch_scale: float = 1.0
    """Factor on the recipe's tokens per step."""
    learning_rate: float | None = None
    """A fixed peak rate instead of the rule's."""
    batch_tokens: int | None = None
    """A fixed batch instead of the rule's."""
    warmup_tokens: int | None = None
    """A fixed warm-up instead of the rule's."""
    weight_decay: float | None = None
    """A fixed weight decay instead of the rule's."""
    grad_clip: float | None = 1.0
    """Norm at which gradients are clipped; null: off."""

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise ValueError(f"recipe.name is {self.name!r}; {_nearest(self.name, RECIPES)}")


@dataclass(frozen=True, kw_only=True)
class ScheduleChoice:
    """Shape of the learning rate; lengths follow each run's tokens."""

    name: str = "wsd"
    """constant, cosine, linear or wsd (warm-up, stable, decay)."""
    decay_fraction: float = 0.2
    """wsd: part of the run that decays."""
    decay_shape: str = "linear"
    """wsd: linear or 1-sqrt."""
    final_fraction: float = 0.0
    """Rate at the end over the peak rate."""


@dataclass(frozen=True, kw_only=True)
class ReplicateConfig:
    """Runs that are repeated with other seeds, to measure the noise between seeds."""

    seeds: tuple[int, ...]
    """Seeds beside the sweep's own."""
    width: int
    """Width of the repeated shape."""
    depth: int
    """Depth of the repeated shape."""
    budget: float
    """isoflop: C of the repeated run. ladder: its tokens."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Choices of the report, fixed before training."""

    law: str = "hoffmann"
    """The law that makes the held-out prediction."""
    holdout: str | None = None
    """Expression over columns that picks the held-out rows; null: role == 'heldout' when the design holds budgets
    out."""
    title: str | None = None
    """Heading of the page."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """One study: a set of runs, named."""

    name: str
    """Name for people: manifest, report folder, W&B group. Not part of any identity."""
    data: DataConfig
    """Corpus, tokenizer, context."""
    design: DesignConfig
    """Sizes and budgets."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Fields of TransformerConfig other than width, depth, heads, vocabulary and context."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What is predicted: causal, masked, span or infilling; `model.family` has to fit."""
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    """Learning rate, batch, warm-up, weight decay."""
    schedule: ScheduleChoice = field(default_factory=ScheduleChoice)
    """Learning-rate schedule."""
    seeds: tuple[int, ...] = (0,)
    """Every run is trained once with each."""
    replicates: tuple[ReplicateConfig, ...] = ()
    """Extra seeds for some runs."""
    vary: Mapping[str, Any] = field(default_factory=dict)
    """The sweep is repeated for each combination. Either a dotted field of this file -> values, e.g.
    {recipe.rate_scale: [0.5, 1, 2]}, or a name -> {arm: {dotted field: value, ...}, ...}, where arms differ in several
    fields."""
    precision: str = "fp32"
    """fp32, bf16, or auto: bf16 where the device multiplies it natively. auto makes identities depend on the device."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """How the report is made."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name is {self.name!r}; use letters, digits, '.', '_' and '-'")
        if self.precision not in ("fp32", "bf16", "auto"):
            raise ValueError(f"precision is {self.precision!r}; {_nearest(self.precision, ('fp32', 'bf16', 'auto'))}")
        allowed = {item.name for item in fields(TransformerConfig)} - RESERVED_MODEL_FIELDS
        for key in self.model:
            if key in RESERVED_MODEL_FIELDS:
                raise ValueError(f"model.{key} is set by the design's shapes and the data; remove it from `model`")
            if key not in allowed:
                raise ValueError(f"model.{key} is not a field of the transformer; {_nearest(key, allowed)}")
        for axis, values in self.vary.items():
            if not isinstance(values, (Mapping, list, tuple)) or not values:
                raise ValueError(
                    f"vary.{axis} is {values!r}; give a list of values, or arms with the fields that they set"
                )
        if not self.seeds:
            raise ValueError("seeds is empty; give at least one, for example [0]")


RESERVED_MODEL_FIELDS = {"width", "depth", "num_heads", "vocab_size", "context"}


def _nearest(word: str, known: Any) -> str:
    names = sorted(map(str, known))
    close = nearest_names(word, names)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
