"""Cross-entropy of a linear head without the logits of all tokens at once; knows no model and no objective.

Shapes: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernels.linear import input_gradient, linear, weight_gradient

CHUNK_LOGITS = 1 << 22
"""Logits held at a time: 16 MB."""

CHUNK_ROWS = (128, 512)
"""Fewest and most tokens of a chunk."""


Reduction = Literal["mean", "none"]
"""One loss for all tokens, or one for each."""


def linear_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Return -log softmax(x W^T + b)[target] in nats, in float32.

    In float32 on a CPU no tensor of (N, V) is made: the gradients of the mean are computed chunk by chunk together with
    the loss, and losses of single tokens without gradients chunk by chunk too. Elsewhere this is a linear layer and
    `cross_entropy` in float32.

    Parameters
    ----------
    x_ND : Tensor, shape (N, D)
        States.
    weight_VD : Tensor, shape (V, D)
        The output table.
    bias_V : Tensor, shape (V,), optional
        Added to logits.
    targets_N : Tensor of int, shape (N,)
        The ids to predict.
    reduction : str
        mean, or none for one loss a token.

    Returns
    -------
    Tensor, scalar or shape (N,)
    """
    chunked = (
        x_ND.device.type == "cpu"
        and x_ND.dtype == weight_VD.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
    if chunked and reduction == "mean" and torch.is_grad_enabled():
        return _ChunkedCrossEntropy.apply(x_ND, weight_VD, bias_V, targets_N)
    if chunked and reduction == "none" and not torch.is_grad_enabled():
        return _losses_without_gradients(x_ND, weight_VD, bias_V, targets_N)
    return F.cross_entropy(linear(x_ND, weight_VD, bias_V).float(), targets_N, reduction=reduction)


def _chunks(num_tokens: int, vocab: int) -> list[slice]:
    """Rows of which the logits are held at a time."""
    rows = min(max(CHUNK_LOGITS // vocab, CHUNK_ROWS[0]), CHUNK_ROWS[1])
    return [slice(start, start + rows) for start in range(0, num_tokens, rows)]


def _losses_without_gradients(x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor) -> Tensor:
    """One loss a token, (N,): log sum exp(z - top) + top - z[target]."""
    losses_N = x_ND.new_empty(x_ND.shape[0])
    for rows in _chunks(x_ND.shape[0], weight_VD.shape[0]):
        logits = linear(x_ND[rows], weight_VD, bias_V)
        top, wanted = logits.amax(1), logits.gather(1, targets_N[rows, None])[:, 0]
        total = logits.sub_(top[:, None]).exp_().sum(1)
        losses_N[rows] = total.log_().add_(top).sub_(wanted)
    return losses_N


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of tokens; the backward pass hands out what is there."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor) -> Tensor:
        num_tokens, vocab = x_ND.shape[0], weight_VD.shape[0]
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_x = torch.empty_like(x_ND) if wants_x else None
        grad_bias = torch.zeros_like(bias_V) if wants_bias and bias_V is not None else None
        grad_weight: Tensor | None = None
        total = x_ND.new_zeros(())
        for rows in _chunks(num_tokens, vocab):
            part, target = x_ND[rows], targets_N[rows, None]
            logits = linear(part, weight_VD, bias_V)
            top, wanted = logits.amax(1, keepdim=True), logits.gather(1, target)
            error = torch.softmax(logits, 1, out=logits)
            # the normaliser's log from the likeliest token, whose share is at least 1/V: one exponential a logit
            total += (top - error.amax(1, keepdim=True).log_() - wanted).sum()
            error.scatter_add_(1, target, error.new_full(target.shape, -1.0))
            if grad_x is not None:
                grad_x[rows] = input_gradient(error, weight_VD)
            if wants_weight:
                share = weight_gradient(error, part)
                grad_weight = share if grad_weight is None else grad_weight.add_(share)
            if grad_bias is not None:
                grad_bias += error.sum(0)
        grads = (grad_x, grad_weight, grad_bias)
        ctx.save_for_backward(*(None if grad is None else grad.div_(num_tokens) for grad in grads))
        return total / num_tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if float(grad) == 1.0:  # they are not copied: a table of GPT-2's is 26 MB
            return *ctx.saved_tensors, None
        return *(None if saved is None else saved * grad for saved in ctx.saved_tensors), None
