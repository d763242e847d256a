"""What a test knows of a value and its type does not say: that it is there, and which kind it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from experiments.config.kinds import AnyRun
from experiments.config.reading import load_sweep
from experiments.config.run import RunConfig
from experiments.config.sweep import SweepConfig

T = TypeVar("T")


def known(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None
    return value


def trained(config: AnyRun) -> RunConfig:
    """The config of a pre-training run."""
    assert isinstance(config, RunConfig)
    return config


def sweep_of(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """The sweep of pre-training runs in a file."""
    sweep = load_sweep(path, overrides)
    assert isinstance(sweep, SweepConfig)
    return sweep
