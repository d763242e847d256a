"""Linear, table and norm layers that draw no random numbers when they are made, and the feed-forward layer.

Weights are written once, by `models.parametrization.initialise_`, from a generator of its own; torch's own layers
would take numbers from the global one. Shapes: B batch, T tokens, D width, F feed-forward size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.config import TransformerConfig
from models.products import linear


class Linear(nn.Linear):
    """nn.Linear whose weights stay unset until `initialise_`, multiplied by the faster library."""

    def reset_parameters(self) -> None:
        """Draw nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out)."""
        return linear(x, self.weight, self.bias)


class Table(nn.Embedding):
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


class _GeluTanh(torch.autograd.Function):
    """x sigmoid(2 z) with its derivative, s + (1 - s) x s (2 z)', computed while s is at hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rise = torch.addcmul(_SLOPE, x, x, value=GELU_SLOPE * GELU_CUBIC)
        sigmoid = (rise * x).sigmoid_()
        out = x * sigmoid
        change = torch.add(_TWICE, rise, alpha=3, out=rise).mul_(out)
        ctx.save_for_backward(torch.lerp(sigmoid, _ONE, change, out=change))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


GELU_SLOPE, GELU_CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
"""Constants of the tanh approximation of GELU, as 0.5 (1 + tanh z) = sigmoid(2 z) (Hendrycks and Gimpel 2016)."""
_SLOPE, _TWICE, _ONE = (torch.tensor(number) for number in (GELU_SLOPE, -2 * GELU_SLOPE, 1.0))


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU by its tanh approximation.

    Torch's tanh takes four times a sigmoid's time on a CPU, so that training there in float32 uses the sigmoid; it took
    0.8 of the time.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled() and x.requires_grad:
        return _GeluTanh.apply(x)
    return F.gelu(x, approximate="tanh")


def activate(name: str, x_BTF: Tensor) -> Tensor:
    """Apply a named non-linearity, of a gated layer the one on its gate."""
    if name == "gelu":
        return F.gelu(x_BTF)
    if name in ("gelu-tanh", "geglu"):
        return gelu_tanh(x_BTF)
    return F.silu(x_BTF) if name == "swiglu" else F.relu(x_BTF)
