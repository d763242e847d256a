"""Every position encoding by its own law."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from models.config.transformer import POSITIONS, TransformerConfig
from models.errors import UserError
from models.modules.positions import alibi_slopes, apply_rotary, relative_bucket, rotary_table, sinusoidal_table
from models.modules.transformer import Transformer


def make(**changes: Any) -> Transformer:
    fields = {"vocab_size": 29, "width": 32, "depth": 2, "num_heads": 4, "context": 12}
    return Transformer(TransformerConfig(**{**fields, **changes}), seed=1).eval()


def test_rotary_scores_depend_on_distance_alone_and_keep_length() -> None:
    table = rotary_table(40, 8)
    q_K, k_K = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    q_TK, k_TK = (apply_rotary(x.expand(1, 40, 1, 8), table[:, None])[0, :, 0] for x in (q_K, k_K))
    scores_TT = q_TK @ k_TK.T
    for distance in (0, 1, 7, 20):
        diagonal = scores_TT.diagonal(distance)
        assert (diagonal - diagonal[0]).abs().max() < 1e-4
    assert torch.allclose(q_TK.norm(dim=1), q_K.norm().expand(40), atol=1e-5)


def test_sinusoids_of_a_distance_are_one_linear_map() -> None:
    table_TD = sinusoidal_table(50, 16).double()
    products_TT = table_TD @ table_TD.T
    for distance in (1, 5, 30):
        diagonal = products_TT.diagonal(distance)
        assert (diagonal - diagonal[0]).abs().max() < 1e-4
    assert table_TD[7, 0].item() == pytest.approx(math.sin(7), abs=1e-6)
    assert table_TD[7, 1].item() == pytest.approx(math.cos(7), abs=1e-6)


def test_alibi_slopes_are_those_of_the_paper() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(12)[8:].tolist() == pytest.approx([2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5])


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_buckets_are_exact_near_and_monotone_and_capped_far(bidirectional: bool) -> None:
    distance = torch.arange(0, -400, -1)
    bucket = relative_bucket(distance, num_buckets=32, max_distance=128, bidirectional=bidirectional)
    exact = 8 if bidirectional else 16
    assert bucket[:exact].tolist() == list(range(exact))
    assert (bucket.diff() >= 0).all()
    assert (bucket[128:] == (15 if bidirectional else 31)).all()
    ahead = relative_bucket(-distance[1:], num_buckets=32, max_distance=128, bidirectional=bidirectional)
    assert torch.equal(ahead, bucket[1:] + 16) if bidirectional else bool((ahead == 0).all())


@pytest.mark.parametrize("positions", ["rotary", "alibi", "t5", "none"])
@pytest.mark.parametrize("family", ["decoder", "encoder"])
@torch.no_grad()
def test_relative_positions_do_not_see_a_shift(positions: str, family: str) -> None:
    """Padding in front moves the real tokens to later positions and must change nothing."""
    model = make(positions=positions, family=family)
    tokens_BT = torch.randint(0, 29, (2, 9), generator=torch.Generator().manual_seed(0))
    shifted_BT = torch.nn.functional.pad(tokens_BT, (5, 0))
    mask_BT = torch.ones(2, 14, dtype=torch.bool)
    mask_BT[:, :5] = False
    assert (model(shifted_BT, mask_BT=mask_BT)[:, 5:] - model(tokens_BT)).abs().max() < 2e-5


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@torch.no_grad()
def test_absolute_positions_see_a_shift_unless_places_undo_it(positions: str) -> None:
    model = make(positions=positions)
    tokens_BT = torch.randint(0, 29, (2, 7), generator=torch.Generator().manual_seed(0))
    shifted_BT = torch.nn.functional.pad(tokens_BT, (5, 0))
    mask_BT = torch.ones(2, 12, dtype=torch.bool)
    mask_BT[:, :5] = False
    assert (model(shifted_BT, mask_BT=mask_BT)[:, 5:] - model(tokens_BT)).abs().max() > 1e-2
    position_ids_BT = (torch.arange(12) - 5).clamp(min=0).expand(2, -1)
    assert (
        model(shifted_BT, mask_BT=mask_BT, position_ids_BT=position_ids_BT)[:, 5:] - model(tokens_BT)
    ).abs().max() < 2e-5


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name != "learned"])
@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
@torch.no_grad()
def test_sequences_past_the_training_length_are_read(positions: str, family: str) -> None:
    model = make(positions=positions, family=family)
    long_BT = torch.randint(0, 29, (1, 40), generator=torch.Generator().manual_seed(0))
    source = {"source_BS": long_BT} if family == "encoder-decoder" else {}
    logits_BTV = model(long_BT, **source)
    assert logits_BTV.isfinite().all()
    if family == "decoder":
        assert (logits_BTV[:, :12] - model(long_BT[:, :12])).abs().max() < 2e-5


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_learned_positions_end_with_a_clear_error(family: str) -> None:
    with pytest.raises(UserError, match="13 tokens is longer than the 12 learned positions"):
        make(positions="learned", family=family)(torch.zeros(1, 13, dtype=torch.long))


@torch.no_grad()
def test_without_positions_an_encoder_permutes_with_its_input() -> None:
    tokens_BT = torch.randint(0, 29, (1, 9), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    for positions, permutes in (("none", True), ("rotary", False), ("alibi", False), ("t5", False), ("learned", False)):
        model = make(positions=positions, family="encoder")
        difference = (model(tokens_BT[:, order]) - model(tokens_BT)[:, order]).abs().max().item()
        assert (difference < 2e-5) == permutes, positions
