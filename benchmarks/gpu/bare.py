"""A GPT as a page of plain PyTorch writes it: what the suite's models are measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """One layer."""
        shape = x_BTD.shape
        qkv = self.qkv(self.norms[0](x_BTD)).view(*shape[:2], 3, self.heads, -1)
        q, k, v = (item.transpose(1, 2) for item in qkv.unbind(2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).reshape(shape))
        return x_BTD + self.down(F.gelu(self.up(self.norms[1](x_BTD)), approximate="tanh"))


class BareGPT(nn.Module):
    """Learned positions, a tied head, the loss of next tokens."""

    def __init__(self, *, width: int, depth: int, heads: int, vocab: int, context: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        for weight in (self.tokens.weight, self.places.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Mean loss in nats per token; the last token is a target only."""
        inputs = tokens_BT[:, :-1]
        x_BTD = self.tokens(inputs) + self.places(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits = F.linear(self.norm(x_BTD), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), tokens_BT[:, 1:].flatten())
