"""What is predicted from a batch of tokens: inputs, targets and which positions count; knows no model and no optimiser.

Shapes: B batch, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a model reads and what it must predict."""

    inputs_BT: Tensor
    """Token ids that the model (the decoder, where there are two sides) reads."""
    targets_BT: Tensor
    """Token ids to predict at each position."""
    mask_BT: Tensor | None = None
    """True where a position counts; None: everywhere."""
    source_BS: Tensor | None = None
    """Token ids that the encoder of an encoder-decoder reads."""
    source_mask_BS: Tensor | None = None
    """True where a source token is real; None: everywhere."""


def causal(tokens_BT: Tensor) -> Examples:
    """Return next-token prediction: of T + 1 tokens, inputs are the first T and targets the last T."""
    return Examples(inputs_BT=tokens_BT[:, :-1], targets_BT=tokens_BT[:, 1:])
