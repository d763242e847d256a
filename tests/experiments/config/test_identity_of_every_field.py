"""Every field of RunConfig is part of a run's identity, but for those that are listed here with the reason."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from experiments.config.run import NOT_IDENTITY, RunConfig, canonical, run_id
from experiments.data.cache import Cache
from experiments.data.config import DataConfig
from experiments.data.identity import resolve
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig

COSMETIC = {
    "data.corpus_options": "the content hash stands for them",
    "data.max_epochs": "a limit that is checked before training",
}
"""Fields that change no result."""


def every_field(cls: type, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all fields that are no dataclasses themselves."""
    hints = get_type_hints(cls)
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            yield from every_field(hint, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def another(value: object) -> object:
    """A value that is not `value`; whether a config would allow it plays no part in the identity."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return {"sotu": "shakespeare", "bytes": "bpe-300"}.get(value, value + "x")
        case None:
            return 1
        case _:
            return {"language_seed": 7}


def changed(config: RunConfig, path: str) -> RunConfig:
    """A copy with another value of one field, past the checks of the config."""
    result: Any = copy.deepcopy(config)
    *parents, leaf = path.split(".")
    holder = result
    for name in parents:
        holder = getattr(holder, name)
    object.__setattr__(holder, leaf, another(getattr(holder, leaf)))
    return result


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """A run on packaged text."""
    return RunConfig(
        model=TransformerConfig(vocab_size=264, width=32, depth=2, num_heads=2, context=128),
        data=resolve(DataConfig(corpus="sotu", context=128), Cache()),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(name="wsd", warmup_tokens=20480, decay_tokens=204800),
        tokens=1024000,
        batch_tokens=2048,
    )


def test_the_fields_that_change_no_result_are_those_that_the_code_leaves_out() -> None:
    assert set(NOT_IDENTITY) <= set(COSMETIC) <= set(every_field(RunConfig))


@pytest.mark.parametrize("path", list(every_field(RunConfig)))
def test_a_change_of_any_field_changes_the_identity_unless_it_is_cosmetic(config: RunConfig, path: str) -> None:
    other = changed(config, path)
    assert canonical(other) != canonical(config)
    assert (run_id(other) != run_id(config)) == (path not in COSMETIC)
