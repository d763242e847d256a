"""Attention: the formula, what may be seen, groups of heads, backends, and the shapes that names promise."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from jaxtyping import Shaped, TypeCheckError, jaxtyped
from torch import Tensor, nn

from models.config.transformer import (
    ATTENTION_BACKENDS,
    FAMILIES,
    PLACEMENTS,
    POSITIONS,
    AttentionBackend,
    TransformerConfig,
)
from models.kernels import attention as blockwise
from models.modules.attention import Attention, attention_backend, dot_product_attention
from models.modules.transformer import Transformer
from tests.known import known

V = 37


def make(**changes: Any) -> Transformer:
    fields = {"vocab_size": V, "width": 32, "depth": 2, "num_heads": 4, "context": 12}
    return Transformer(TransformerConfig(**{**fields, **changes}), seed=1).eval()


def tokens(batch: int = 2, length: int = 10, seed: int = 0) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backend", ATTENTION_BACKENDS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_attention_is_softmax_of_scaled_products_times_values(
    backend: AttentionBackend, causal: bool, biased: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 7, 8, generator=generator)
    bias = torch.randn(1, 4, 7, 7, generator=generator) if biased else None
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) * 0.3 + (bias if bias is not None else 0)
    if causal:
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), float("-inf"))
    expected = torch.einsum("bhts,bhsk->bhtk", scores.exp() / scores.exp().sum(-1, keepdim=True), v)
    got = dot_product_attention(q, k, v, scale=0.3, causal=causal, bias=bias, backend=backend)
    assert (got - expected).abs().max() < 1e-5


def test_the_backend_follows_device_and_dtype() -> None:
    assert attention_backend("cpu", torch.float32) == "blockwise"
    assert attention_backend("cpu", torch.float64) == "sdpa"
    assert attention_backend("cpu", torch.bfloat16) == "explicit"
    assert attention_backend("cuda", torch.bfloat16) == "sdpa"


@pytest.mark.parametrize("length", [64, 200, 256])
def test_blockwise_attention_and_its_gradients_equal_the_fused_kernels(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockwise, "MIN_TOKENS", 1)
    monkeypatch.setattr(blockwise, "MIN_SCORES", 1)
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = torch.randn(4, 2, 3, length, 8, generator=generator)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    assert blockwise.should_use_blockwise(q, k, v)
    expected = dot_product_attention(q, k, v, scale=0.3, causal=True, backend="sdpa")
    got = dot_product_attention(q, k, v, scale=0.3, causal=True, backend="blockwise")
    assert "Blockwise" in str(got.grad_fn)
    assert (got - expected).abs().max() < 1e-5
    wanted = torch.autograd.grad(expected, (q, k, v), grad)
    for ours, theirs in zip(torch.autograd.grad(got, (q, k, v), grad), wanted, strict=True):
        assert (ours - theirs).abs().max() < 1e-5


def test_blockwise_attention_is_for_causal_training_of_middling_size() -> None:
    q = torch.randn(2, 4, 256, 8, requires_grad=True)
    assert blockwise.should_use_blockwise(q, q, q)
    assert not blockwise.should_use_blockwise(q.detach(), q.detach(), q.detach())
    assert not blockwise.should_use_blockwise(q[:, :, :128], q[:, :, :128], q[:, :, :128])
    huge = q[:1, :1, :1].expand(64, 64, 4096, 8)
    assert not blockwise.should_use_blockwise(huge, huge, huge)
    assert "Blockwise" in str(dot_product_attention(q, q, q, scale=1.0, causal=True).grad_fn)
    assert "Blockwise" not in str(dot_product_attention(q, q, q, scale=1.0).grad_fn)
    with torch.no_grad():
        assert not blockwise.should_use_blockwise(q, q, q)


def test_grouped_heads_equal_full_heads_with_repeated_keys_and_values() -> None:
    config = TransformerConfig(vocab_size=V, width=32, depth=1, num_heads=4, num_kv_heads=2, context=12)
    grouped, full = Transformer(config, seed=1), Transformer(config.replace(num_kv_heads=None), seed=1)
    state = grouped.state_dict()
    for name in ("key", "value"):
        weight = state[f"decoder.blocks.0.attention.{name}.weight"]
        state[f"decoder.blocks.0.attention.{name}.weight"] = (
            weight.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1)
        )
    full.load_state_dict(state)
    assert torch.allclose(grouped(tokens()), full(tokens()), atol=1e-6)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_causality_and_visibility_by_gradients(family: str, placement: str, positions: str) -> None:
    """Output 4 of a decoder sees inputs 0 to 4 and the whole source; of an encoder, everything."""
    model = make(family=family, norm_placement=placement, positions=positions)
    x_BTD = model.embed(tokens(1)).detach().requires_grad_()
    source_BSD = model.embed(tokens(1, 8, seed=1)).detach().requires_grad_()
    if family == "encoder":
        out_BTD = known(model.encoder)(x_BTD)
    elif family == "decoder":
        out_BTD = known(model.decoder)(x_BTD)
    else:
        out_BTD = known(model.decoder)(x_BTD, memory_BSD=known(model.encoder)(source_BSD))
        assert torch.autograd.grad(out_BTD[0, 4].sin().sum(), source_BSD, retain_graph=True)[0].abs().sum(-1).min() > 0
    seen_T = torch.autograd.grad(out_BTD[0, 4].sin().sum(), x_BTD)[0][0].abs().sum(-1)
    assert (seen_T[:5] > 0).all()
    assert (seen_T[5:] > 0).all() if family == "encoder" else (seen_T[5:] == 0).all()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["encoder", "encoder-decoder"])
@torch.no_grad()
def test_what_padding_holds_changes_nothing(family: str, positions: str) -> None:
    model, source_BS = make(family=family, positions=positions), tokens()
    mask_BS = torch.ones(2, 10, dtype=torch.bool)
    mask_BS[1, 6:] = False
    other_BS = torch.where(mask_BS, source_BS, (source_BS + 5) % V)

    def output(padded_BS: Tensor, mask: Tensor) -> Tensor:
        if family == "encoder":
            return model(padded_BS, mask_BT=mask)
        return model(tokens(len(padded_BS), 7, seed=2), source_BS=padded_BS, source_mask_BS=mask)

    first, second = output(source_BS, mask_BS), output(other_BS, mask_BS)
    short = output(source_BS[1:, :6], mask_BS[1:, :6])
    if family == "encoder":
        first, second, whole = first[mask_BS], second[mask_BS], first[1:, :6]
        assert (whole - short).abs().max() < 1e-5
    assert torch.equal(first, second)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_sequences_of_a_batch_do_not_see_each_other(family: str) -> None:
    model, x_BT, y_BS = make(family=family), tokens(4), tokens(4, 8, seed=1)
    order = torch.tensor([2, 0, 3, 1])
    extra = {"source_BS": y_BS} if family == "encoder-decoder" else {}
    permuted = {"source_BS": y_BS[order]} if extra else {}
    assert torch.allclose(model(x_BT, **extra)[order], model(x_BT[order], **permuted), atol=1e-6)


def test_low_rank_changes_reach_the_output_in_evaluation_mode() -> None:
    """Projections are plain modules: replacing one by weight + B A takes effect, which fused kernels would bypass."""
    model = make()
    before = model(tokens())

    class Low(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base = base

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + 0.1 * x[..., :32]

    for name in ("query", "key", "value", "output"):
        changed = make()
        attention = known(changed.decoder).blocks[0].attention
        assert isinstance(attention, Attention)
        setattr(attention, name, Low(getattr(attention, name)))
        assert (changed(tokens()) - before).abs().max() > 1e-3, name


SUFFIX = re.compile(r"_([A-Z1]+)$")


@contextmanager
def checked_shapes() -> Iterator[set[str]]:
    """Check by jaxtyping, whenever a function of models returns, that letters in names of its tensors agree."""
    seen: set[str] = set()

    def on_return(frame: FrameType, event: str, _: Any) -> None:
        if event != "return" or not frame.f_globals.get("__name__", "").startswith("models."):
            return
        with jaxtyped("context"):
            for name, value in frame.f_locals.items():
                match = SUFFIX.search(name)
                if match and isinstance(value, Tensor):
                    dims = " ".join(match.group(1))
                    where = f"{frame.f_code.co_filename}:{frame.f_code.co_name}: {name} is {tuple(value.shape)}"
                    assert isinstance(value, Shaped[Tensor, dims]), where  # type: ignore[arg-type]  # a class when run
                    seen.add(name)

    sys.setprofile(on_return)
    try:
        yield seen
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_have_the_shapes_that_their_names_promise(family: str, positions: str) -> None:
    model = make(family=family, positions=positions, qk_norm=True, num_kv_heads=2, num_segments=2)
    extra = {"source_BS": tokens(2, 8, 1)} if family == "encoder-decoder" else {}
    with checked_shapes() as seen:
        model(tokens(), **extra)
        model(tokens(), mask_BT=torch.ones(2, 10, dtype=torch.bool), **extra)
    assert {"x_BTD", "q_BTHK", "k_BSGK", "tokens_BT"} <= seen
    with checked_shapes(), pytest.raises(TypeCheckError, match="tokens_BT"):
        model.embed(tokens()[0])
