"""The two kinds of runs, pre-training and fine-tuning, and what is asked of either: identity, plain data, counts.

The one place that tells them apart for stores, plans and mirrors; `execution.segments` does for those who train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.config import counts, prefixes, run
from experiments.config.run import RunConfig
from experiments.config.tuning import run as tuning
from experiments.config.tuning.run import FinetuneRun

AnyRun = RunConfig | FinetuneRun
"""Config of a run of either kind."""


def canonical(config: AnyRun) -> dict[str, Any]:
    """Give the config as plain data."""
    return tuning.canonical(config) if isinstance(config, FinetuneRun) else run.canonical(config)


def run_id(config: AnyRun) -> str:
    """Hash what defines the result of a run."""
    return tuning.run_id(config) if isinstance(config, FinetuneRun) else run.run_id(config)


def config_from_dict(raw: Mapping[str, Any], *, where: str) -> AnyRun:
    """Rebuild a config from its plain data.

    Parameters
    ----------
    raw : mapping of str to object
        Plain data; `kind` tells a fine-tuning run, and pre-training runs do not say theirs.
    where : str
        The file, for messages.

    Raises
    ------
    UserError
        When a field is missing, unknown or of another type.
    """
    if raw.get("kind") == "finetune":
        return tuning.from_dict(raw, where=where)
    return run.run_config_from_dict(raw, where=where)


def flops_of(config: AnyRun) -> float:
    """Count the training FLOPs of a whole run."""
    return tuning.flops_of(config) if isinstance(config, FinetuneRun) else counts.flops_of(config)


def design_of(config: AnyRun, *, num_train_tokens: int | None) -> dict[str, Any]:
    """Count what is known of a run before it is trained: the `design` of its record."""
    if isinstance(config, FinetuneRun):
        return tuning.design_of(config)
    return counts.design_of(config, num_train_tokens=num_train_tokens)


def prefix_id(config: AnyRun) -> str | None:
    """Identify the training that a run shares with others; None where it shares none."""
    return None if isinstance(config, FinetuneRun) else prefixes.prefix_id(config)
