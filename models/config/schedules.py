"""Learning-rate schedules as pure functions of tokens seen; knows neither optimisers nor steps.

Progress is counted in tokens, so that a schedule means the same at every batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from models.config.checks import require_count, require_fraction, require_name
from models.errors import UserError

ScheduleName = Literal["constant", "cosine", "linear", "wsd"]
"""Curves of the learning rate."""
DecayShape = Literal["linear", "1-sqrt"]
"""Shapes of the final decay of wsd."""
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)
DECAY_SHAPES: tuple[DecayShape, ...] = get_args(DecayShape)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Warm-up, then constant, cosine, linear, or warm-up-stable-decay (Hu et al. 2024, arXiv 2404.06395)."""

    name: ScheduleName = "wsd"
    """constant, cosine, linear or wsd."""
    warmup_tokens: int = 0
    """Tokens over which the rate rises linearly from zero to its peak."""
    decay_tokens: int | None = None
    """Tokens of the final decay (wsd only)."""
    decay_shape: DecayShape = "linear"
    """Shape of wsd's decay: linear, or 1-sqrt (Hägele et al. 2024, arXiv 2405.18392)."""
    final_fraction: float = 0.0
    """Rate at the end as a fraction of the peak."""

    def __post_init__(self) -> None:
        require_name("schedule name", self.name, SCHEDULES)
        require_name("decay_shape", self.decay_shape, DECAY_SHAPES)
        require_count("warmup_tokens", self.warmup_tokens, minimum=0)
        require_fraction("final_fraction", self.final_fraction)
        if self.name == "wsd":
            if self.decay_tokens is None:
                raise UserError("schedule 'wsd' needs decay_tokens, the length of its final decay in tokens")
            require_count("decay_tokens", self.decay_tokens, minimum=0)
        elif self.decay_tokens is not None:
            raise UserError(
                f"decay_tokens is {self.decay_tokens} but schedule {self.name!r} has no separate decay; use 'wsd'"
            )


def decay_start(schedule: ScheduleConfig, *, total_tokens: int) -> int:
    """Return the token count from which the multiplier depends on `total_tokens`.

    Runs that agree in everything else share their training up to the smallest of these.
    """
    if schedule.name == "constant":
        return total_tokens
    if schedule.name == "wsd":
        return max(total_tokens - (schedule.decay_tokens or 0), 0)
    return min(schedule.warmup_tokens, total_tokens)


def learning_rate_multiplier(schedule: ScheduleConfig, *, tokens_seen: int, total_tokens: int) -> float:
    """Return the factor in [0, 1] on the peak learning rate of the step that starts after `tokens_seen` tokens.

    Parameters
    ----------
    schedule : ScheduleConfig
        Which curve.
    tokens_seen : int
        Tokens trained on before the step.
    total_tokens : int
        Tokens of the whole run; before `decay_start` it changes nothing.

    Returns
    -------
    float
        The factor.

    Notes
    -----
    With progress p in [0, 1] after warm-up and final fraction f: linear 1 - (1 - f) p; cosine
    f + (1 - f)(1 + cos(pi p)) / 2; 1-sqrt 1 - (1 - f) sqrt(p). A wsd whose decay is longer than the run decays from
    its first token on top of the warm-up (the product of the two).
    """
    if total_tokens < 1 or tokens_seen < 0:
        raise UserError(
            f"a schedule needs total_tokens >= 1 and tokens_seen >= 0, not {total_tokens} and {tokens_seen}"
        )
    warmup = min(tokens_seen / schedule.warmup_tokens, 1.0) if schedule.warmup_tokens else 1.0
    start = decay_start(schedule, total_tokens=total_tokens)
    if schedule.name == "constant" or tokens_seen <= start:
        return warmup
    progress = min((tokens_seen - start) / (total_tokens - start), 1.0) if total_tokens > start else 1.0
    fall = 1.0 - schedule.final_fraction
    if schedule.name == "cosine":
        decay = schedule.final_fraction + fall * 0.5 * (1.0 + math.cos(math.pi * progress))
    elif schedule.name == "wsd" and schedule.decay_shape == "1-sqrt":
        decay = 1.0 - fall * math.sqrt(progress)
    else:
        decay = 1.0 - fall * progress
    return warmup * max(decay, 0.0)
