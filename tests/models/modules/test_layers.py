"""Layers equal their formulas, value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.config.transformer import Activation, TransformerConfig
from models.kernels.gelu import gelu_tanh
from models.modules.layers import FeedForward, Norm, activate


def test_gelu_by_a_sigmoid_equals_torchs_and_so_does_its_gradient() -> None:
    x = torch.linspace(-20, 20, 4001, requires_grad=True)
    grad = torch.randn(4001, generator=torch.Generator().manual_seed(0))
    ours, theirs = gelu_tanh(x), F.gelu(x, approximate="tanh")
    assert torch.allclose(ours, theirs, atol=2e-6)
    our_grad, their_grad = (torch.autograd.grad(y, x, grad)[0] for y in (ours, theirs))
    assert torch.allclose(our_grad, their_grad, atol=4e-6)


def test_norms_equal_their_formulas() -> None:
    x_BTD = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    for kind in ("layernorm", "rmsnorm"):
        norm = Norm(8, kind=kind, eps=1e-3, bias=True)
        torch.nn.init.constant_(norm.weight, 2.0)
        centre = x_BTD - x_BTD.mean(-1, keepdim=True) if kind == "layernorm" else x_BTD
        expected = 2 * centre / (centre.square().mean(-1, keepdim=True) + 1e-3).sqrt()
        if norm.bias is not None:
            torch.nn.init.constant_(norm.bias, 0.5)
            expected = expected + 0.5
        assert torch.allclose(norm(x_BTD), expected, atol=1e-6)
    assert Norm(8, kind="rmsnorm", eps=1e-3, bias=True).bias is None


@pytest.mark.parametrize("activation", ["swiglu", "geglu", "relu", "gelu"])
def test_the_feed_forward_layer_is_its_formula(activation: Activation) -> None:
    config = TransformerConfig(vocab_size=5, width=8, depth=1, num_heads=2, context=4, activation=activation)
    layer, x_BTD = FeedForward(config), torch.randn(2, 3, 8)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    inner = x_BTD @ layer.up.weight.T
    if layer.gate is not None:
        inner = activate(activation, x_BTD @ layer.gate.weight.T) * inner
    else:
        inner = activate(activation, inner)
    assert torch.allclose(layer(x_BTD), inner @ layer.down.weight.T, atol=1e-4)
