"""What is known of a run before it is trained: parameters, tokens, steps and FLOPs, by the names of the record.

Pure and torch-free.
"""

from __future__ import annotations

from typing import Any

from experiments.config.recipes import Hyperparameters
from experiments.config.run import RunConfig
from experiments.config.sweep import SweepConfig
from experiments.errors import UserError
from models.config.accounting import count_params, params_fit, params_non_embedding, params_total, training_flops
from models.config.schedules import ScheduleConfig


def flops_of(config: RunConfig, *, tokens: int | None = None) -> float:
    """Count the training FLOPs of a run.

    Parameters
    ----------
    config : RunConfig
        The run.
    tokens : int or None
        Tokens to count for; None: all of the run.

    Returns
    -------
    float
        Counted matrix products, forward and backward.
    """
    spent = config.tokens if tokens is None else tokens
    return training_flops(config.model, tokens=spent, context=config.data.context, objective=config.objective)


def design_of(config: RunConfig, *, num_train_tokens: int | None) -> dict[str, Any]:
    """Count what is known of a run before it is trained.

    Parameters
    ----------
    config : RunConfig
        The run.
    num_train_tokens : int or None
        Tokens of one pass over the training split; None when they are not known yet, and then epochs are not either.

    Returns
    -------
    dict of str to object
        The `design` of a record.
    """
    model, tokens = config.model, config.tokens
    params = params_fit(model)
    unique = None if num_train_tokens is None else min(tokens, num_train_tokens)
    return {
        "params": params,
        "params_total": params_total(model),
        "params_non_embedding": params_non_embedding(model),
        "params_head": count_params(model)["head"],
        "tokens": tokens,
        "unique_tokens": unique,
        "epochs": None if num_train_tokens is None else tokens / num_train_tokens,
        "flops": flops_of(config),
        "flops_6nd": 6.0 * params * tokens,
        "width": model.width,
        "depth": model.depth,
        "heads": model.num_heads,
        "context": config.data.context,
        "vocab": model.vocab_size,
        "family": model.family,
        "positions": model.positions,
        "corpus": config.data.corpus,
        "tokenizer": config.data.tokenizer,
        "objective": config.objective.name,
        "batch": config.batch_tokens,
        "steps": config.num_steps,
        "lr": config.optimizer.learning_rate,
        "weight_decay": config.optimizer.weight_decay,
        "schedule": config.schedule.name,
        "warmup_tokens": config.schedule.warmup_tokens,
        "decay_tokens": config.schedule.decay_tokens,
        "seed": config.seed,
    }


def whole_steps(tokens: float, batch_tokens: int) -> int:
    """Round tokens to whole steps."""
    return round(tokens / batch_tokens) * batch_tokens


def schedule_of(sweep: SweepConfig, rule: Hyperparameters, *, tokens: int, batch_tokens: int) -> ScheduleConfig:
    """Lay warm-up and decay into the tokens of a run, in whole steps.

    Parameters
    ----------
    sweep : SweepConfig
        With its schedule.
    rule : Hyperparameters
        What the recipe says of the run.
    tokens : int
        D of the run.
    batch_tokens : int
        Tokens of a step.

    Returns
    -------
    ScheduleConfig
        In tokens.

    Raises
    ------
    UserError
        When warm-up and decay do not fit into the run.
    """
    choice, fixed = sweep.schedule, sweep.recipe.warmup_tokens
    warmup_tokens = whole_steps(rule.warmup_tokens if fixed is None else fixed, batch_tokens)
    decay_tokens = whole_steps(choice.decay_fraction * tokens, batch_tokens) if choice.name == "wsd" else None
    if warmup_tokens + (decay_tokens or 0) > tokens:
        raise UserError(
            f"warm-up of {warmup_tokens:,} and decay of {decay_tokens or 0:,} tokens do not fit into {tokens:,}; "
            "lower recipe.warmup_tokens or raise the budget"
        )
    return ScheduleConfig(
        name=choice.name,
        warmup_tokens=warmup_tokens,
        decay_tokens=decay_tokens,
        decay_shape=choice.decay_shape,
        final_fraction=choice.final_fraction,
    )
