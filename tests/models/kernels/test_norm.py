"""RMSNorm by its own formula equals torch's, value and gradients, for one model and for several side by side."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels.norm import rms_norm


def gradients(loss: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("shape", [(24,), (3, 24), (2, 5, 24), (2, 5, 4, 6)])
def test_its_value_and_its_gradients_equal_torchs(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, requires_grad=True)
    gain = torch.randn(shape[-1], generator=generator, requires_grad=True)
    towards = torch.randn(*shape, generator=generator)
    expected, got = F.rms_norm(x, gain.shape, gain, 1e-3), rms_norm(x, gain, 1e-3)
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-6)
    pairs = zip(
        gradients((expected * towards).sum(), [x, gain]), gradients((got * towards).sum(), [x, gain]), strict=True
    )
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
    with torch.no_grad():
        assert torch.equal(rms_norm(x, gain, 1e-3), got)


def test_its_gradient_is_that_of_finite_differences() -> None:
    x, gain = torch.randn(3, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    step, place = 1e-3, (1, 4)
    single = x.float().requires_grad_()
    slope = gradients(rms_norm(single, gain.float(), 1e-5).square().sum(), [single])[0][place].item()
    ends = []
    for sign in (1, -1):
        moved = x.clone()
        moved[place] += sign * step
        ends.append(F.rms_norm(moved, (8,), gain, 1e-5).square().sum().item())
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-4)


def test_models_side_by_side_have_the_values_and_gradients_of_each_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 5, 16, generator=generator, requires_grad=True)
    gains = torch.randn(3, 16, generator=generator, requires_grad=True)
    towards = torch.randn(6, 5, 16, generator=generator)
    alone = torch.cat([rms_norm(part, gain, 1e-5) for part, gain in zip(x.chunk(3), gains.unbind(), strict=True)])
    together = rms_norm(x, gains, 1e-5)
    assert torch.equal(alone, together)
    pairs = zip(
        gradients((alone * towards).sum(), [x, gains]), gradients((together * towards).sum(), [x, gains]), strict=True
    )
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_torch(dtype: torch.dtype) -> None:
    x, gain = torch.randn(4, 16, dtype=dtype), torch.randn(16, dtype=dtype)
    assert torch.equal(rms_norm(x, gain, 1e-5), F.rms_norm(x, (16,), gain, 1e-5))


def test_a_row_of_zeros_has_a_finite_gradient_and_a_frozen_gain_none() -> None:
    x, gain = torch.zeros(2, 8, requires_grad=True), torch.ones(8)
    rms_norm(x, gain, 1e-5).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert gain.grad is None
    frozen, free = torch.ones(2, 8), torch.ones(8, requires_grad=True)
    rms_norm(frozen, free, 1e-5).sum().backward()
    assert free.grad is not None
    assert torch.allclose(free.grad, torch.full((8,), 2.0), atol=1e-4)
