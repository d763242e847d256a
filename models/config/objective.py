"""Which prediction a model is trained on and how much of a sequence it takes; torch-free.

Owns the counts that follow from a sequence's length alone, so that FLOPs and shapes are known before any token is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from models.config.checks import require_count, require_fraction, require_name
from models.config.transformer import Family, TransformerConfig
from models.errors import UserError

ObjectiveName = Literal["causal", "masked", "span", "infilling"]
"""What a model predicts."""
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)

FAMILY_OF: Mapping[ObjectiveName, Family] = {
    "causal": "decoder",
    "masked": "encoder",
    "span": "encoder-decoder",
    "infilling": "encoder-decoder",
}
"""Family of models that each objective trains."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Causal LM, masked LM (Devlin 2019), span corruption (Raffel 2020) or text infilling (Lewis 2020).

    The defaults are causal LM, in which no other field plays a part. The ids default to the bytes tokenizer's.
    """

    name: ObjectiveName = "causal"
    """causal, masked, span or infilling."""
    noise_fraction: float = 0.15
    """Fraction of tokens predicted (masked), or taken out (span; BART's infilling uses 0.3)."""
    mask_fraction: float = 0.8
    """Of the predicted tokens, the fraction shown as the mask token (masked)."""
    random_fraction: float = 0.1
    """Of the predicted tokens, the fraction shown as a random ordinary one; the rest stay as they are (masked)."""
    mean_span: float = 3.0
    """Mean number of tokens of a span (span, infilling)."""
    num_ordinary: int = 256
    """Ids below this are ordinary tokens, from which random ones are drawn."""
    mask_id: int = 258
    """Id of the mask token (masked, infilling)."""
    start_id: int = 259
    """First token of the decoder's input (span, infilling)."""
    end_id: int = 256
    """Last token of the target (span)."""
    first_sentinel: int = 264
    """Id of the first sentinel; one more id is used for each span (span)."""
    seed: int = 0
    """Seed of what is taken out."""
    z_loss: float = 0.0
    """Weight in training of the squared log of the softmax's normaliser, which keeps logits near zero (Chowdhery et al.
    2022, PaLM, section 5: 1e-4); losses are reported without it."""

    def __post_init__(self) -> None:
        require_name("objective name", self.name, OBJECTIVES)
        for field in ("noise_fraction", "mask_fraction", "random_fraction"):
            require_fraction(field, getattr(self, field))
        if not 0 < self.noise_fraction < 1:
            raise UserError(f"noise_fraction is {self.noise_fraction!r}; give a fraction between 0 and 1")
        if self.mask_fraction + self.random_fraction > 1:
            raise UserError(
                f"mask_fraction {self.mask_fraction} and random_fraction {self.random_fraction} add up to more than 1"
            )
        if self.mean_span < 1:
            raise UserError(f"mean_span is {self.mean_span!r}; give at least 1 token")
        require_count("num_ordinary", self.num_ordinary)
        if not (math.isfinite(self.z_loss) and self.z_loss >= 0):
            raise UserError(f"z_loss is {self.z_loss!r}; give zero or a positive number such as 1e-4")
        for field in ("mask_id", "start_id", "end_id", "first_sentinel", "seed"):
            require_count(field, getattr(self, field), minimum=0)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Numbers of tokens that an objective makes of a sequence."""

    target: int
    """Tokens that the decoder (or the only stack) reads."""
    source: int | None
    """Tokens that the encoder of an encoder-decoder reads; None: there is none."""
    noise: int
    """Tokens taken out or predicted."""
    spans: int
    """Spans that they form."""


def lengths(objective: ObjectiveConfig, context: int) -> Lengths:
    """Return what an objective makes of `context` tokens; fixed, so that every batch has the same shape.

    At least one token is taken out and one is left. Span corruption: the source is what is left with a sentinel for
    each span, the target each sentinel with its span, and the end token. Infilling: the target is the whole sequence.
    """
    if objective.name == "causal":
        return Lengths(target=context, source=None, noise=0, spans=0)
    if context < 2:
        raise UserError(f"objective {objective.name!r} needs sequences of at least 2 tokens, not {context}")
    noise = min(max(round(context * objective.noise_fraction), 1), context - 1)
    if objective.name == "masked":
        return Lengths(target=context, source=None, noise=noise, spans=0)
    spans = min(max(round(noise / objective.mean_span), 1), noise, context - noise)
    source = context - noise + spans
    return Lengths(
        target=noise + spans + 1 if objective.name == "span" else context, source=source, noise=noise, spans=spans
    )


def check_objective(objective: ObjectiveConfig, config: TransformerConfig) -> None:
    """Raise `UserError` if the model cannot be trained on the objective: family, head, length or vocabulary."""
    name, family = objective.name, FAMILY_OF[objective.name]
    if config.family != family:
        raise UserError(f"objective {name!r} trains the family {family!r}, but the model's is {config.family!r}")
    if config.head == "none":
        raise UserError(f"objective {name!r} predicts tokens, but the model's head is 'none'; set head to 'linear'")
    if name == "causal":
        return
    counts = lengths(objective, config.context)
    if counts.target > config.context:
        raise UserError(
            f"objective {name!r} makes targets of {counts.target} tokens from {config.context}; "
            "lower noise_fraction or raise mean_span"
        )
    needed = {"masked": objective.mask_id, "infilling": max(objective.mask_id, objective.start_id)}
    largest = needed.get(name, max(objective.first_sentinel + counts.spans - 1, objective.start_id, objective.end_id))
    if largest >= config.vocab_size:
        raise UserError(
            f"objective {name!r} uses token ids up to {largest}, but vocab_size is {config.vocab_size}; "
            f"set vocab_size to at least {largest + 1}"
        )
