"""The original post-norm encoder-decoder against torch.nn.Transformer, with its weights copied."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.config.transformer import Activation, Placement, TransformerConfig
from models.modules.attention import Attention
from models.modules.positions import sinusoidal_table
from models.modules.transformer import Block, Transformer
from tests.known import known

D, H, F = 32, 4, 48


def copy_attention(theirs: nn.MultiheadAttention, ours: Attention) -> None:
    for name, weight, bias in zip(
        ("query", "key", "value"), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True
    ):
        getattr(ours, name).weight.copy_(weight)
        getattr(ours, name).bias.copy_(bias)
    ours.output.load_state_dict(theirs.out_proj.state_dict())


def copy_layer(theirs: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer, ours: Block) -> None:
    copy_attention(theirs.self_attn, ours.attention)
    ours.attention_norm.load_state_dict(theirs.norm1.state_dict())
    last = theirs.norm2
    if isinstance(theirs, nn.TransformerDecoderLayer):
        copy_attention(theirs.multihead_attn, known(ours.cross_attention))
        known(ours.cross_norm).load_state_dict(theirs.norm2.state_dict())
        last = theirs.norm3
    ours.ffn_norm.load_state_dict(last.state_dict())
    ours.ffn.up.load_state_dict(theirs.linear1.state_dict())
    ours.ffn.down.load_state_dict(theirs.linear2.state_dict())


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@torch.no_grad()
def test_states_agree_with_torchs_transformer(placement: Placement, activation: Activation) -> None:
    theirs = nn.Transformer(D, H, 2, 2, F, 0.0, activation=activation, batch_first=True, norm_first=placement == "pre")
    theirs.encoder.use_nested_tensor = False
    theirs.eval()
    for parameter in theirs.parameters():
        parameter.normal_(0.3, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    config = TransformerConfig(
        family="encoder-decoder",
        vocab_size=50,
        width=D,
        depth=2,
        num_heads=H,
        ffn_width=F,
        context=16,
        positions="sinusoidal",
        norm="layernorm",
        norm_placement=placement,
        final_norm=True,  # torch's stacks end in a norm whatever the placement
        activation=activation,
        bias=True,
        head="none",
    )
    ours = Transformer(config).eval()
    for stack, other in ((known(ours.encoder), theirs.encoder), (known(ours.decoder), theirs.decoder)):
        for block, layer in zip(stack.blocks, other.layers, strict=True):
            assert isinstance(block, Block)
            copy_layer(layer, block)
        known(stack.final_norm).load_state_dict(other.norm.state_dict())
    x_BT, y_BS = torch.randint(0, 50, (2, 9)), torch.randint(0, 50, (2, 7))
    mask_BS = torch.ones(2, 7, dtype=torch.bool)
    mask_BS[0, 5:] = False

    def embedded(tokens: Tensor) -> Tensor:
        return ours.embed(tokens) + sinusoidal_table(16, D)[: tokens.shape[1]]

    future = nn.Transformer.generate_square_subsequent_mask(9)
    padding = torch.zeros(2, 7).masked_fill(~mask_BS, float("-inf"))
    expected_BTD = theirs(
        embedded(y_BS),
        embedded(x_BT),
        tgt_mask=future,
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
        tgt_is_causal=True,
    )
    got_BTD = ours(x_BT, source_BS=y_BS, source_mask_BS=mask_BS)
    assert (expected_BTD - got_BTD).abs().max() <= 1e-5
