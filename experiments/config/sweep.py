"""The schema of a sweep's YAML: one frozen dataclass for each block, which checks what stands in it.

Reading files is `reading`; making runs is `designs`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.config.codec import check_value, suggestion
from experiments.config.recipes import RECIPES
from experiments.config.report_laws import LAW_ALIASES, REPORT_LAWS, WEIGHTED_SET
from experiments.data.config import DataConfig
from experiments.errors import UserError
from experiments.machine.choices import ExecutionChoices
from experiments.machine.devices import SweepPrecision
from models.config.checks import require_count, require_fraction, require_positive
from models.config.objective import ObjectiveConfig
from models.config.optimizer import OptimizerConfig, OptimizerName
from models.config.transformer import TransformerConfig

RESERVED_MODEL_FIELDS = {"width", "depth", "num_heads", "vocab_size", "context"}
"""Fields of TransformerConfig that the design's shapes and the data set."""


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

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            require_count(name, getattr(self, name))
        for name in ("num_heads", "ffn_width"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Cell(Shape):
    """One size with token budgets of its own."""

    tokens: tuple[float, ...]
    """D of each run, tokens."""
    seeds: tuple[int, ...] = ()
    """Each of `tokens` is trained once with each of these; empty: the sweep's own seeds."""
    rates: tuple[float, ...] = ()
    """tuned: each of `tokens` is trained once with each of these peak learning rates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for rate in self.rates:
            require_positive("rates", rate)
        if not self.tokens or not all(math.isfinite(value) and value > 0 for value in self.tokens):
            raise UserError(
                f"the cell of width {self.width} and depth {self.depth} has tokens {list(self.tokens)}; "
                "give positive numbers such as [3.0e+5]"
            )
        for seed in self.seeds:
            require_count("seeds", seed, minimum=0)


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """Which sizes meet which token or compute budgets."""

    kind: Literal["isoflop", "ladder", "parametric", "tuned"]
    """isoflop: every shape at every compute budget, D = C / FLOPs per token. ladder: every shape at every token
    budget. parametric: `cells`, each with its own token budgets and seeds, as `isoflop advise` writes
    them. tuned: a ladder whose every cell is trained at several peak rates, or `cells` with `rates`, as `isoflop tuned`
    writes them for the next round."""
    shapes: tuple[Shape, ...] = ()
    """Sizes of the fitted runs."""
    cells: tuple[Cell, ...] = ()
    """parametric, tuned: sizes with their token budgets."""
    budgets: tuple[float, ...] = ()
    """isoflop: C of each budget, counted training FLOPs."""
    tokens: tuple[float, ...] = ()
    """ladder: D of each rung, tokens."""
    tokens_per_param: tuple[float, ...] = ()
    """ladder: D as multiples of N, instead of `tokens`."""
    rate_scales: tuple[float, ...] = ()
    """tuned: peak rates of every cell as multiples of the recipe's; empty: a half, one and two."""
    ratio_range: tuple[float, float] | None = None
    """isoflop: keep a shape at a budget only when D / N lies within these two numbers."""
    heldout_budgets: tuple[float, ...] = ()
    """isoflop: budgets that no fit may see; they test the prediction."""
    heldout_shapes: tuple[Shape, ...] = ()
    """Shapes of the held-out budgets; empty: `shapes`, within `ratio_range`."""
    head_width: int = 16
    """Width of one attention head where a shape does not give num_heads."""

    def __post_init__(self) -> None:
        require_count("design.head_width", self.head_width)
        for name in ("budgets", "tokens", "tokens_per_param", "heldout_budgets"):
            for value in getattr(self, name):
                if not (math.isfinite(value) and value > 0):
                    raise UserError(f"design.{name} holds {value}; give positive numbers")
        if self.ratio_range is not None and not 0 <= self.ratio_range[0] < self.ratio_range[1]:
            raise UserError(f"design.ratio_range is {list(self.ratio_range)}; give the smaller number first")
        self._check_heldout()
        for scale in self.rate_scales:
            require_positive("design.rate_scales", scale)
        if self.kind == "parametric" or (self.kind == "tuned" and self.cells):
            self._check_cells()
        elif self.cells:
            raise UserError(f"design.cells has no meaning in a design of kind {self.kind}; set kind to parametric")
        elif not self.shapes:
            raise UserError("design.shapes is empty; give at least one {width: ..., depth: ...}")
        if self.kind == "isoflop" and not self.budgets:
            raise UserError("design.budgets is empty; an isoflop design needs compute budgets such as [1e11, 2e11]")
        stepped = self.kind == "ladder" or (self.kind == "tuned" and not self.cells)
        if stepped and bool(self.tokens) == bool(self.tokens_per_param):
            raise UserError(f"a {self.kind} design needs either design.tokens or design.tokens_per_param, and not both")
        if self.kind != "tuned" and (self.rate_scales or any(cell.rates for cell in self.cells)):
            raise UserError(f"rates of cells have no meaning in a design of kind {self.kind}; set kind to tuned")

    def _check_heldout(self) -> None:
        """Refuse held-out budgets and shapes that no run would come of, or that are fitted too."""
        names = ("ratio_range", "heldout_budgets", "heldout_shapes", "budgets")
        for name in names if self.kind in ("ladder", "tuned") else ():
            if getattr(self, name):
                raise UserError(
                    f"design.{name} has no meaning in a ladder, which no compute budget describes; leave it out, or "
                    "set kind to isoflop"
                )
        if self.kind == "isoflop":
            for name in ("tokens", "tokens_per_param"):
                if getattr(self, name):
                    raise UserError(
                        f"design.{name} has no meaning in an isoflop design; leave it out, or take a ladder"
                    )
        both = [budget for budget in self.heldout_budgets if budget in self.budgets]
        if both:
            raise UserError(
                f"budget {both[0]:g} stands in design.budgets and in design.heldout_budgets: what is fitted tests no "
                "prediction; take it out of one of them"
            )
        if self.heldout_shapes and not self.heldout_budgets:
            raise UserError(
                "design.heldout_shapes needs design.heldout_budgets; give the budget that tests, or drop it"
            )

    def _check_cells(self) -> None:
        if not self.cells:
            raise UserError("design.cells is empty; give at least one {width: ..., depth: ..., tokens: [...]}")
        for name in ("shapes", "budgets", "tokens", "tokens_per_param", "heldout_budgets"):
            if getattr(self, name):
                raise UserError(f"design.{name} has no meaning in a {self.kind} design; put it into design.cells")
        if self.kind == "tuned" and not all(cell.rates for cell in self.cells):
            raise UserError("design.cells of a tuned design need rates: [...], peak learning rates such as 1.0e-3")


@dataclass(frozen=True, kw_only=True)
class RateLaw:
    """Peak learning rate = coefficient * params**params * tokens**tokens * batch_tokens**batch."""

    coefficient: float
    """Factor of the law, as `isoflop tuned --recipe` writes it."""
    params: float = 0.0
    """Power of N."""
    tokens: float = 0.0
    """Power of D."""
    batch: float = 0.0
    """Power of the tokens of a step."""

    def __post_init__(self) -> None:
        require_positive("recipe.rate_law.coefficient", self.coefficient)

    def __call__(self, params: float, tokens: float, batch_tokens: float) -> float:
        """The peak rate of a run."""
        return float(self.coefficient * params**self.params * tokens**self.tokens * batch_tokens**self.batch)


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
    rate_law: RateLaw | None = None
    """A fitted law of the peak rate instead of the rule's; null: the rule's."""
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
            raise UserError(f"recipe.name is {self.name!r}; {suggestion(self.name, RECIPES)}")
        for name in ("rate_scale", "batch_scale", "learning_rate", "grad_clip"):
            value = getattr(self, name)
            if value is not None:
                require_positive(f"recipe.{name}", value)
        if self.learning_rate is not None and self.rate_law is not None:
            raise UserError("recipe.learning_rate and recipe.rate_law are both given; leave one out")
        if self.batch_tokens is not None:
            require_count("recipe.batch_tokens", self.batch_tokens)
        if self.warmup_tokens is not None:
            require_count("recipe.warmup_tokens", self.warmup_tokens, minimum=0)
        if self.weight_decay is not None and not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UserError(f"recipe.weight_decay is {self.weight_decay!r}; give zero or a positive number")


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice:
    """Which rule moves the weights; rate, decay and clipping are the recipe's."""

    name: OptimizerName = "adamw"
    """adamw; muon for hidden matrices with adamw for the rest; sgd with momentum; or lion."""
    matrix_rate: float | None = None
    """muon: peak rate of hidden matrices; None: the recipe's."""
    matrix_decay: float | None = None
    """muon: weight decay of hidden matrices; None: the recipe's."""
    momentum: float = 0.95
    """Decay of the momentum (muon, sgd)."""
    ema_decay: float | None = None
    """Validation and kept weights are an average of the weights, of this decay a step; None: the last weights."""

    def __post_init__(self) -> None:
        OptimizerConfig(**vars(self))


@dataclass(frozen=True, kw_only=True)
class ScheduleChoice:
    """Shape of the learning rate; lengths follow each run's tokens."""

    name: Literal["constant", "cosine", "linear", "wsd"] = "wsd"
    """constant, cosine, linear or wsd (warm-up, stable, decay)."""
    decay_fraction: float = 0.2
    """wsd: part of the run that decays."""
    decay_shape: Literal["linear", "1-sqrt"] = "linear"
    """wsd: linear or 1-sqrt."""
    final_fraction: float = 0.0
    """Rate at the end over the peak rate."""

    def __post_init__(self) -> None:
        require_fraction("schedule.decay_fraction", self.decay_fraction)
        require_fraction("schedule.final_fraction", self.final_fraction)


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

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UserError("seeds is empty; give at least one beside the sweep's own, for example [1]")
        for seed in self.seeds:
            require_count("seeds", seed, minimum=0)
        for name in ("width", "depth"):
            require_count(name, getattr(self, name))
        require_positive("budget", self.budget)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Choices of the report, fixed before training."""

    law: str | None = None
    """The law that is fitted, and makes the held-out prediction; auto for a weighted set of laws, whose heaviest law is
    drawn; null: hoffmann is fitted, and a weighted set makes the prediction."""
    holdout: str | None = None
    """Expression over columns that picks the held-out rows; null: role == 'heldout' when the design holds budgets
    out."""
    title: str | None = None
    """Heading of the page."""
    reference: str | None = None
    """The arm of a sweep with `vary` that the law is fitted to and others are compared with; null: the first
    recorded."""

    def __post_init__(self) -> None:
        if self.law is not None and LAW_ALIASES.get(self.law, self.law) not in (*REPORT_LAWS, WEIGHTED_SET):
            raise UserError(f"report.law is {self.law!r}; {suggestion(self.law, REPORT_LAWS)}")


ModelValue = bool | int | float | str | None
"""What a field of a model may be."""
Arm = Mapping[str, Any]
"""Dotted fields of the file -> values, which are checked where they are set."""
Axis = list[Any] | Mapping[str | int | float, Arm]
"""Values of one dotted field; or arms by name."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """One study: a set of runs, named."""

    name: str
    """Name for people: manifest, report folder, W&B group. Not part of any identity."""
    data: DataConfig
    """Corpus, tokenizer, context."""
    design: DesignConfig
    """Sizes and budgets."""
    model: Mapping[str, ModelValue] = field(default_factory=dict)
    """Fields of TransformerConfig other than width, depth, heads, vocabulary and context."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What is predicted: causal, masked, span or infilling; `model.family` has to fit."""
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    """Learning rate, batch, warm-up, weight decay."""
    optimizer: OptimizerChoice = field(default_factory=OptimizerChoice)
    """Which rule moves the weights."""
    schedule: ScheduleChoice = field(default_factory=ScheduleChoice)
    """Learning-rate schedule."""
    seeds: tuple[int, ...] = (0,)
    """Every run is trained once with each."""
    replicates: tuple[ReplicateConfig, ...] = ()
    """Extra seeds for some runs."""
    vary: Mapping[str, Axis] = field(default_factory=dict)
    """The sweep is repeated for each combination. Either a dotted field of this file -> values, e.g.
    {recipe.rate_scale: [0.5, 1, 2]}, or a name -> {arm: {dotted field: value, ...}, ...}, where arms differ in several
    fields."""
    precision: SweepPrecision = "fp32"
    """fp32, bf16, or auto: bf16 where the device multiplies it natively. auto makes identities depend on the device."""
    execution: ExecutionChoices = field(default_factory=ExecutionChoices)
    """How runs are executed; no part of any identity."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """How the report is made."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UserError(f"name is {self.name!r}; use letters, digits, '.', '_' and '-'")
        for key, value in self.model.items():
            if key in RESERVED_MODEL_FIELDS:
                raise UserError(f"model.{key} is set by the design's shapes and the data; remove it from `model`")
            check_value(TransformerConfig, key, value, prefix="model.")
        for axis, values in self.vary.items():
            if not values:
                raise UserError(f"vary.{axis} is empty; give a list of values, or arms with the fields that they set")
        if not self.seeds:
            raise UserError("seeds is empty; give at least one, for example [0]")
        for seed in self.seeds:
            require_count("seeds", seed, minimum=0)
        for replicate in self.replicates:
            known = [seed for seed in replicate.seeds if seed in self.seeds and self.design.kind != "parametric"]
            if known:
                raise UserError(
                    f"replicates: seed {known[0]} is one of the sweep's own seeds, with which every run is trained "
                    "anyway; give other seeds"
                )
        fixed, scaled = self.recipe.learning_rate is not None, self.recipe.rate_scale != 1.0
        if fixed and scaled:
            raise UserError(
                "recipe.learning_rate is fixed, and recipe.rate_scale would do nothing; leave one of them out"
            )
        if self.recipe.batch_tokens is not None and self.recipe.batch_scale != 1.0:
            raise UserError(
                "recipe.batch_tokens is fixed, and recipe.batch_scale would do nothing; leave one of them out"
            )
