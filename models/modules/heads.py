"""Labelled tasks on top of a trained body: sequence and token classification, extractive question answering.

Each head is small and ours; the body is any `Transformer`, its language-model head unused.
Shapes: B batch, T tokens, D width, C classes.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config.checks import require_count, require_name
from models.errors import UserError
from models.modules.layers import Linear
from models.modules.roles import seeded_generator
from models.modules.transformer import Transformer

Pooling = Literal["first", "last", "mean"]
"""Which state stands for a sequence."""
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class SequenceClassifier(nn.Module):
    """One label for a sequence: a linear layer on its pooled state.

    Parameters
    ----------
    body : Transformer
        The trained model.
    num_classes : int
        Number of labels.
    pooling : {"first", "last", "mean"}, optional
        Which state is read: "first" (through the pooler where there is one), "last" real token, or the "mean" of all
        real ones; None: first for an encoder, last for a decoder.
    seed : int
        Seed of the new layer's weights.
    """

    def __init__(self, body: Transformer, num_classes: int, *, pooling: Pooling | None = None, seed: int = 0) -> None:
        super().__init__()
        require_count("num_classes", num_classes, minimum=2)
        decoder = body.config.family != "encoder"
        default: Pooling = "last" if decoder else "first"
        self.pooling = pooling if pooling is not None else default
        require_name("pooling", self.pooling, POOLINGS)
        if self.pooling == "first" and decoder:
            raise UserError("the first position of a decoder sees nothing but itself; use pooling 'last' or 'mean'")
        self.body = body
        self.classifier = new_linear(body.config.width, num_classes, name="classifier", seed=seed)

    def forward(self, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Return logits (B, C)."""
        states_BTD = read_states(self.body, tokens_BT, mask_BT)
        return self.classifier(pool(self.body, states_BTD, mask_BT, self.pooling))

    def loss(self, tokens_BT: Tensor, labels_B: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return F.cross_entropy(self(tokens_BT, mask_BT).float(), labels_B)


class TokenClassifier(nn.Module):
    """One label for every token (part of speech, named entities): a linear layer on every state."""

    def __init__(self, body: Transformer, num_classes: int, *, seed: int = 0) -> None:
        super().__init__()
        require_count("num_classes", num_classes, minimum=2)
        self.body = body
        self.classifier = new_linear(body.config.width, num_classes, name="classifier", seed=seed)

    def forward(self, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Return logits (B, T, C)."""
        return self.classifier(read_states(self.body, tokens_BT, mask_BT))

    def loss(self, tokens_BT: Tensor, labels_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy in nats over real tokens."""
        logits_BTC = self(tokens_BT, mask_BT).float()
        if mask_BT is None:
            return F.cross_entropy(logits_BTC.flatten(0, 1), labels_BT.flatten())
        return F.cross_entropy(logits_BTC[mask_BT], labels_BT[mask_BT])


class ExtractiveQAHead(nn.Module):
    """Extractive question answering: the first and the last token of the answer (Devlin et al. 2019, section 4.2)."""

    def __init__(self, body: Transformer, *, seed: int = 0) -> None:
        super().__init__()
        self.body = body
        self.ends = new_linear(body.config.width, 2, name="ends", seed=seed)

    def forward(
        self, tokens_BT: Tensor, mask_BT: Tensor | None = None, allowed_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, T) of the answer's first and last token; -inf where none is allowed, or none is real."""
        logits_BT2 = self.ends(read_states(self.body, tokens_BT, mask_BT)).float()
        allowed_BT = mask_BT if allowed_BT is None else allowed_BT
        if allowed_BT is not None:
            logits_BT2 = logits_BT2.masked_fill(~allowed_BT[..., None], float("-inf"))
        return logits_BT2[..., 0], logits_BT2[..., 1]

    def loss(self, tokens_BT: Tensor, first_B: Tensor, last_B: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Return the mean of both ends' cross-entropies in nats."""
        first_BT, last_BT = self(tokens_BT, mask_BT)
        return (F.cross_entropy(first_BT, first_B) + F.cross_entropy(last_BT, last_B)) / 2

    @torch.no_grad()
    def best_span(
        self,
        tokens_BT: Tensor,
        mask_BT: Tensor | None = None,
        allowed_BT: Tensor | None = None,
        *,
        max_length: int = 30,
    ) -> Tensor:
        """Return (B, 2): first and last token of the likeliest span of at most `max_length` tokens."""
        first_BT, last_BT = self(tokens_BT, mask_BT, allowed_BT)
        return likeliest_spans(first_BT, last_BT, max_length)[0]


def likeliest_spans(first_BT: Tensor, last_BT: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
    """The span of each row with the largest sum of scores of its first and its last token.

    Parameters
    ----------
    first_BT, last_BT : Tensor, shape (B, T)
        Scores of the ends; -inf where none is allowed.
    max_length : int
        Tokens of a span at most.

    Returns
    -------
    spans : Tensor of int, shape (B, 2)
        First and last token.
    scores : Tensor, shape (B,)
        Their sums.
    """
    length = first_BT.shape[1]
    scores_BTT = first_BT[:, :, None] + last_BT[:, None, :]
    allowed = torch.ones(length, length, dtype=torch.bool, device=first_BT.device).triu().tril(max_length - 1)
    best_B, flat_B = scores_BTT.masked_fill(~allowed, float("-inf")).flatten(1).max(1)
    return torch.stack((flat_B // length, flat_B % length), dim=1), best_B


def read_states(body: Transformer, tokens_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Return the body's states (B, T, D); an encoder-decoder reads the same text on both sides, as BART does."""
    if body.config.family == "encoder-decoder":
        return body.hidden(tokens_BT, mask_BT=mask_BT, source_BS=tokens_BT, source_mask_BS=mask_BT)
    return body.hidden(tokens_BT, mask_BT=mask_BT)


def pool(body: Transformer, states_BTD: Tensor, mask_BT: Tensor | None, pooling: Pooling) -> Tensor:
    """Return one state (B, D) for each sequence."""
    if pooling == "first":
        return body.pool(states_BTD) if body.pooler is not None else states_BTD[:, 0]
    if mask_BT is None:
        return states_BTD[:, -1] if pooling == "last" else states_BTD.mean(1)
    if pooling == "mean":
        return (states_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)
    place_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = (mask_BT * place_T).argmax(1)
    return states_BTD[torch.arange(len(last_B), device=last_B.device), last_B]


def new_linear(fan_in: int, fan_out: int, *, name: str, seed: int) -> Linear:
    """Return a layer with bias and weights N(0, 1/fan-in) drawn from (seed, name), not from the global state.

    Parameters
    ----------
    fan_in : int
        Number of inputs.
    fan_out : int
        Number of outputs.
    name : str
        What the layer is; layers of other names have other weights.
    seed : int
        Of its weights.

    Returns
    -------
    Linear
    """
    layer = Linear(fan_in, fan_out)
    generator = seeded_generator(seed, name)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(fan_out, fan_in, generator=generator) * fan_in**-0.5)
        layer.bias.zero_()
    return layer
