"""Causal attention for training on a CPU in float32: softmaxes are kept by blocks of queries.

Torch's fused CPU kernel computes the scores again in its backward pass, by small tiles. Here a block of queries meets
all keys that it may see in one batched product, and its softmax is kept: 0.65 to 0.9 of the time, forward and backward,
at 256 and 512 tokens (benchmarks/kernels.py), for half a score matrix of memory a layer. Without a
causal mask, or with fewer tokens, the fused kernel is as fast. Shapes: R = B H rows, T tokens, K head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 64
"""Queries to a block: a block of scores of a small model stays in the second-level cache."""
MIN_TOKENS, MIN_SCORES = 256, 2**19
"""Tokens and scores (R T T) below which a block's fixed cost outweighs what it saves."""
MAX_SCORES = 2**24
"""Scores above which the memory for softmaxes is not worth the time: 32 MiB a layer."""


def should_use_blockwise(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> bool:
    """Whether a backward pass will follow, and the softmaxes are neither too small nor too many to keep."""
    if torch.compiler.is_compiling():  # a compiler writes kernels of its own
        return False
    if not torch.is_grad_enabled() or not (q_BHTK.requires_grad or k_BHTK.requires_grad or v_BHTK.requires_grad):
        return False
    tokens = q_BHTK.shape[-2]
    return tokens >= MIN_TOKENS and MIN_SCORES <= q_BHTK.shape[:-1].numel() * tokens <= MAX_SCORES


def blockwise_attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, *, scale: float) -> Tensor:
    """Return softmax(scale Q K^T) V where token t sees tokens 0..t, (B, H, T, K); differentiable once."""
    return _Blockwise.apply(q_BHTK, k_BHTK, v_BHTK, scale)


def _blocks(length: int) -> list[tuple[int, int]]:
    """First query and last query + 1, which is also the number of keys seen, of every block."""
    return [(first, min(first + BLOCK, length)) for first in range(0, length, BLOCK)]


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, scale: float) -> Tensor:
        q_RTK, k_RTK, v_RTK = (q_BHTK * scale).flatten(0, 1), k_BHTK.flatten(0, 1), v_BHTK.flatten(0, 1)
        k_RKT, out_RTK, kept = k_RTK.transpose(1, 2), torch.empty_like(v_RTK), []
        future = torch.full((BLOCK, BLOCK), float("-inf"), dtype=q_RTK.dtype, device=q_RTK.device).triu_(1)
        for first, end in _blocks(q_RTK.shape[1]):
            scores = torch.bmm(q_RTK[:, first:end], k_RKT[:, :, :end])
            scores[:, :, first:].add_(future[: end - first, : end - first])
            weights = torch.softmax(scores, -1)
            out_RTK[:, first:end].baddbmm_(weights, v_RTK[:, :end], beta=0)
            kept.append(weights)
        ctx.save_for_backward(q_RTK, k_RTK, v_RTK, *kept)
        ctx.scale, ctx.shape = scale, q_BHTK.shape
        return out_RTK.view(*q_BHTK.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHTK: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_RTK, k_RTK, v_RTK, *kept = ctx.saved_tensors
        grad_RTK, v_RKT = grad_BHTK.flatten(0, 1), v_RTK.transpose(1, 2)
        dq_RTK, dk_RTK, dv_RTK = torch.empty_like(q_RTK), torch.empty_like(k_RTK), torch.empty_like(v_RTK)
        beta = 0  # the last block of queries sees every key: it writes what the others add to
        for (first, end), weights in zip(reversed(_blocks(q_RTK.shape[1])), reversed(kept), strict=True):
            grad = grad_RTK[:, first:end]
            dv_RTK[:, :end].baddbmm_(weights.transpose(1, 2), grad, beta=beta)
            dscores = torch._softmax_backward_data(torch.bmm(grad, v_RKT[:, :, :end]), weights, -1, weights.dtype)
            dq_RTK[:, first:end].baddbmm_(dscores, k_RTK[:, :end], beta=0, alpha=ctx.scale)
            dk_RTK[:, :end].baddbmm_(dscores.transpose(1, 2), q_RTK[:, first:end], beta=beta)
            beta = 1
        rows = ctx.shape[:-1]
        return dq_RTK.view(*rows, -1), dk_RTK.view(*rows, -1), dv_RTK.view(*rows, -1), None
