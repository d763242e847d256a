"""The chunked loss equals the plain one, value and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.kernels import cross_entropy as losses
from models.kernels.cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rows", [7, 64, 500])
def test_the_chunked_loss_and_its_gradients_equal_the_plain_ones(
    biased: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", (rows, rows))
    generator = torch.Generator().manual_seed(0)
    x_ND, weight_VD = torch.randn(130, 16, generator=generator), torch.randn(40, 16, generator=generator)
    bias_V = torch.randn(40, generator=generator) if biased else None
    targets_N = torch.randint(0, 40, (130,), generator=generator)
    inputs = [t for t in (x_ND, weight_VD, bias_V) if t is not None]
    for tensor in inputs:
        tensor.requires_grad_()
    expected = F.cross_entropy(F.linear(x_ND, weight_VD, bias_V), targets_N)
    got = linear_cross_entropy(x_ND, weight_VD, bias_V, targets_N)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)
    grads = zip(torch.autograd.grad(3 * expected, inputs), torch.autograd.grad(3 * got, inputs), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in grads)


def test_a_frozen_table_gets_no_gradient_and_a_very_unlikely_target_a_finite_loss() -> None:
    x_ND, table_VD = torch.tensor([[200.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    loss = linear_cross_entropy(x_ND, table_VD, None, torch.tensor([1]))
    assert loss.item() == pytest.approx(400.0)
    loss.backward()
    assert x_ND.grad is not None
    assert x_ND.grad.item() == pytest.approx(2.0)
    assert table_VD.grad is None


def test_without_gradients_or_in_half_precision_the_loss_is_the_same() -> None:
    x_ND, table_VD, targets_N = torch.randn(9, 8), torch.randn(12, 8), torch.arange(9)
    expected = F.cross_entropy(x_ND @ table_VD.T, targets_N).item()
    assert linear_cross_entropy(x_ND, table_VD, None, targets_N).item() == pytest.approx(expected, rel=1e-6)
    half = linear_cross_entropy(x_ND.bfloat16(), table_VD.bfloat16(), None, targets_N)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("biased", [True, False])
def test_losses_of_single_tokens_without_gradients_equal_the_plain_ones(
    biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", (7, 7))
    generator = torch.Generator().manual_seed(0)
    x_ND, weight_VD = 9 * torch.randn(30, 16, generator=generator), torch.randn(40, 16, generator=generator)
    bias_V = torch.randn(40, generator=generator) if biased else None
    targets_N = torch.randint(0, 40, (30,), generator=generator)
    expected = F.cross_entropy(F.linear(x_ND, weight_VD, bias_V), targets_N, reduction="none")
    with torch.no_grad():
        got = linear_cross_entropy(x_ND, weight_VD, bias_V, targets_N, "none")
    assert torch.allclose(got, expected, rtol=1e-6, atol=1e-5)
    with_graph = linear_cross_entropy(x_ND.requires_grad_(), weight_VD, bias_V, targets_N, "none")
    assert with_graph.requires_grad
    assert torch.allclose(with_graph, expected, rtol=1e-6, atol=1e-5)
