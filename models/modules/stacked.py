"""Models of one shape side by side in one: every weight has a leading dimension of members.

Members are folded into the batch, so that all that holds no weights (attention, residuals, activations) is the code of
one model; layers with weights are replaced by ones that give each member its own. Nothing mixes members: a number that
is not finite in one changes no bit of another. Knows no losses and no optimisers. Shapes: M members, B sequences of
each, T tokens, K inputs, N outputs, V rows of a table, D width; M B is the folded batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.kernels.linear import stacked_linear
from models.modules.layers import Embedding, Linear, Norm
from models.modules.transformer import Head, Transformer


def _stacked(members: Sequence[nn.Module], name: str) -> nn.Parameter | None:
    """The weights of that name of all members as one (M, ...); None where they have none."""
    weights = [getattr(member, name) for member in members]
    return None if weights[0] is None else nn.Parameter(torch.stack([weight.detach() for weight in weights]))


class StackedLinear(nn.Module):
    """Each member's own linear layer.

    Parameters
    ----------
    members : sequence of Linear
        The layers.
    """

    def __init__(self, members: Sequence[Linear]) -> None:
        super().__init__()
        self.weight, self.bias = _stacked(members, "weight"), _stacked(members, "bias")

    def forward(self, x: Tensor) -> Tensor:
        """Return (M B, ..., N) of (M B, ..., K)."""
        assert self.weight is not None
        y_MBN = stacked_linear(x.reshape(self.weight.shape[0], -1, x.shape[-1]), self.weight, self.bias)
        return y_MBN.view(*x.shape[:-1], -1)


class StackedNorm(nn.Module):
    """Each member's own gain, and bias, after a norm without.

    Parameters
    ----------
    members : sequence of Norm
        The norms.
    """

    def __init__(self, members: Sequence[Norm]) -> None:
        super().__init__()
        self.kind, self.eps, self.shape = members[0].kind, members[0].eps, members[0].shape
        self.weight, self.bias = _stacked(members, "weight"), _stacked(members, "bias")

    def forward(self, x: Tensor) -> Tensor:
        """Return the tensor (M B, ..., D) normalised."""
        assert self.weight is not None
        if self.kind == "layernorm":
            y = F.layer_norm(x, self.shape, None, None, self.eps)
        else:
            y = F.rms_norm(x, self.shape, None, self.eps)
        y_MBD = y.view(self.weight.shape[0], -1, y.shape[-1])
        if self.bias is None:
            return (y_MBD * self.weight[:, None]).view(x.shape)
        return torch.addcmul(self.bias[:, None], y_MBD, self.weight[:, None]).view(x.shape)


class StackedEmbedding(nn.Module):
    """Each member's own table.

    Parameters
    ----------
    members : sequence of Embedding
        The tables.
    """

    def __init__(self, members: Sequence[Embedding]) -> None:
        super().__init__()
        self.weight = _stacked(members, "weight")

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows (M B, ..., D) of ids (M B, ...)."""
        assert self.weight is not None
        num_members, rows, width = self.weight.shape
        first_M = torch.arange(0, num_members * rows, rows, device=ids.device)
        ids_MB = ids.reshape(num_members, -1) + first_M[:, None]
        return F.embedding(ids_MB, self.weight.view(-1, width)).view(*ids.shape, width)

    def add_rows(self, x_BTD: Tensor, first: int, end: int) -> Tensor:
        """Return (M B, T, D) plus rows `first` up to `end` of each member's table."""
        assert self.weight is not None
        x_MBTD = x_BTD.unflatten(0, (self.weight.shape[0], -1))
        return (x_MBTD + self.weight[:, None, first:end]).flatten(0, 1)


REPLACED: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    Linear: StackedLinear,
    Norm: StackedNorm,
    Embedding: StackedEmbedding,
}
"""Layers with weights, and what holds those of all members."""


def stack(members: Sequence[Transformer]) -> Transformer:
    """Return one model that holds copies of the members' weights, (M, ...) under the names that each has in a member.

    Parameters
    ----------
    members : sequence of Transformer
        Of one config; they share no weights with the result.

    Returns
    -------
    Transformer
        `hidden` takes and gives folded batches, members one after another; its heads' tables are (M, V, D).

    Raises
    ------
    ValueError
        For a model with T5's position buckets, whose biases belong to heads and not to tokens.
    """
    if members[0].config.positions == "t5":
        raise ValueError("models with t5 positions are not stacked")
    whole = copy.deepcopy(members[0])
    for path, module in list(whole.named_modules()):
        make = REPLACED.get(type(module))
        if make is not None:
            parent, _, name = path.rpartition(".")
            replacement = make([member.get_submodule(path) for member in members])
            setattr(whole.get_submodule(parent), name, replacement.train(module.training))
        elif isinstance(module, Head):
            heads = [member.get_submodule(path) for member in members]
            module.weight, module.bias = _stacked(heads, "weight"), _stacked(heads, "bias")
    return whole
