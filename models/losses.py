"""From tokens and targets to losses, by one function that runs as it stands or compiled.

What an objective takes out of a sequence is decided before, so that nothing here depends on the values of tokens: a
model's shape and a batch's make one graph, whichever run of that shape is trained. Shapes: B batch, T tokens, S source
tokens, N predicted tokens, D width, V vocabulary.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels.cross_entropy import Reduction, linear_cross_entropy
from models.kernels.linear import linear
from models.modules.transformer import Head, Transformer, capped

MAX_GRAPHS = 64
"""Graphs that one process may compile, of training and validation; more means that something varies which should not,
and is an error."""


class Losses(Protocol):
    """`token_losses`, as it stands or compiled."""

    def __call__(
        self,
        model: Transformer,
        inputs_BT: Tensor,
        source_BS: Tensor | None,
        places_N: Tensor | None,
        targets_N: Tensor,
        reduction: Reduction,
        z_loss: float,
    ) -> Tensor:
        """See `token_losses`."""


def token_losses(
    model: Transformer,
    inputs_BT: Tensor,
    source_BS: Tensor | None,
    places_N: Tensor | None,
    targets_N: Tensor,
    reduction: Reduction,
    z_loss: float,
) -> Tensor:
    """Return the cross-entropy of predicted tokens.

    Parameters
    ----------
    model : Transformer
        With a head.
    inputs_BT : Tensor of int, shape (B, T)
        What it reads.
    source_BS : Tensor of int, shape (B, S), optional
        What the encoder of an encoder-decoder reads.
    places_N : Tensor of int, shape (N,), optional
        Which of the B T positions predict; None: all.
    targets_N : Tensor of int, shape (N,)
        What they have to predict.
    reduction : str
        mean, or none for one loss a token.
    z_loss : float
        Weight of the squared log-normaliser, whose gradient is added and whose value is not.

    Returns
    -------
    Tensor of float32, scalar or shape (N,)
        Nats per token.
    """
    head, x_ND = _before_head(model, inputs_BT, source_BS, places_N)
    table_VD, cap = head.table(model.tokens.weight), model.config.logit_cap
    return _head_losses(x_ND, table_VD, head.bias, targets_N, reduction, cap, z_loss)


def stacked_losses(
    model: Transformer,
    inputs_BT: Tensor,
    source_BS: Tensor | None,
    places_N: Tensor | None,
    targets_N: Tensor,
    reduction: Reduction,
    z_loss: float,
) -> Tensor:
    """Return the cross-entropy of each member of a stack, as `token_losses` of it alone, to rounding.

    Parameters
    ----------
    model : Transformer
        M models side by side, of `models.modules.stacked.stack`.
    inputs_BT, source_BS, places_N, targets_N : Tensor
        As in `token_losses`, of folded batches: the first M-th of them is the first member's.
    reduction : str
        mean, or none for one loss a token.
    z_loss : float
        As in `token_losses`.

    Returns
    -------
    Tensor of float32, shape (M,) or (M, N / M)
        Nats per token.
    """
    head, x_ND = _before_head(model, inputs_BT, source_BS, places_N)
    table_MVD, cap = model.tokens.weight if head.weight is None else head.weight, model.config.logit_cap
    num_members = table_MVD.shape[0]
    biases = [None] * num_members if head.bias is None else head.bias.unbind()
    parts = zip(x_ND.chunk(num_members), table_MVD.unbind(), biases, targets_N.chunk(num_members), strict=True)
    return torch.stack([_head_losses(*part, reduction, cap, z_loss) for part in parts])


def _before_head(
    model: Transformer, inputs_BT: Tensor, source_BS: Tensor | None, places_N: Tensor | None
) -> tuple[Head, Tensor]:
    """The head, and the states (N, D) of predicted tokens as its table takes them."""
    assert model.head is not None
    x_ND = model.hidden(inputs_BT, source_BS=source_BS).flatten(0, 1)
    return model.head, model.head.prepare(x_ND if places_N is None else x_ND[places_N])


def _head_losses(
    x_ND: Tensor,
    table_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    reduction: Reduction,
    cap: float | None,
    z_loss: float,
) -> Tensor:
    if cap is None and not z_loss:
        return linear_cross_entropy(x_ND, table_VD, bias_V, targets_N, reduction)
    logits_NV = capped(linear(x_ND, table_VD, bias_V), cap).float()
    loss = F.cross_entropy(logits_NV, targets_N, reduction=reduction)
    if not z_loss:
        return loss
    penalty = z_loss * logits_NV.logsumexp(-1).square().mean()
    return loss + (penalty - penalty.detach())


@cache
def compiled_losses(backend: str = "inductor", losses: Losses = token_losses, *, cuda_graphs: bool = False) -> Losses:
    """Return `token_losses` compiled: one graph for each shape, shared by all runs of it in a process.

    Parameters
    ----------
    backend : str
        A name of torch.compile's; graphs of inductor are kept on disk between processes.
    losses : callable
        `token_losses`, or `stacked_losses`.
    cuda_graphs : bool
        Replay them as CUDA graphs (torch.compile's mode reduce-overhead). For steps of one forward and one backward
        pass: gradients that are added up over several lie in memory that the next replay overwrites, without an error
        (pytorch/pytorch#96693, #169545).

    Returns
    -------
    callable
        Compiles at the first call for a shape. A part that no graph can hold is an error, and so is a number of graphs
        beyond `MAX_GRAPHS`.
    """
    torch._dynamo.config.recompile_limit = MAX_GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if not cuda_graphs:
        compiled: Losses = torch.compile(losses, backend=backend, dynamic=False, fullgraph=True)
        return compiled
    replayed: Losses = torch.compile(losses, backend=backend, dynamic=False, fullgraph=True, mode="reduce-overhead")

    def kept(*args: Any, **kwargs: Any) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return replayed(*args, **kwargs).clone()  # the next replay writes over what this one returns

    return kept
