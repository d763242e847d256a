"""Linear, table and norm layers that draw no random numbers when they are made, and the feed-forward layer.

Weights are written once, by `models.modules.parametrization.initialise_`, from a generator of its own; torch's own
layers would take numbers from the global one. Shapes: B batch, T tokens, D width, F feed-forward size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config.transformer import TransformerConfig
from models.kernels.gelu import gelu_tanh
from models.kernels.linear import linear


class Linear(nn.Linear):
    """nn.Linear whose weights stay unset until `initialise_`, multiplied by the faster library."""

    def reset_parameters(self) -> None:
        """Draw nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out)."""
        return linear(x, self.weight, self.bias)


class Embedding(nn.Embedding):
    """nn.Embedding whose rows stay unset until `initialise_`."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Norm(nn.Module):
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over the last dimension, with a learned gain."""

    def __init__(self, size: int, *, kind: str, eps: float, bias: bool = False) -> None:
        super().__init__()
        self.kind, self.eps, self.shape = kind, eps, (size,)
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size)) if bias and kind == "layernorm" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the tensor (..., size) normalised."""
        if self.kind == "layernorm":
            return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, self.shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Name the kind when the module is printed."""
        return f"{self.kind}, {self.shape[0]}"


def make_norm(config: TransformerConfig) -> Norm:
    """Return a norm of the residual stream."""
    return Norm(config.width, kind=config.norm, eps=config.norm_eps, bias=config.bias)


class FeedForward(nn.Module):
    """down(f(up(x))), or down(f(gate(x)) * up(x)) for a gated activation (Shazeer 2020, equations 5 and 6)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = Linear(config.width, config.hidden, bias=config.bias)
        self.gate = Linear(config.width, config.hidden, bias=config.bias) if config.gated else None
        self.down = Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        h_BTF = self.up(x_BTD)
        if self.gate is not None:
            return self.down(activate(self.activation, self.gate(x_BTD)) * h_BTF)
        return self.down(activate(self.activation, h_BTF))


def activate(name: str, x_BTF: Tensor) -> Tensor:
    """Apply a named non-linearity, of a gated layer the one on its gate."""
    if name == "gelu":
        return F.gelu(x_BTF)
    if name in ("gelu-tanh", "geglu"):
        return gelu_tanh(x_BTF)
    return F.silu(x_BTF) if name == "swiglu" else F.relu(x_BTF)
