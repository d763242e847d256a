"""The schema of a fine-tuning sweep's YAML: which pre-trained runs, which task, which methods from how many examples.

Reading files is `config.reading`; making runs is `planning.tuning`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from experiments.config.codec import convert
from experiments.errors import UserError
from experiments.machine.devices import SweepPrecision
from models.config.checks import require_count, require_positive
from models.config.finetuning import MethodConfig, MethodName, Scaling


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Which runs are tuned: one of the two."""

    sweep: str | None = None
    """Every finished run of a sweep in the same store; those that come later are added by the same command."""
    run: str | None = None
    """One run, by its id or the beginning of it."""

    def __post_init__(self) -> None:
        if (self.sweep is None) == (self.run is None):
            raise UserError("pretrained takes one of {sweep: NAME} and {run: RUN_ID}; give exactly one")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is learnt."""

    name: str
    """A name of `data list`, or csv:PATH, jsonl:PATH, parquet:PATH."""
    text: str = "text"
    """Column of the inputs in a file."""
    label: str = "label"
    """Column of the labels in a file."""
    val_examples: int | None = None
    """Examples of the validation split that are measured; null: all."""
    test_examples: int | None = None
    """Examples of the test split that are measured; null: all."""

    def __post_init__(self) -> None:
        for name in ("val_examples", "test_examples"):
            if getattr(self, name) is not None:
                require_count(f"task.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class MethodChoice:
    """One method, at one or several sizes."""

    name: MethodName
    """full, head, lora, adapters, prompt, bitfit or scratch."""
    sizes: tuple[int, ...] = ()
    """Ranks, widths or numbers of vectors; empty: the usual one."""
    alpha: float | None = None
    """LoRA's alpha; null: twice the rank."""
    scaling: Scaling = "alpha/rank"
    """LoRA: alpha/rank or rslora."""
    targets: tuple[str, ...] = ()
    """LoRA: layers that get an update; empty: all linear layers."""
    learning_rate: float | None = None
    """The rate from which tuning starts; null: the rule's."""

    def __post_init__(self) -> None:
        if self.learning_rate is not None:
            require_positive("learning_rate", self.learning_rate)
        self.methods()

    def methods(self) -> tuple[MethodConfig, ...]:
        """The method at each of its sizes."""
        return tuple(
            MethodConfig(name=self.name, size=size, alpha=self.alpha, scaling=self.scaling, targets=self.targets)
            for size in self.sizes or (None,)
        )


@dataclass(frozen=True, kw_only=True)
class RatesConfig:
    """How the learning rate of each cell (body, method, size, examples) is found, on validation."""

    span: int = 1
    """The first rates are the starting rate times the powers of two from -span to span; 0: nothing is tuned."""
    limit: int = 4
    """Powers of two on each side up to which the search goes on while the best rate lies at its edge."""
    seeds: int = 1
    """How many of the seeds tune; the others are trained at the rate that these found."""

    def __post_init__(self) -> None:
        require_count("design.rates.span", self.span, minimum=0)
        require_count("design.rates.limit", self.limit, minimum=0)
        require_count("design.rates.seeds", self.seeds)
        if 0 < self.limit < self.span:
            raise UserError(f"design.rates.limit is {self.limit}, below span {self.span}; give at least the span")


@dataclass(frozen=True, kw_only=True)
class FinetuneDesign:
    """Which methods learn from how many examples."""

    kind: Literal["finetune"]
    """finetune."""
    examples: tuple[int, ...]
    """Sizes of the training set; larger ones hold the smaller ones of the same seed. 0 measures the new head
    untrained."""
    methods: tuple[MethodChoice, ...]
    """What learns; a name, or {name: lora, sizes: [1, 4, 16]}."""
    controls: bool = True
    """Add what every study compares with: head (the body frozen), scratch (fresh weights), and no examples."""
    rates: RatesConfig = field(default_factory=RatesConfig)
    """How rates are tuned."""
    epochs: int = 3
    """Passes over the examples ..."""
    min_steps: int = 60
    """... but at least so many steps."""
    batch: int = 16
    """Examples of a step."""
    weight_decay: float = 0.01
    """AdamW's."""
    evaluations: int = 4
    """Times that validation is measured during a run."""
    forgetting: bool = True
    """Measure the pre-training validation loss after tuning."""

    def __post_init__(self) -> None:
        if not self.examples:
            raise UserError("design.examples is empty; give sizes of the training set such as [100, 300, 1000]")
        for count in self.examples:
            require_count("design.examples", count, minimum=0)
        if not self.methods:
            raise UserError("design.methods is empty; give at least one, such as [full, lora]")
        for name in ("epochs", "batch", "evaluations"):
            require_count(f"design.{name}", getattr(self, name))
        require_count("design.min_steps", self.min_steps, minimum=0)
        if not self.weight_decay >= 0:
            raise UserError(f"design.weight_decay is {self.weight_decay!r}; give zero or a positive number")

    def choices(self) -> tuple[MethodChoice, ...]:
        """The methods, the controls among them."""
        named = {choice.name for choice in self.methods}
        controls: tuple[MethodName, ...] = ("head", "scratch") if self.controls else ()
        return (*self.methods, *(MethodChoice(name=name) for name in controls if name not in named))


@dataclass(frozen=True, kw_only=True)
class FinetuneReport:
    """Choices of the report, fixed before training."""

    title: str | None = None
    """Heading of the page."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSweep:
    """One study of fine-tuning: a set of runs, named."""

    name: str
    """Name for people: manifest, report folder, W&B group. Not part of any identity."""
    pretrained: PretrainedConfig
    """Which bodies."""
    task: TaskConfig
    """What they learn."""
    design: FinetuneDesign
    """Methods and examples."""
    seeds: tuple[int, ...] = (0,)
    """Every cell is trained once with each; it draws the examples, their order and the new parameters."""
    precision: SweepPrecision = "fp32"
    """fp32, bf16, or auto."""
    report: FinetuneReport = field(default_factory=FinetuneReport)
    """How the report is made."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UserError(f"name is {self.name!r}; use letters, digits, '.', '_' and '-'")
        if not self.seeds:
            raise UserError("seeds is empty; give at least one, for example [0]")
        for seed in self.seeds:
            require_count("seeds", seed, minimum=0)
        if self.design.rates.seeds > len(self.seeds):
            raise UserError(
                f"design.rates.seeds is {self.design.rates.seeds}, more than the {len(self.seeds)} of seeds; lower it"
            )


def is_finetune(raw: Mapping[str, Any]) -> bool:
    """Whether the plain data of a sweep file describe a fine-tuning sweep."""
    design = raw.get("design")
    return "pretrained" in raw or (isinstance(design, Mapping) and design.get("kind") == "finetune")


def build_finetune_sweep(raw: Mapping[str, Any], *, where: str) -> FinetuneSweep:
    """Build a FinetuneSweep from plain data; a method may be its name alone.

    Parameters
    ----------
    raw : mapping of str to object
        What the YAML says.
    where : str
        The file, for messages.

    Raises
    ------
    UserError
        See `codec.convert`.
    """
    design = raw.get("design")
    if isinstance(design, Mapping) and isinstance(design.get("methods"), (list, tuple)):
        methods = [{"name": item} if isinstance(item, str) else item for item in design["methods"]]
        raw = {**raw, "design": {**design, "methods": methods}}
    return convert(FinetuneSweep, raw, where=where)
