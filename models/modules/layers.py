"""Linear, embedding and norm layers that draw no random numbers when they are made, and the feed-forward layer.

Weights are written once, by `models.modules.parametrization.initialise_`, from a generator of its own; torch's own
layers would take numbers from the global one. Shapes: B batch, T tokens, D width, F feed-forward size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config.transformer import Activation, NormKind, TransformerConfig
from models.kernels.gelu import gelu_tanh
from models.kernels.linear import linear
from models.modules.roles import Group, Role, tag


class Linear(nn.Linear):
    """nn.Linear whose weights stay unset until `initialise_`, multiplied by the faster library.

    Parameters
    ----------
    fan_in : int
        Number of inputs.
    fan_out : int
        Number of outputs.
    bias : bool
        Whether there is an additive bias.
    group : str
        Where its parameters are counted.
    role : Role
        What its weight is for.
    """

    def __init__(
        self, fan_in: int, fan_out: int, *, bias: bool = True, group: Group = "added", role: Role = Role.MATRIX
    ) -> None:
        super().__init__(fan_in, fan_out, bias=bias)
        tag(self, group, weight=role, bias=Role.BIAS)

    def reset_parameters(self) -> None:
        """Draw nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out)."""
        return linear(x, self.weight, self.bias)


class Embedding(nn.Embedding):
    """nn.Embedding whose rows stay unset until `initialise_`.

    Parameters
    ----------
    rows : int
        Number of rows.
    width : int
        Size of a row.
    group : str
        Where they are counted.
    role : Role
        What they are for.
    """

    def __init__(self, rows: int, width: int, *, group: Group, role: Role = Role.TABLE) -> None:
        super().__init__(rows, width)
        tag(self, group, weight=role)

    def reset_parameters(self) -> None:
        """Draw nothing."""

    def add_rows(self, x_BTD: Tensor, first: int, end: int) -> Tensor:
        """Return (B, T, D) plus rows `first` up to `end`: one for each token, or one for all."""
        return x_BTD + self.weight[first:end]


class Norm(nn.Module):
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019) over the last dimension, with a learned gain.

    Parameters
    ----------
    size : int
        Size of the last dimension.
    kind : str
        layernorm or rmsnorm.
    eps : float
        Number added to the variance.
    bias : bool
        Whether a LayerNorm has an additive bias; an RMSNorm has none.
    group : str
        Where its parameters are counted.
    """

    def __init__(self, size: int, *, kind: NormKind, eps: float, bias: bool = False, group: Group = "norms") -> None:
        super().__init__()
        self.kind, self.eps, self.shape = kind, eps, (size,)
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size)) if bias and kind == "layernorm" else None
        tag(self, group, weight=Role.GAIN, bias=Role.BIAS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tensor (..., size) normalised."""
        if self.kind == "layernorm":
            return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, self.shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Name the kind when the module is printed."""
        return f"{self.kind}, {self.shape[0]}"


def make_norm(config: TransformerConfig, *, group: Group = "norms") -> Norm:
    """Return a norm of the residual stream, (..., width).

    Parameters
    ----------
    config : TransformerConfig
        Says its kind, eps and bias.
    group : str
        Where its parameters are counted.
    """
    return Norm(config.width, kind=config.norm, eps=config.norm_eps, bias=config.bias, group=group)


class FeedForward(nn.Module):
    """down(f(up(x))), or down(f(gate(x)) * up(x)) for a gated activation (Shazeer 2020, equations 5 and 6)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        width, hidden, bias = config.width, config.hidden, config.bias
        self.up = Linear(width, hidden, bias=bias, group="ffn")
        self.gate = Linear(width, hidden, bias=bias, group="ffn") if config.gated else None
        self.down = Linear(hidden, width, bias=bias, group="ffn", role=Role.RESIDUAL_MATRIX)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        h_BTF = self.up(x_BTD)
        if self.gate is not None:
            return self.down(activate(self.activation, self.gate(x_BTD)) * h_BTF)
        return self.down(activate(self.activation, h_BTF))


def activate(name: Activation, x_BTF: Tensor) -> Tensor:
    """Apply a named non-linearity, of a gated layer the one on its gate.

    Parameters
    ----------
    name : str
        An activation of `TransformerConfig`.
    x_BTF : Tensor, shape (B, T, F)
        Its input.

    Returns
    -------
    Tensor, shape (B, T, F)
    """
    if name == "gelu":
        return F.gelu(x_BTF)
    if name in ("gelu-tanh", "geglu"):
        return gelu_tanh(x_BTF)
    return F.silu(x_BTF) if name == "swiglu" else F.relu(x_BTF)
