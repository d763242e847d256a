"""The schema of a fine-tuning sweep's YAML: which pre-trained runs, which task, which methods from how many examples.

Reading files is `config.reading`; making runs is `planning.tuning`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.config.codec import check_value, convert
from experiments.config.sweep import ModelValue
from experiments.data.config import bpe_size
from experiments.errors import UserError
from experiments.machine.devices import SweepPrecision
from models.config.checks import require_count, require_positive
from models.config.finetuning import MethodConfig, MethodName, Scaling
from models.config.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Which bodies are tuned: one of sweep, run, huggingface and scratch."""

    sweep: str | None = None
    """Every run of a sweep in the same store, by the sweep's name, or by its file, which the same command plans too.
    Those that are not finished are trained first."""
    run: str | None = None
    """One finished run, by its id or the beginning of it."""
    huggingface: str | None = None
    """A local checkpoint folder: config.json, safetensors and tokenizer.json."""
    scratch: bool = False
    """No pre-trained body: fresh weights of the shape `model`."""
    tokenizer: str = "bytes"
    """scratch: bytes, or bpe-SIZE, a vocabulary of that size which is learned on the task's training split."""
    model: Mapping[str, ModelValue] = field(default_factory=dict)
    """scratch: fields of the model other than the vocabulary, such as {family: encoder, width: 32, depth: 2, num_heads:
    2, context: 128}."""

    def __post_init__(self) -> None:
        given = [self.sweep, self.run, self.huggingface, self.scratch or None]
        if sum(one is not None for one in given) != 1:
            raise UserError(
                "pretrained takes one of {sweep: NAME}, {run: RUN_ID}, {huggingface: FOLDER} and {scratch: true}; give "
                "exactly one"
            )
        if self.model and not self.scratch:
            raise UserError("pretrained.model is the shape of a body from scratch; leave it out, or set scratch: true")
        if self.tokenizer != "bytes" and not self.scratch:
            raise UserError("pretrained.tokenizer is that of a body from scratch; leave it out, or set scratch: true")
        if self.tokenizer != "bytes" and bpe_size(self.tokenizer) is None:
            raise UserError(f"pretrained.tokenizer is {self.tokenizer!r}; give bytes, or bpe-SIZE such as bpe-2048")
        if "vocab_size" in self.model:
            raise UserError("pretrained.model.vocab_size is that of the tokenizer; leave it out")
        for name, value in self.model.items():
            check_value(TransformerConfig, name, value, prefix="pretrained.model.")

    @property
    def file(self) -> Path | None:
        """The sweep's file where `sweep` names one."""
        return Path(self.sweep) if self.sweep is not None and self.sweep.endswith((".yaml", ".yml")) else None


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is learnt."""

    name: str
    """A name of `data list`, or csv:PATH, jsonl:PATH, parquet:PATH, hf:FOLDER or hf:NAME, or corpus:NAME,
    whose passages are learnt."""
    text: str = "text"
    """Column of the inputs in a file."""
    label: str = "label"
    """Column of the labels in a file."""
    val_examples: int | None = None
    """Examples of the validation split that are measured; null: all."""
    test_examples: int | None = None
    """Examples of the test split that are measured; null: all."""
    max_tokens: int | None = None
    """Tokens that are kept of an input; null: as many as the context has room for."""
    question: str | None = None
    """Column of the questions in a file; `label` then names that of the answers, each a part of its text."""
    target: str | None = None
    """Column of the texts to be written in a file."""
    target_tokens: int | None = None
    """Tokens that are written at most; null: half of a decoder's context, all of an encoder-decoder's."""
    beams: int = 4
    """Hypotheses of the beam search by which the test split is written."""
    passage: int | None = None
    """corpus: characters of a passage, which is one example; null: 256."""
    overlap: int | None = None
    """Questions: a text longer than the context is read in windows that share so many tokens; null: it is cut."""

    def __post_init__(self) -> None:
        for name in ("val_examples", "test_examples", "max_tokens", "target_tokens", "beams", "passage", "overlap"):
            if getattr(self, name) is not None:
                require_count(f"task.{name}", getattr(self, name))
        if self.question is not None and self.target is not None:
            raise UserError("task.question asks for spans and task.target for texts to be written; give one of them")
        if ":" not in self.name and (self.question or self.target):
            raise UserError(f"task.question and task.target name columns of a file, and {self.name!r} is none")
        if self.passage is not None and not self.name.startswith("corpus:"):
            raise UserError(f"task.passage cuts a corpus:NAME into passages, and {self.name!r} is none; leave it out")


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
    bucket_batches: int | None = None
    """Batches that are drawn together and sorted by length before they are cut, such as 16: fewer tokens are padding
    where lengths differ. null: batches are as drawn. Part of a run's identity."""
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
        if self.bucket_batches is not None:
            require_count("design.bucket_batches", self.bucket_batches, minimum=2)
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
        others = [choice.name for choice in self.design.methods if choice.name != "scratch"]
        if self.pretrained.scratch and others:
            raise UserError(
                f"method {others[0]!r} tunes what was pre-trained, and pretrained.scratch is true; give methods: "
                f"[scratch], or name a sweep, a run or a checkpoint"
            )
        if self.design.rates.seeds > len(self.seeds):
            raise UserError(
                f"design.rates.seeds is {self.design.rates.seeds}, more than the {len(self.seeds)} of seeds; lower it"
            )

    def choices(self) -> tuple[MethodChoice, ...]:
        """The methods, the controls among them; from scratch there is no body to freeze."""
        found = self.design.choices()
        return tuple(one for one in found if one.name == "scratch") if self.pretrained.scratch else found


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
