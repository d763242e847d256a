"""RunConfig and its identity: everything that changes a run's result, and nothing else.

Owns the canonical JSON, `run_id`, and the way back from JSON to a RunConfig. It must not know where runs are stored,
who trains them, or which sweep asked for them. Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from experiments.config.codec import _get, _plain, from_plain, remove_path
from experiments.data.config import DataConfig
from models.config.objective import ObjectiveConfig
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig

SEMANTICS_VERSION = 1
"""Raised when a change of code changes the result of an unchanged config; CHANGELOG.md says what changed."""

PRECISIONS = ("fp32", "bf16")
"""fp32: 32-bit throughout. bf16: bfloat16 autocast with 32-bit weights and optimiser state."""

FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""What Lightning calls each of PRECISIONS."""

ADDED_LATER: dict[str, Any] = {}
"""Dotted path of each field that was added after the first release -> the default it came with. At that value the
field is left out of the canonical JSON, so that identities of older runs stay. A default, once written here, never
changes."""


NOT_IDENTITY = ("data.max_epochs",)
"""Dotted paths that are kept in a run's config but do not change its result: a limit that is checked before
training."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, resolved: no 'auto', no unhashed data."""

    model: TransformerConfig
    """What is trained."""
    data: DataConfig
    """On what: corpus, tokenizer, validation split, with content hashes."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """How tokens become inputs and targets."""
    optimizer: OptimizerConfig
    """Peak learning rate, moments, weight decay, clipping."""
    schedule: ScheduleConfig
    """Shape of the learning rate over tokens."""
    tokens: int
    """D: training tokens, a whole number of steps."""
    batch_tokens: int
    """Tokens per optimiser step, a whole number of sequences."""
    seed: int = 0
    """Seed of weights, of the order of training tokens and of dropout."""
    precision: str = "fp32"
    """One of PRECISIONS."""
    semantics_version: int = SEMANTICS_VERSION
    """Version of the meaning of all fields above."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision is {self.precision!r}; give one of {', '.join(PRECISIONS)} ('auto' is resolved by the "
                f"sweep)"
            )
        if self.batch_tokens <= 0 or self.batch_tokens % self.data.context:
            raise ValueError(
                f"batch_tokens = {self.batch_tokens} is not a whole number of sequences of {self.data.context} tokens; "
                f"give a multiple of {self.data.context}"
            )
        if self.tokens <= 0 or self.tokens % self.batch_tokens:
            raise ValueError(
                f"tokens = {self.tokens} is not a whole number of steps of {self.batch_tokens} tokens; "
                f"give a positive multiple of {self.batch_tokens}"
            )
        if self.model.context < self.data.context:
            raise ValueError(
                f"the model's context {self.model.context} is shorter than the data's {self.data.context}; make them "
                f"equal"
            )

    @property
    def num_steps(self) -> int:
        """Optimiser steps: tokens / batch_tokens."""
        return self.tokens // self.batch_tokens

    @property
    def batch_sequences(self) -> int:
        """Sequences per optimiser step."""
        return self.batch_tokens // self.data.context


def canonical(config: RunConfig) -> dict[str, Any]:
    """The config as plain data, without the later fields that stand at the default they came with."""
    plain = _plain(asdict(config))
    for path, default in ADDED_LATER.items():
        if _get(plain, path) == _plain(default):
            remove_path(plain, path)
    return plain


def run_id(config: RunConfig) -> str:
    """sha256 of the canonical JSON of what defines the result, 12 hex digits.

    Left out: NOT_IDENTITY, and where the user's own files lie; their content hash stands for them.

    Raises
    ------
    ValueError
        When the data's content hash is not filled in: a name alone does not say what was trained on.
    """
    if config.data.content_hash is None:
        raise ValueError(
            f"corpus {config.data.corpus!r} has no content hash yet; resolve the data before asking for a run_id"
        )
    identity = canonical(config) | {"data": config.data.identity()}
    for path in NOT_IDENTITY:
        remove_path(identity, path)
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_config_from_dict(raw: Mapping[str, Any]) -> RunConfig:
    """Rebuild a RunConfig from its canonical JSON; fields left out get the defaults that they came with."""
    return from_plain(RunConfig, raw)
