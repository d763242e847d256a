"""Matrix products of linear layers, by whichever of torch's two libraries is faster on this processor.

On AMD's processors MKL takes its AVX2 kernels even where there is AVX-512; oneDNN, which torch carries too, does not:
there it multiplied float32 matrices of small models twice as fast (benchmarks/kernels.py). Both are full float32; which
one is taken depends on processor, shapes and dtype alone, so that a run that is continued on an equal machine stays
equal to the last bit. Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MIN_PRODUCTS = 1 << 22
"""M K N below which a call's fixed cost, with its gradients some 25 microseconds, outweighs what it saves."""
NARROW = 256
"""Most inputs of a layer whose weight's gradient is computed transposed: reordering the longer operand costs more than
transposing such a gradient."""

CPU_FACTS = Path("/proc/cpuinfo")


def linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Return x W^T + b, (..., N), as `torch.nn.functional.linear`; its gradients are differentiable no further."""
    if not _by_onednn(x, weight_NK, x.numel() * weight_NK.shape[0]):
        return F.linear(x, weight_NK, bias_N)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight_NK, bias_N)
    return _onednn(x, weight_NK, bias_N)


def stacked_linear(x_LMK: Tensor, weight_LNK: Tensor, bias_LN: Tensor | None = None) -> Tensor:
    """Return x W^T + b of each of L layers, (L, M, N), by one batched product.

    Where oneDNN is faster the layers are taken one by one, as `linear` does: a batched product is MKL's.
    """
    if _by_onednn(x_LMK, weight_LNK, x_LMK[0].numel() * weight_LNK.shape[1]):
        biases = [None] * len(x_LMK) if bias_LN is None else bias_LN.unbind()
        layers = zip(x_LMK.unbind(), weight_LNK.unbind(), biases, strict=True)
        return torch.stack([linear(x, weight, bias) for x, weight, bias in layers])
    if bias_LN is None:
        return torch.bmm(x_LMK, weight_LNK.transpose(1, 2))
    return torch.baddbmm(bias_LN[:, None], x_LMK, weight_LNK.transpose(1, 2))


def input_gradient(grad_MN: Tensor, weight_NK: Tensor) -> Tensor:
    """Return G W, (M, K): the gradient of a layer's input."""
    if _by_onednn(grad_MN, weight_NK, grad_MN.numel() * weight_NK.shape[1]):
        return _onednn(grad_MN, weight_NK.t(), None)
    return grad_MN @ weight_NK


def weight_gradient(grad_MN: Tensor, x_MK: Tensor) -> Tensor:
    """Return G^T X, (N, K): the gradient of a layer's weight."""
    if not _by_onednn(grad_MN, x_MK, grad_MN.numel() * x_MK.shape[1]):
        return grad_MN.t() @ x_MK
    if x_MK.shape[1] <= min(NARROW, grad_MN.shape[1]):
        return _onednn(x_MK.t(), grad_MN.t(), None).t().contiguous()
    return _onednn(grad_MN.t(), x_MK.t(), None)


@cache
def onednn_is_faster() -> bool:
    """Whether this is an x86 processor of AMD's, and torch has oneDNN with the call used here."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    known = CPU_FACTS.exists()
    maker = CPU_FACTS.read_text(encoding="utf-8", errors="replace") if known else platform.processor()
    return "AuthenticAMD" in maker and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _by_onednn(x: Tensor, weight: Tensor, products: int) -> bool:
    return (
        not torch.compiler.is_compiling()  # first: a graph cannot hold what asks for the processor
        and products >= MIN_PRODUCTS
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.dtype == torch.float32
        and type(weight) in (Tensor, nn.Parameter)
        and onednn_is_faster()
        and not torch.is_autocast_enabled("cpu")
    )


def _onednn(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight_NK, bias_N, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
        x_MK = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(x_MK, weight_NK)
        return _onednn(x_MK, weight_NK, bias_N).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_MK, weight_NK = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_MN = grad.reshape(-1, grad.shape[-1])
        return (
            input_gradient(grad_MN, weight_NK).view(*grad.shape[:-1], -1) if wants_x else None,
            weight_gradient(grad_MN, x_MK) if wants_weight else None,
            grad_MN.sum(0) if wants_bias else None,
        )
