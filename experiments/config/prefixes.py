"""Shared prefixes: which part of a run's training does not depend on its token budget. Pure and torch-free.

Under a constant or a warm-up-stable-decay schedule, runs that agree in everything but their budget take the same steps
up to the earlier decay. These steps are their shared prefix; the step at which a run leaves it is its branch step.
Files and tables call a prefix a trunk. This file must not know plans, stores or devices.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeGuard

from experiments.config.codec import remove_path
from experiments.config.run import NOT_IDENTITY, RunConfig, canonical
from experiments.config.tuning.run import FinetuneRun
from models.config.schedules import decay_start

SHAREABLE = ("constant", "wsd")
"""Schedules whose rate does not depend on the budget before the decay begins."""


def prefix_id(config: RunConfig) -> str | None:
    """Identify the training that a run shares with runs of other budgets.

    Parameters
    ----------
    config : RunConfig
        The run.

    Returns
    -------
    str or None
        "t" and 12 hex digits; None when the schedule depends on the budget from the end of warm-up on.
    """
    if not is_shareable(config):
        return None
    identity = canonical(config) | {"data": config.data.identity()}
    for path in NOT_IDENTITY:
        remove_path(identity, path)
    del identity["tokens"]
    identity["schedule"] = {"warmup_tokens": config.schedule.warmup_tokens}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "t" + hashlib.sha256(text.encode()).hexdigest()[:12]


def is_shareable(config: RunConfig | FinetuneRun) -> TypeGuard[RunConfig]:
    """Whether the run has steps that do not depend on its budget; a fine-tuning run has none."""
    return branch_step(config) > 0


def branch_step(config: RunConfig | FinetuneRun) -> int:
    """Steps before the learning rate depends on the budget; zero where it does from the start."""
    if isinstance(config, FinetuneRun) or config.schedule.name not in SHAREABLE:
        return 0
    start = decay_start(config.schedule, total_tokens=config.tokens)
    return 0 if start < config.schedule.warmup_tokens else start // config.batch_tokens


def prefix_key(config: RunConfig, data_key: str) -> tuple[Any, ...]:
    """Give what `prefix_id` hashes, as a tuple that is quick to compare.

    Parameters
    ----------
    config : RunConfig
        The run.
    data_key : str
        A short key that stands for the run's data.

    Returns
    -------
    tuple
        Equal for two runs if and only if their prefixes are.
    """
    return (
        config.model,
        data_key,
        config.objective,
        config.optimizer,
        config.schedule.warmup_tokens,
        config.batch_tokens,
        config.seed,
        config.precision,
        config.semantics_version,
    )


def prefix_segment_id(prefix: str, end_step: int) -> str:
    """Name a part of a prefix; its claims are called so.

    Parameters
    ----------
    prefix : str
        The shared prefix.
    end_step : int
        Steps at the end of the part.

    Returns
    -------
    str
        Such as `t0123456789ab-96`.
    """
    return f"{prefix}-{end_step}"
