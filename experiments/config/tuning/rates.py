"""Which learning rates a cell tries: a starting rate, a factor of two on each side, and more until the best is inside.

A pure function of the losses that are known so far, so that planning again goes on where the last plan stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.config.finetuning import MethodName

REFERENCE_RATE, REFERENCE_WIDTH = 5e-5, 768
"""The largest rate that Devlin et al. 2019 recommend for BERT-base, and its width."""
RATE_OVER_FULL: dict[MethodName, float] = {
    "full": 1.0,
    "scratch": 4.0,
    "head": 20.0,
    "lora": 10.0,
    "adapters": 20.0,
    "prompt": 100.0,
    "bitfit": 8.0,
}
"""Starting points at BERT's width as multiples of the rate of full fine-tuning: LoRA about ten times (Schulman et al.
2025), adapters and a head 1e-3 (Houlsby et al. 2019), soft prompts far above (Lester et al. 2021), BitFit 4e-4 (Ben
Zaken et al. 2022, section 4), and from fresh weights a rate of pre-training, 2e-4 (Devlin et al. 2019: 1e-4)."""
SMALL_BODIES: dict[MethodName, float] = {
    "full": 3 / 4,
    "scratch": 2 / 3,
    "head": 1 / 3,
    "lora": 1 / 3,
    "adapters": 0.0,
    "prompt": 0.0,
    "bitfit": 1 / 2,
}
"""How much faster than the inverse of the width the best rate rises as bodies become smaller, as an exponent. Measured
from width 16 to 64: docs/decisions/2026-11-28-starting-rates.md. Adapters and prompts were not measured."""


def starting_rate(method: MethodName, width: int) -> float:
    """The rate from which tuning starts, below BERT's width: RATE_OVER_FULL * REFERENCE_RATE * u * 2^floor(e log2 u).

    Here u is the reference width over the width, and e is of SMALL_BODIES. What comes on top of the inverse of the
    width is rounded down to a power of two, so that the search tries rates of the same grid whatever the exponent, and
    above BERT's width it is one.

    Parameters
    ----------
    method : str
        One of METHODS.
    width : int
        d_model of the body.
    """
    doublings = math.floor(SMALL_BODIES[method] * math.log2(REFERENCE_WIDTH / width) + 1e-9)
    return RATE_OVER_FULL[method] * REFERENCE_RATE * REFERENCE_WIDTH / width * 2.0 ** max(doublings, 0)


@dataclass(frozen=True)
class Rates:
    """What a cell tries."""

    tried: tuple[int, ...]
    """Powers of two on the starting rate, rising."""
    best: int | None
    """The power of least validation loss; None while losses are missing."""
    at_edge: bool = True
    """Whether the best is the smallest or the largest that was tried, so that its loss is an upper bound."""
    spare: float | None = None
    """How far the best lies above the vertex of the parabola through it and its neighbours, in log rate: what a finer
    search could gain, in units of the loss. None at an edge."""


def grow(loss: Callable[[int], float | None], *, span: int, limit: int) -> Rates:
    """Extend the rates of a cell as far as the known losses ask for it.

    Parameters
    ----------
    loss : callable
        Power of two -> mean validation loss; None: not known yet, infinity: it failed.
    span : int
        The first rates are the powers from -span to span.
    limit : int
        Largest power on either side.

    Returns
    -------
    Rates
        With a best one when every loss is known and no further rate is to be tried.
    """
    tried = list(range(-span, span + 1))
    while True:
        known = {power: loss(power) for power in tried}
        losses = {power: value for power, value in known.items() if value is not None}
        if len(losses) < len(tried):
            return Rates(tried=tuple(tried), best=None)
        best = min(losses, key=lambda power: (losses[power], abs(power)))
        if best == tried[-1] and best < limit and math.isfinite(losses[best]):
            tried.append(best + 1)
        elif best == tried[0] and best > -limit:
            tried.insert(0, best - 1)
        else:
            edge = best in (tried[0], tried[-1])
            return Rates(tried=tuple(tried), best=best, at_edge=edge, spare=None if edge else _spare(losses, best))


def _spare(losses: dict[int, float], best: int) -> float | None:
    left, here, right = losses[best - 1], losses[best], losses[best + 1]
    curvature = left - 2 * here + right
    if not math.isfinite(curvature) or curvature <= 0:
        return None
    return (right - left) ** 2 / (8 * curvature)
