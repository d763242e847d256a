"""Position encodings: what tells a transformer where a token stands; knows nothing of blocks or families.

Shapes: B batch, T queries, S keys, H heads, K head size, J pairs of a head, D width.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from models.config.transformer import TransformerConfig
from models.modules.layers import Embedding
from models.modules.roles import Role


def sinusoidal_table(length: int, width: int, *, base: float = 10000.0) -> Tensor:
    """Return the (length, width) table of Vaswani et al. 2017, section 3.5: even columns sine, odd ones cosine."""
    position_T1 = torch.arange(length, dtype=torch.float32)[:, None]
    rate_D = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(base) / width))
    angle_TD = position_T1 * rate_D
    return torch.stack((angle_TD.sin(), angle_TD.cos()), dim=-1).flatten(1)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not annotate it
def cached_table(kind: str, length: int, size: int, base: float, device: torch.device) -> Tensor:
    """Return the "rotary", "rotary-real" or "sinusoidal" table of a device; kept, so that no step computes it again.

    A table is no buffer of a module: casting a model to bfloat16 must not round positions. In a compiled graph it is a
    constant.
    """
    return _made_table(kind, length, size, base, device)


@functools.lru_cache(maxsize=32)
def _made_table(kind: str, length: int, size: int, base: float, device: torch.device) -> Tensor:
    with torch.no_grad():
        if kind == "sinusoidal":
            return sinusoidal_table(length, size, base=base).to(device)
        table = rotary_table(length, size, base=base).to(device)
        return torch.view_as_real(table) if kind == "rotary-real" else table


def rotary_table(length: int, head_dim: int, *, base: float = 10000.0) -> Tensor:
    """Return the (length, head_dim / 2) complex rotations e^(i t theta_j), theta_j = base^(-2j / head_dim).

    Su et al. 2021 (RoFormer, arXiv 2104.09864), equation 15.
    """
    rate_J = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle_TJ = torch.arange(length, dtype=torch.float64)[:, None] * rate_J
    return torch.polar(torch.ones_like(angle_TJ), angle_TJ).to(torch.complex64)


def apply_rotary(x_BTHK: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighbouring pairs of each head (x_2j, x_2j+1) as complex numbers: one product instead of six operations.

    Checkpoints that pair j with j + K/2 (Hugging Face's Llama) are permuted when they are loaded.
    """
    if not rotation.is_complex():
        even, odd = x_BTHK.float().unflatten(-1, (-1, 2)).unbind(-1)
        cosine, sine = rotation.unbind(-1)
        turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
        return turned.flatten(-2).type_as(x_BTHK)
    pairs = torch.view_as_complex(x_BTHK.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x_BTHK)


def alibi_slopes(num_heads: int) -> Tensor:
    """Return the (H,) slopes 2^(-8 h / H) of Press et al. 2022 (ALiBi), with their rule for H not a power of two."""
    nearest = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / nearest) for h in range(nearest)]
    slopes += [2.0 ** (-4.0 * (2 * h + 1) / nearest) for h in range(num_heads - nearest)]
    return torch.tensor(slopes, dtype=torch.float32)


def relative_bucket(distance: Tensor, *, num_buckets: int, max_distance: int, bidirectional: bool) -> Tensor:
    """Return T5's bucket of key position minus query position (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the other half grow by a constant factor up to `max_distance`; if
    `bidirectional`, one half is for keys before the query and one for keys after it.
    """
    offset = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        offset = (distance > 0).long() * num_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = num_buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (growth * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class PositionBias(nn.Module):
    """Additive (1, H, T, S) attention bias of one stack: ALiBi's fixed slopes or T5's learned buckets.

    ALiBi in a bidirectional stack takes the absolute distance on both sides.
    """

    slopes_H: Tensor

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.num_buckets, self.max_distance = config.relative_buckets, config.relative_max_distance
        self.buckets: Embedding | None = None
        if config.positions == "t5":
            rows, heads = config.relative_buckets, config.num_heads
            self.buckets = Embedding(rows, heads, group="positions", role=Role.BUCKETS)
        self.register_buffer("slopes_H", alibi_slopes(config.num_heads), persistent=False)

    def reset_slopes(self) -> None:
        """Write the slopes again, after the module was made on the meta device."""
        self.slopes_H = alibi_slopes(self.slopes_H.shape[0]).to(self.slopes_H.device)

    def forward(self, num_queries: int, num_keys: int, *, first_query: int = 0) -> Tensor:
        """Return the bias of queries at positions `first_query` onwards to keys at 0 onwards."""
        device = self.slopes_H.device
        query_T1 = torch.arange(first_query, first_query + num_queries, device=device)[:, None]
        distance_TS = torch.arange(num_keys, device=device)[None, :] - query_T1
        if self.buckets is None:
            return (-distance_TS.abs() * self.slopes_H[:, None, None])[None]
        bucket_TS = relative_bucket(
            distance_TS, num_buckets=self.num_buckets, max_distance=self.max_distance, bidirectional=not self.causal
        )
        return self.buckets(bucket_TS).permute(2, 0, 1)[None].contiguous()
