"""Recipes: named rules N, D -> learning rate, batch, warm-up, weight decay, each with its source.

A recipe whose rules read N alone lets runs of one size share their training prefix; one that reads D too cannot, and
`depends_on_tokens` says so. Pure and torch-free; it must not know designs, data or devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What a recipe says for one run."""

    learning_rate: float
    """Peak learning rate."""
    batch_tokens: int
    """Tokens per step, before it is rounded to whole sequences."""
    warmup_tokens: int
    """Tokens of linear warm-up, before it is rounded to whole steps."""
    weight_decay: float
    """Decoupled weight decay of matrices."""
    beta2: float
    """AdamW's second-moment decay."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named bundle of rules."""

    name: str
    """Name in a sweep's YAML."""
    source: str
    """Paper or report that the rules come from, and what we do differently."""
    depends_on_tokens: bool
    """True when a rule reads D: then no prefixes are shared."""
    rule: Callable[[float, float], Hyperparameters]
    """(N, D) -> Hyperparameters; N without token and position tables, plus the head."""

    def __call__(self, params: float, tokens: float) -> Hyperparameters:
        """Hyperparameters for `params` parameters and `tokens` training tokens."""
        return self.rule(params, tokens)


BYTE_PEAK_RATE = 1.0e-2
"""Peak learning rate at BYTE_REFERENCE_PARAMS; measured in reports/recipe."""
BYTE_RATE_EXPONENT = -0.5
"""d log rate / d log N; measured in reports/recipe."""
BYTE_REFERENCE_PARAMS = 1.0e5
"""N at which BYTE_PEAK_RATE holds."""


def _byte_small(params: float, tokens: float) -> Hyperparameters:
    del tokens
    return Hyperparameters(
        learning_rate=min(BYTE_PEAK_RATE * (params / BYTE_REFERENCE_PARAMS) ** BYTE_RATE_EXPONENT, 4e-2),
        batch_tokens=1024,
        warmup_tokens=40_960,
        weight_decay=0.1,
        beta2=0.99,
    )


def _kaplan(params: float, tokens: float) -> Hyperparameters:
    del tokens
    return Hyperparameters(
        learning_rate=0.003239 - 0.0001395 * math.log(params),
        batch_tokens=524_288,
        warmup_tokens=3000 * 524_288,
        weight_decay=0.0,
        beta2=0.999,
    )


def _step_law(params: float, tokens: float) -> Hyperparameters:
    batch = 0.58 * tokens**0.571
    return Hyperparameters(
        learning_rate=1.79 * params**-0.713 * tokens**0.307,
        batch_tokens=round(batch),
        warmup_tokens=round(2000 * batch),
        weight_decay=0.1,
        beta2=0.95,
    )


def _deepseek(params: float, tokens: float) -> Hyperparameters:
    flops = 6 * params * tokens
    batch = 0.2920 * flops**0.3271
    return Hyperparameters(
        learning_rate=0.3118 * flops**-0.1250,
        batch_tokens=round(batch),
        warmup_tokens=round(2000 * batch),
        weight_decay=0.1,
        beta2=0.95,
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="byte-small",
            source="measured here on byte-level speeches, N of 7k to 116k: reports/recipe; all rules depend on N only",
            depends_on_tokens=False,
            rule=_byte_small,
        ),
        Recipe(
            name="kaplan",
            source="Kaplan et al. 2020, arXiv 2001.08361, equation D.1 and 2.2: rate 0.003239 - 0.0001395 ln N, "
            "512 x 1024 tokens a step, 3,000 steps of warm-up; N without embeddings there",
            depends_on_tokens=False,
            rule=_kaplan,
        ),
        Recipe(
            name="step-law",
            source="Li et al. 2025, arXiv 2503.04715: rate 1.79 N^-0.713 D^0.307, batch 0.58 D^0.571 tokens",
            depends_on_tokens=True,
            rule=_step_law,
        ),
        Recipe(
            name="deepseek",
            source="DeepSeek-AI 2024, arXiv 2401.02954, section 3.1: rate 0.3118 C^-0.125, batch 0.2920 C^0.3271 "
            "tokens; C = 6 N D here, their non-embedding FLOPs per token there",
            depends_on_tokens=True,
            rule=_deepseek,
        ),
    )
}
"""Every recipe by name; a new one is one rule and one entry."""
