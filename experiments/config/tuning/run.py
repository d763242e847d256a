"""FinetuneRun and its identity: which pre-trained body learns which task, from how many examples, by which method.

The second kind of run beside RunConfig; `experiments.config.kinds` is asked where either may come. It must not know
stores, or which sweep asked for a run. Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from experiments.config.codec import as_written, convert, plain
from experiments.config.run import FABRIC_PRECISION
from experiments.errors import UserError
from experiments.machine.devices import Precision
from models.config.accounting import params_fit, params_non_embedding, params_total
from models.config.checks import require_count, require_positive
from models.config.finetuning import MethodConfig, method_params, tuning_flops, writing_params
from models.config.transformer import TransformerConfig

TUNING_VERSION = 1
"""Raised when a change of code changes the result of an unchanged fine-tuning run."""
TaskKind = Literal["classification", "tagging", "question-answering", "generation", "language"]
"""What is asked of an input."""
Source = Literal["run", "huggingface", "scratch"]
"""Where a body is from: a run of the store, a checkpoint folder, or nowhere: its weights are fresh."""
WARMUP_FRACTION = 0.06
"""Part of the steps in which the rate rises (Liu et al. 2019, table 10)."""


@dataclass(frozen=True, kw_only=True)
class TaskRef:
    """A labelled task as a run knows it: content instead of place."""

    name: str
    """Name in the registry of tasks, or csv:PATH, jsonl:PATH, parquet:PATH, hf:WHERE. Not identity: the content is."""
    text: str = "text"
    """Column of the inputs in a file."""
    label: str = "label"
    """Column of the labels in a file."""
    content_hash: str
    """sha256 of all inputs and labels with their splits, 12 hex digits."""
    labels: tuple[str, ...] = ()
    """The classes or tags, in alphabetical order; none where an answer is a span or a text."""
    kind: TaskKind = "classification"
    """What is asked: one label for a text, or for each of its words, a span of it, or another text."""
    val_examples: int | None = None
    """Examples of the validation split that are measured; None: all."""
    test_examples: int | None = None
    """Examples of the test split that are measured; None: all."""
    max_tokens: int | None = None
    """Tokens that are kept of an input; None: as many as the context has room for."""
    question: str | None = None
    """Column of the questions in a file. Not identity."""
    target: str | None = None
    """Column of the texts to be written in a file. Not identity."""
    target_tokens: int | None = None
    """generation: tokens that are kept of a target, and written at most; None: half of a decoder's room."""
    beams: int = 4
    """generation: hypotheses of the beam search on the test split."""
    passage: int | None = None
    """language: characters of a passage. Not identity: the content is."""
    overlap: int | None = None
    """question-answering: a longer text is read in windows that share so many tokens; None: it is cut."""
    windows: float = 1.0
    """question-answering: windows of a training example, the mean when the run was planned. Not identity."""

    @property
    def short(self) -> str:
        """The name without a path, for people."""
        return self.name.partition(":")[0]

    def identity(self) -> dict[str, Any]:
        """What of the task defines a run; a field that was added later is left out at its default."""
        first = {name: getattr(self, name) for name in ("content_hash", "val_examples", "test_examples")}
        later = {name: getattr(self, name) for name in ("max_tokens", "target_tokens", "overlap")}
        found = first | {name: value for name, value in later.items() if value is not None}
        return found if self.beams == 4 else found | {"beams": self.beams}


@dataclass(frozen=True, kw_only=True)
class FinetuneRun:
    """One fine-tuning run, resolved."""

    kind: Literal["finetune"] = "finetune"
    """Tells its config.json from that of a pre-training run."""
    pretrained: str
    """Id of the pre-trained run, or the hash of a checkpoint's content, or that of a fresh model's shape."""
    source: Source = "run"
    """Where the body is from. Not identity: `pretrained` stands for it."""
    folder: str | None = None
    """huggingface: where the checkpoint lies. Not identity."""
    tokenizer: str = "bytes"
    """scratch: bytes, or bpe-SIZE, learned on the task's training split. Not identity: `pretrained` stands for it."""
    model: TransformerConfig
    """The body. Not identity: `pretrained` stands for it."""
    pretrained_tokens: int
    """D of the pre-trained run; 0 where it is not known. Not identity."""
    task: TaskRef
    """What is learnt."""
    examples: int
    """Training examples: the first of one order for each data seed, so that 300 contain the 100."""
    method: MethodConfig
    """What learns, and its size."""
    learning_rate: float
    """Peak rate of AdamW; it rises over WARMUP_FRACTION of the steps and falls to zero in a straight line."""
    weight_decay: float = 0.01
    """AdamW's."""
    epochs: int = 3
    """Passes over the examples ..."""
    min_steps: int = 60
    """... but at least so many steps, unless there are no examples."""
    batch: int = 16
    """Examples of a step."""
    bucket_batches: int | None = None
    """Batches that are drawn together and sorted by length before they are cut, so that few tokens are padding; None:
    batches are as drawn."""
    evaluations: int = 4
    """Times that validation is measured, evenly over the steps, the last one included."""
    forgetting: bool = True
    """Whether the pre-training validation loss is measured after tuning."""
    seed: int = 0
    """Seed of new parameters and of dropout."""
    data_seed: int = 0
    """Seed of which examples, and of their order."""
    precision: Precision = "fp32"
    """fp32, or bf16."""
    semantics_version: int = TUNING_VERSION
    """Version of the meaning of all fields above."""

    def __post_init__(self) -> None:
        if self.precision not in FABRIC_PRECISION:
            raise UserError(f"precision is {self.precision!r}; give one of {', '.join(FABRIC_PRECISION)}")
        for name in ("epochs", "batch", "evaluations"):
            require_count(name, getattr(self, name))
        for name in ("examples", "min_steps", "seed", "data_seed"):
            require_count(name, getattr(self, name), minimum=0)
        if self.bucket_batches is not None:
            require_count("bucket_batches", self.bucket_batches, minimum=2)
        require_positive("learning_rate", self.learning_rate)

    @property
    def num_steps(self) -> int:
        """Optimiser steps; none without examples."""
        if self.examples == 0 or not self.trainable:
            return 0
        return max(self.min_steps, self.epochs * -(-self.examples // self.batch))

    @property
    def longest(self) -> int:
        """Tokens that are kept of an input: the context less a soft prompt, or what the task says."""
        room = self.model.context - (self.method.size or 0 if self.method.name == "prompt" else 0)
        return room if self.task.max_tokens is None else min(room, self.task.max_tokens)

    @property
    def batch_sequences(self) -> int:
        """Examples of a step."""
        return self.batch

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a step."""
        return self.batch * self.longest

    @property
    def tokens(self) -> int:
        """Most tokens of the run in all windows; batches of shorter inputs have fewer, which the record counts."""
        return round(self.num_steps * self.batch_tokens * self.task.windows)

    @property
    def trainable(self) -> dict[str, int]:
        """Parameters that learn, by group, the new head among them."""
        found = method_params(self.model, self.method)
        if self.task.kind in ("generation", "language"):
            head = writing_params(self.model, self.method)
            return found | ({"head": head} if head else {})
        if self.task.kind == "question-answering":
            return found | {"ends": 2 * (self.model.width + 1)}
        return found | {"classifier": (self.model.width + 1) * len(self.task.labels)}

    @property
    def target_room(self) -> int:
        """generation: tokens of a target, its end among them: all of an encoder-decoder's context, else half of it."""
        both = self.model.family == "encoder-decoder"
        if self.task.kind == "language":
            return self.longest
        if self.task.target_tokens is not None:
            return min(self.longest if both else self.longest - 2, self.task.target_tokens)
        return self.longest if both else self.longest // 2

    def flops_of_sequence(self, length: int, written: int | None = None) -> float:
        """Count the FLOPs of one step on one input of so many tokens, of which so many are written."""
        if self.task.kind in ("generation", "language"):
            written = self.target_room if written is None else written
            both = self.model.family == "encoder-decoder"
            return tuning_flops(
                self.model,
                self.method,
                length=written if both else length,
                source_length=length if both else None,
                head_outputs=self.model.vocab_size * written,
                head_passes=3 if self.method.name in ("full", "scratch") else 2,
            )
        outputs = 2 * length if self.task.kind == "question-answering" else len(self.task.labels)
        outputs *= length if self.task.kind == "tagging" else 1
        return tuning_flops(self.model, self.method, length=length, head_outputs=outputs)


def canonical(config: FinetuneRun) -> dict[str, Any]:
    """Give the config as plain data, as config.json and the record hold it."""
    raw: dict[str, Any] = plain(config)
    return raw


def run_id(config: FinetuneRun) -> str:
    """Hash what defines the result of a run: 12 hex digits.

    Left out: what is known of the body, for which its id stands, and where a task's file lies, for which its content
    stands. A field that was added later is left out at its default.
    """
    identity = canonical(config) | {"task": config.task.identity()}
    if config.bucket_batches is None:
        del identity["bucket_batches"]
    for name in ("model", "pretrained_tokens", "source", "folder", "tokenizer"):
        del identity[name]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def from_dict(raw: Mapping[str, Any], *, where: str) -> FinetuneRun:
    """Rebuild a config from its plain data; UserError when a field is missing, unknown or of another type."""
    config: FinetuneRun = as_written(convert(FinetuneRun, raw, where=where), raw)
    return config


def flops_of(config: FinetuneRun) -> float:
    """Count the training FLOPs of a run whose windows are all as long as can be."""
    return config.num_steps * config.batch * config.task.windows * config.flops_of_sequence(config.longest)


def design_of(config: FinetuneRun) -> dict[str, Any]:
    """Count what is known of a run before it is trained.

    Parameters
    ----------
    config : FinetuneRun
        The run.

    Returns
    -------
    dict of str to object
        The `design` of a record, by the names of pre-training runs where the same is meant; N is that of the body.
    """
    model, tokens = config.model, config.tokens
    params = params_fit(model)
    return {
        "kind": config.kind,
        "params": params,
        "params_total": params_total(model),
        "params_non_embedding": params_non_embedding(model),
        "tokens": tokens,
        "flops": flops_of(config),
        "flops_6nd": 6.0 * params * tokens,
        "width": model.width,
        "depth": model.depth,
        "heads": model.num_heads,
        "context": model.context,
        "vocab": model.vocab_size,
        "family": model.family,
        "positions": model.positions,
        "pretrained": config.pretrained,
        "pretrained_tokens": config.pretrained_tokens,
        "task": config.task.short,
        "corpus": config.task.short,
        "method": config.method.name,
        "size": config.method.size,
        "scaling": config.method.scaling if config.method.name == "lora" else None,
        "examples": config.examples,
        "trainable_params": sum(config.trainable.values()),
        "trainable_by_group": config.trainable,
        "epochs": None if not config.examples else config.num_steps * config.batch / config.examples,
        "batch": config.batch,
        "steps": config.num_steps,
        "lr": config.learning_rate,
        "weight_decay": config.weight_decay,
        "seed": config.seed,
        "data_seed": config.data_seed,
    }
