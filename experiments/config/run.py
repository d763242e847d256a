"""RunConfig and its identity: everything that changes a run's result, and nothing else.

Owns the canonical JSON, `run_id`, and the way back from JSON to a RunConfig. It must not know where runs are stored,
who trains them, or which sweep asked for them. Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.config.codec import as_written, convert, get_path, plain, remove_path
from experiments.data.config import DataConfig
from experiments.errors import UserError
from experiments.machine.devices import Precision
from models.config.checks import require_count
from models.config.objective import ObjectiveConfig
from models.config.optimizer import OptimizerConfig, check_optimizer
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig

SEMANTICS_VERSION = 1
"""Raised when a change of code changes the result of an unchanged config; CHANGELOG.md says what changed."""

FABRIC_PRECISION: Mapping[Precision, str] = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""What Lightning calls each precision."""

ADDED_LATER: dict[str, Any] = {
    "model.logit_cap": None,
    "objective.z_loss": 0.0,
    "optimizer.matrix_rate": None,
    "optimizer.matrix_decay": None,
    "optimizer.momentum": 0.95,
    "optimizer.ema_decay": None,
}
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
    precision: Precision = "fp32"
    """fp32, or bf16."""
    semantics_version: int = SEMANTICS_VERSION
    """Version of the meaning of all fields above."""

    def __post_init__(self) -> None:
        if self.precision not in FABRIC_PRECISION:
            raise UserError(
                f"precision is {self.precision!r}; give one of {', '.join(FABRIC_PRECISION)} ('auto' is resolved by "
                "the sweep)"
            )
        if self.batch_tokens <= 0 or self.batch_tokens % self.data.context:
            raise UserError(
                f"batch_tokens = {self.batch_tokens} is not a whole number of sequences of {self.data.context} tokens; "
                f"give a multiple of {self.data.context}"
            )
        if self.tokens <= 0 or self.tokens % self.batch_tokens:
            raise UserError(
                f"tokens = {self.tokens} is not a whole number of steps of {self.batch_tokens} tokens; "
                f"give a positive multiple of {self.batch_tokens}"
            )
        if self.model.context < self.data.context:
            raise UserError(
                f"the model's context {self.model.context} is shorter than the data's {self.data.context}; make them "
                f"equal"
            )
        require_count("seed", self.seed, minimum=0)
        check_optimizer(self.optimizer, self.model)

    @property
    def num_steps(self) -> int:
        """Optimiser steps: tokens / batch_tokens."""
        return self.tokens // self.batch_tokens

    @property
    def batch_sequences(self) -> int:
        """Sequences per optimiser step."""
        return self.batch_tokens // self.data.context


def canonical(config: RunConfig) -> dict[str, Any]:
    """Give the config as plain data.

    Fields that were added later and stand at the default they came with are left out, so that identities of older runs
    stay.
    """
    raw: dict[str, Any] = plain(config)
    for path, default in ADDED_LATER.items():
        if get_path(raw, path) == plain(default):
            remove_path(raw, path)
    return raw


def run_id(config: RunConfig) -> str:
    """Hash what defines the result of a run.

    Parameters
    ----------
    config : RunConfig
        The run.

    Returns
    -------
    str
        12 hex digits of the sha256 of the canonical JSON. Left out: NOT_IDENTITY, and where the user's own files lie;
        their content hash stands for them.

    Raises
    ------
    UserError
        When the data's content hash is not filled in: a name alone does not say what was trained on.
    """
    if config.data.content_hash is None:
        raise UserError(
            f"corpus {config.data.corpus!r} has no content hash yet; resolve the data before asking for a run_id"
        )
    identity = canonical(config) | {"data": config.data.identity()}
    for path in NOT_IDENTITY:
        remove_path(identity, path)
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_config_from_dict(raw: Mapping[str, Any], *, where: str = "config") -> RunConfig:
    """Rebuild a RunConfig from its canonical JSON.

    Parameters
    ----------
    raw : mapping of str to object
        Plain data; fields left out get the defaults that they came with.
    where : str
        The file, for messages.

    Returns
    -------
    RunConfig
        With the same identity as the one that was written: a whole number stays a whole number.

    Raises
    ------
    UserError
        When a field is missing, unknown or of another type.
    """
    config: RunConfig = as_written(convert(RunConfig, raw, where=where), raw)
    return config
