"""Linear layers give the same whichever library multiplies, in value and gradients, and the same twice."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.kernels import linear as products
from models.kernels.linear import linear
from models.modules.layers import Linear

SHAPES = [(1024, 64, 96), (1024, 300, 40), (40, 600, 200), (1024, 5, 1000)]
"""Rows, inputs and outputs above the size from which a library is chosen: more outputs than inputs, fewer, many."""


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def faster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_torch(faster: bool, shape: tuple[int, int, int], biased: bool) -> None:
    rows, inputs, outputs = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, rows // 2, inputs, generator=generator, requires_grad=True)
    weight = torch.randn(outputs, inputs, generator=generator, requires_grad=True)
    bias = torch.randn(outputs, generator=generator, requires_grad=True) if biased else None
    grad = torch.randn(2, rows // 2, outputs, generator=generator)
    inputs_of = [t for t in (x, weight, bias) if t is not None]
    expected, got = F.linear(x, weight, bias), linear(x, weight, bias)
    assert ("_Linear" in str(got.grad_fn)) is faster
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-4)
    ours = torch.autograd.grad(got, inputs_of, grad)
    assert all(t.is_contiguous() for t in ours)
    for one, other in zip(ours, torch.autograd.grad(expected, inputs_of, grad), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-3)
    with torch.no_grad():
        assert torch.equal(linear(x, weight, bias), got)


def test_the_same_products_twice_are_the_same_to_the_last_bit(faster: bool) -> None:
    def gradients() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(512, 256, generator=generator, requires_grad=True)
        weight = torch.randn(512, 256, generator=generator, requires_grad=True)
        return [*torch.autograd.grad(linear(x, weight).square().sum(), (x, weight))]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_small_products_other_dtypes_and_a_frozen_weight_go_their_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    layer = Linear(256, 256)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    assert "_Linear" in str(layer(torch.ones(512, 256)).grad_fn)
    assert "_Linear" not in str(layer(torch.ones(2, 256)).grad_fn)
    assert "_Linear" not in str(layer.double()(torch.ones(512, 256).double()).grad_fn)
    frozen, x = torch.ones(256, 256), torch.ones(512, 256, requires_grad=True)
    linear(x, frozen).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten()[0].item() == 256


@pytest.mark.parametrize(("maker", "expected"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_processors_maker_decides(
    maker: str, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    about = tmp_path / "cpuinfo"
    about.write_text(f"processor\t: 0\nvendor_id\t: {maker}\n", encoding="utf-8")
    monkeypatch.setattr(products, "CPU_FACTS", about)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert products.onednn_is_faster.__wrapped__() is (expected and has_onednn)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert not products.onednn_is_faster.__wrapped__()
