"""Scaled dot-product attention and its multi-head module with a key-value cache; self- or cross-, one implementation.

Knows nothing of blocks and families: the caller says what may be seen (causal, additive bias) and where tokens stand.
Shapes: B batch, T queries, S keys, D width, H query heads, G key-value heads, K head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config.transformer import AttentionBackend, TransformerConfig
from models.errors import UserError
from models.kernels.attention import blockwise_attention, should_use_blockwise
from models.modules.layers import Linear, Norm
from models.modules.positions import apply_rotary
from models.modules.roles import Group, Role


def attention_backend(device_type: str, dtype: torch.dtype) -> AttentionBackend:
    """Return which implementation attention uses for a device and a dtype; records name it.

    "sdpa" is torch's fused kernel. On a CPU its half-precision kernels are slower than two matrix products with a
    softmax between them ("explicit"), which took 1.6 to 1.9 times less time in bfloat16 at width 64 to 256, and its
    float32 kernel trains causal models slower than `models.kernels.attention`, which leaves all else to "sdpa".
    """
    if device_type != "cpu":
        return "sdpa"
    if dtype in (torch.bfloat16, torch.float16):
        return "explicit"
    return "blockwise" if dtype == torch.float32 else "sdpa"


def dot_product_attention(
    q_BHTK: Tensor,
    k_BHSK: Tensor,
    v_BHSK: Tensor,
    *,
    scale: float,
    causal: bool = False,
    bias: Tensor | None = None,
    backend: AttentionBackend | None = None,
) -> Tensor:
    """Return softmax(scale Q K^T + bias) V, (B, H, T, K) (Vaswani et al. 2017, equation 1).

    Parameters
    ----------
    q_BHTK : Tensor, shape (B, H, T, K)
        Queries.
    k_BHSK : Tensor, shape (B, H, S, K)
        Keys.
    v_BHSK : Tensor, shape (B, H, S, K)
        Values.
    scale : float
        Factor on the products.
    causal : bool
        Query t sees keys 0..t only; needs as many queries as keys.
    bias : Tensor, optional
        Added to the scaled products, broadcast to (B, H, T, S); -inf hides a key.
    backend : str, optional
        A name of `ATTENTION_BACKENDS`; None: `attention_backend`'s choice.

    Returns
    -------
    Tensor, shape (B, H, T, K)

    Raises
    ------
    UserError
        When causal attention has more or fewer queries than keys.
    """
    if backend is None:
        backend = attention_backend(q_BHTK.device.type, q_BHTK.dtype)
    if causal and q_BHTK.shape[-2] != k_BHSK.shape[-2]:
        raise UserError("causal attention without a bias needs as many queries as keys")
    if bias is not None:
        bias = bias.type_as(q_BHTK)
    if backend == "blockwise" and causal and bias is None and should_use_blockwise(q_BHTK, k_BHSK, v_BHSK):
        return blockwise_attention(q_BHTK, k_BHSK, v_BHSK, scale=scale)
    if backend != "explicit":
        if bias is not None and causal:
            bias, causal = bias + causal_bias(q_BHTK.shape[-2], bias), False
        return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias, is_causal=causal, scale=scale)
    scores_BHTS = (q_BHTK * scale) @ k_BHSK.transpose(-2, -1)
    if bias is not None:
        scores_BHTS = scores_BHTS + bias
    if causal:
        scores_BHTS = scores_BHTS + causal_bias(q_BHTK.shape[-2], scores_BHTS)
    return scores_BHTS.softmax(-1).type_as(v_BHSK) @ v_BHSK


def causal_bias(length: int, like: Tensor) -> Tensor:
    """Return the (length, length) bias of -inf above the diagonal, in the dtype and on the device of `like`."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu(1)


@dataclass
class LayerCache:
    """Keys and values that one attention layer has seen, (B, G, capacity, K), filled up to `length` positions."""

    keys: Tensor | None = None
    """Rotated keys, allocated at the first append."""
    values: Tensor | None = None
    """Values."""
    length: int = 0
    """Positions filled."""
    capacity: int = 0
    """Positions allocated."""

    def append(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store new positions and return all keys and values up to now."""
        end = self.length + k_BGTK.shape[2]
        if self.keys is None or self.values is None or end > self.capacity:
            self.capacity = max(end, 2 * self.capacity, 64)
            shape = (*k_BGTK.shape[:2], self.capacity, k_BGTK.shape[3])
            keys, values = k_BGTK.new_empty(shape), v_BGTK.new_empty(shape)
            if self.keys is not None and self.values is not None:
                keys[:, :, : self.length] = self.keys[:, :, : self.length]
                values[:, :, : self.length] = self.values[:, :, : self.length]
            self.keys, self.values = keys, values
        self.keys[:, :, self.length : end] = k_BGTK
        self.values[:, :, self.length : end] = v_BGTK
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep, reorder or repeat sequences of the batch (beam search)."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


@dataclass(frozen=True, kw_only=True)
class AttentionContext:
    """What an attention layer must know beside the states from which queries come."""

    memory_BSD: Tensor | None = None
    """Where keys and values come from in cross-attention; None: from the queries' own states."""
    rotation: Tensor | None = None
    """Rotary factors of the positions; None: not rotary."""
    causal: bool = False
    """Whether query t sees keys 0..t only."""
    bias: Tensor | None = None
    """Added to the scaled products, broadcast to (B, H, T, S)."""
    cache: LayerCache | None = None
    """Keys and values of earlier calls, extended by this one; of cross-attention filled once."""


class Attention(nn.Module):
    """Multi-head attention of separate query, key, value and output projections; grouped where G < H.

    Parameters
    ----------
    config : TransformerConfig
        Heads and their size.
    group : str
        Where its projections are counted.
    """

    backend: AttentionBackend | None = None
    """The implementation, where `set_attention_backend` forces one."""

    def __init__(self, config: TransformerConfig, *, group: Group = "attention") -> None:
        super().__init__()
        width, size, bias = config.width, config.key_dim, config.bias
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.kv_heads, size
        self.query = Linear(width, config.num_heads * size, bias=bias, group=group)
        self.key = Linear(width, config.kv_heads * size, bias=bias, group=group)
        self.value = Linear(width, config.kv_heads * size, bias=bias, group=group)
        self.output = Linear(config.num_heads * size, width, bias=bias, group=group, role=Role.RESIDUAL_MATRIX)
        self.query_norm = Norm(size, kind="rmsnorm", eps=config.norm_eps) if config.qk_norm else None
        self.key_norm = Norm(size, kind="rmsnorm", eps=config.norm_eps) if config.qk_norm else None
        self.scale = attention_scale(config)

    def forward(self, x_BTD: Tensor, context: AttentionContext) -> Tensor:
        """Attend from `x_BTD` to itself, or to the context's memory.

        Parameters
        ----------
        x_BTD : Tensor, shape (B, T, D)
            Where queries come from.
        context : AttentionContext
            What may be seen, and where tokens stand.

        Returns
        -------
        Tensor, shape (B, T, D)
        """
        rotation, cache, memory_BSD = context.rotation, context.cache, context.memory_BSD
        q_BTHK = self.query(x_BTD).view(*x_BTD.shape[:2], self.num_heads, self.head_dim)
        if self.query_norm is not None:
            q_BTHK = self.query_norm(q_BTHK)
        if rotation is not None:
            q_BTHK = apply_rotary(q_BTHK, rotation)
        if memory_BSD is not None and cache is not None and cache.keys is not None and cache.values is not None:
            k_BGSK, v_BGSK = cache.keys[:, :, : cache.length], cache.values[:, :, : cache.length]
        else:
            k_BGSK, v_BGSK = self._keys_and_values(x_BTD if memory_BSD is None else memory_BSD, rotation)
            if cache is not None:
                k_BGSK, v_BGSK = cache.append(k_BGSK, v_BGSK)
        if self.num_kv_heads != self.num_heads:
            repeats = self.num_heads // self.num_kv_heads
            k_BGSK, v_BGSK = k_BGSK.repeat_interleave(repeats, 1), v_BGSK.repeat_interleave(repeats, 1)
        out_BHTK = dot_product_attention(
            q_BTHK.transpose(1, 2),
            k_BGSK,
            v_BGSK,
            scale=self.scale,
            causal=context.causal,
            bias=context.bias,
            backend=self.backend,
        )
        return self.output(out_BHTK.transpose(1, 2).flatten(2))

    def _keys_and_values(self, x_BSD: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        k_BSGK = self.key(x_BSD).view(*x_BSD.shape[:2], self.num_kv_heads, self.head_dim)
        if self.key_norm is not None:
            k_BSGK = self.key_norm(k_BSGK)
        if rotation is not None:
            k_BSGK = apply_rotary(k_BSGK, rotation)
        v_BSGK = self.value(x_BSD).view(*x_BSD.shape[:2], self.num_kv_heads, self.head_dim)
        return k_BSGK.transpose(1, 2), v_BSGK.transpose(1, 2)


def set_attention_backend(module: nn.Module, backend: AttentionBackend) -> None:
    """Force one implementation on all attention layers of a module.

    Parameters
    ----------
    module : nn.Module
        A model, or what holds models.
    backend : str
        The implementation.
    """
    for part in module.modules():
        if isinstance(part, Attention):
            part.backend = backend


def attention_scale(config: TransformerConfig) -> float:
    """Return the factor on Q K^T: 1/sqrt(d_k), or under muP sqrt(d_base)/d_k (Yang et al. 2022, definition 4.1)."""
    if config.attention_scale is not None:
        return config.attention_scale
    if config.parametrization == "mup" and config.base_head_dim is not None:
        return config.base_head_dim**0.5 / config.key_dim
    return config.key_dim**-0.5
