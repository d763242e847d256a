"""From tokens and targets to losses, by one function that runs as it stands or compiled.

What an objective takes out of a sequence is decided before, so that nothing here depends on the values of tokens: a
model's shape and a batch's make one graph, whichever run of that shape is trained. Shapes: B batch, T tokens, S source
tokens, N predicted tokens, D width, V vocabulary.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels.cross_entropy import Reduction, linear_cross_entropy
from models.kernels.linear import linear
from models.modules.transformer import Transformer, capped

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
    head, cap = model.head, model.config.logit_cap
    assert head is not None
    x_ND = model.hidden(inputs_BT, source_BS=source_BS).flatten(0, 1)
    if places_N is not None:
        x_ND = x_ND[places_N]
    x_ND, table_VD = head.prepare(x_ND), head.table(model.tokens.weight)
    if cap is None and not z_loss:
        return linear_cross_entropy(x_ND, table_VD, head.bias, targets_N, reduction)
    logits_NV = capped(linear(x_ND, table_VD, head.bias), cap).float()
    loss = F.cross_entropy(logits_NV, targets_N, reduction=reduction)
    if not z_loss:
        return loss
    penalty = z_loss * logits_NV.logsumexp(-1).square().mean()
    return loss + (penalty - penalty.detach())


@cache
def compiled_losses(backend: str = "inductor") -> Losses:
    """Return `token_losses` compiled: one graph for each shape, shared by all runs of it in a process.

    Parameters
    ----------
    backend : str
        A name of torch.compile's; graphs of inductor are kept on disk between processes.

    Returns
    -------
    callable
        Compiles at the first call for a shape. A part that no graph can hold is an error, and so is a number of graphs
        beyond `MAX_GRAPHS`.
    """
    torch._dynamo.config.recompile_limit = MAX_GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    compiled: Losses = torch.compile(token_losses, backend=backend, dynamic=False, fullgraph=True)
    return compiled
