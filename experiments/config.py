"""RunConfig and its identity: everything that changes a run's result, and nothing else.

Owns the canonical JSON, `run_id`, and the way back from JSON to a RunConfig. It must not know where runs are stored,
who trains them, or which sweep asked for them. Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from experiments.data.config import DataConfig
from models.config import OptimizerConfig, TransformerConfig
from models.objective_config import ObjectiveConfig
from models.schedules import ScheduleConfig

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


def _plain(value: Any) -> Any:
    """Tuples as lists, mappings by sorted key: what JSON would give back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


_ABSENT = object()


def _get(node: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def remove_path(node: dict[str, Any], path: str) -> None:
    """Remove a dotted path from nested plain data, where it is there."""
    parent, _, leaf = path.rpartition(".")
    holder = _get(node, parent) if parent else node
    if isinstance(holder, dict):
        holder.pop(leaf, None)


def run_config_from_dict(raw: Mapping[str, Any]) -> RunConfig:
    """Rebuild a RunConfig from its canonical JSON; fields left out get the defaults that they came with."""
    return from_plain(RunConfig, raw)


def from_plain(cls: Any, raw: Mapping[str, Any]) -> Any:
    """Rebuild a (nested, frozen) dataclass from plain data; lists become tuples where the field is a tuple.

    Raises
    ------
    ValueError
        For unknown or missing keys.
    """
    hints, by_name = _schema(cls)
    unknown = sorted(set(raw) - set(by_name))
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no field {unknown[0]!r}; this file was written by a newer version: upgrade isoflop"
        )
    values: dict[str, Any] = {}
    for name, item in by_name.items():
        if name not in raw:
            if item.default is MISSING and item.default_factory is MISSING:
                raise ValueError(f"{cls.__name__} lacks {name!r}; the file is incomplete: write it again")
            continue
        value = raw[name]
        hint = hints[name]
        if is_dataclass(hint) and isinstance(value, Mapping):
            value = from_plain(hint, value)
        elif isinstance(value, list):
            value = _tuples(value)
        values[name] = value
    return cls(**values)


@cache
def _schema(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Type hints and fields of a dataclass, looked up once: a sweep rebuilds thousands of configs."""
    return get_type_hints(cls), {item.name: item for item in fields(cls)}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
