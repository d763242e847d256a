"""SweepConfig: what a person writes in one YAML file, and its reading.

Owns the YAML's fields, their types, command-line overrides and the messages for what cannot be right. It must not know
how runs are trained or stored; `designs.py` turns a SweepConfig into RunConfigs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from experiments.data.config import DataConfig
from experiments.errors import UserError
from experiments.recipes import RECIPES
from models.config import TransformerConfig
from models.objective_config import ObjectiveConfig

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
    """A name of experiments/recipes.py."""
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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which 1e18 is a number, as in YAML 1.2; by libyaml where it is installed."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
_FLOAT_BEFORE_INT = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {  # ints first, so that 12 stays an int
    first: sorted(rules, key=lambda rule: rule[0] != _FLOAT_BEFORE_INT)
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, *, where: str) -> Any:
    """Plain data from YAML text; a UserError names the place."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line} is not YAML: {getattr(error, 'problem', error)}; mend that line") from error


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep file, apply overrides such as `--design.budgets=[1e11,2e11]`, and check every key and type.

    Raises
    ------
    UserError
        In one sentence: what is wrong, where, and the nearest name that would have been right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = sorted(str(file) for file in path.parent.glob("*.yaml"))
        hint = f"; there are {', '.join(known)}" if known else ""
        raise UserError(f"there is no sweep file {path}{hint}") from None
    raw = parse_yaml(text, where=str(path))
    if not isinstance(raw, dict):
        raise UserError(f"{path} does not hold a mapping; start it with `name: ...`")
    return build_sweep(apply_overrides(raw, overrides), where=str(path))


def build_sweep(raw: Mapping[str, Any], *, where: str) -> SweepConfig:
    """A SweepConfig from plain data, checked key by key and then by type (jsonargparse)."""
    _check_keys(SweepConfig, raw, prefix="", where=where)
    from jsonargparse import ArgumentError

    parser = _parser()
    try:
        namespace = parser.parse_object({"sweep": _as_plain(raw)})
        sweep = parser.instantiate(namespace).sweep
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {_first_sentence(str(error))}") from error
    assert isinstance(sweep, SweepConfig)
    return sweep


@cache
def _parser() -> Any:
    """The typed parser of a sweep; making it costs more than using it."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sweep", type=SweepConfig)
    return parser


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The mapping with each `--dotted.path=value` set; the value is YAML. UserError for a malformed override."""
    result = _as_plain(raw)
    words = list(overrides)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UserError(f"{word!r} is not an override; write --path.to.field=value")
        name, found, text = word[2:].partition("=")
        if not found:
            if not words:
                raise UserError(f"override {word} has no value; write {word}=value")
            text = words.pop(0)
        set_path(result, name, parse_yaml(text, where=f"override {word}"))
    return result


def set_path(target: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in nested plain mappings, making mappings on the way."""
    *parents, leaf = path.split(".")
    node: Any = target
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UserError(f"{path} cannot be set: {parent} is not a mapping")
    node[leaf] = value


def _as_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_plain(item) for key, item in value.items()}
    return [_as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _check_keys(cls: Any, raw: Any, *, prefix: str, where: str) -> None:
    """Refuse unknown keys with the nearest known one, at every level of nested dataclasses."""
    if not isinstance(raw, Mapping):
        raise UserError(
            f"{where}: {prefix.rstrip('.') or 'the file'} must be a mapping with keys such as {fields(cls)[0].name}"
        )
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]
    for key, value in raw.items():
        if key not in names:
            raise UserError(f"{where}: unknown key {prefix}{key}; {_nearest(str(key), names)}")
        inner = [hint for hint in (hints[key], *get_args(hints[key])) if is_dataclass(hint)]
        if inner and isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                _check_keys(inner[0], item, prefix=f"{prefix}{key}[{index}].", where=where)
        elif inner and value is not None:
            _check_keys(inner[0], value, prefix=f"{prefix}{key}.", where=where)


def _nearest(word: str, known: Any) -> str:
    names = sorted(map(str, known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"


def _first_sentence(message: str) -> str:
    """What a parser's message says, on one line, with the field in front."""
    field_name = re.search(r'Parser key "sweep\.?([^"]*)"', message)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    told = [
        line for line in lines if not line.startswith(("Parser key", "Validation failed", "Does not validate against"))
    ]
    sentence = (
        (told or lines)[-1]
        .replace("<class 'float'>", "number")
        .replace("<class 'int'>", "whole number")
        .replace("<class 'str'>", "text")
    )
    return f"{field_name[1]}: {sentence}" if field_name and field_name[1] else sentence
