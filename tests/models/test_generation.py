"""Generation: cached equals uncached, batched equals alone, and each method does what its name says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.generation import Decoder, GenerationConfig, Method, filter_logits, generate
from models.modules.transformer import Transformer

V = 23
SHAPES: dict[str, dict[str, Any]] = {
    "rotary": {},
    "grouped": {"num_kv_heads": 1, "qk_norm": True},
    "learned": {"positions": "learned", "norm": "layernorm", "bias": True},
    "alibi": {"positions": "alibi"},
    "t5": {"positions": "t5"},
    "sinusoidal": {"positions": "sinusoidal", "norm_placement": "post"},
    "none": {"positions": "none"},
    "encoder-decoder": {"family": "encoder-decoder", "positions": "t5"},
    "encoder-decoder-rotary": {"family": "encoder-decoder"},
}


def make(**changes: Any) -> Transformer:
    fields = {"vocab_size": V, "width": 16, "depth": 2, "num_heads": 2, "context": 24}
    return Transformer(TransformerConfig(**{**fields, **changes}), seed=2).eval()


def prompts() -> Tensor:
    return torch.randint(0, V, (3, 5), generator=torch.Generator().manual_seed(4))


def source_of(model: Transformer) -> dict[str, Tensor]:
    if model.config.family != "encoder-decoder":
        return {}
    mask_BS = torch.ones(3, 6, dtype=torch.bool)
    mask_BS[1, 4:] = False
    return {
        "source_BS": torch.randint(0, V, (3, 6), generator=torch.Generator().manual_seed(5)),
        "source_mask_BS": mask_BS,
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_cached_generation_equals_uncached_token_for_token(shape: str, method: Method) -> None:
    model = make(**SHAPES[shape])
    results = [
        generate(
            model,
            prompts(),
            GenerationConfig(method=method, max_new_tokens=12, cached=cached, num_beams=3, end_id=3),
            **source_of(model),
        )
        for cached in (True, False)
    ]
    assert torch.equal(results[0].tokens_BT, results[1].tokens_BT)
    assert torch.equal(results[0].lengths_B, results[1].lengths_B)
    assert (results[0].log_probs_B - results[1].log_probs_B).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_cached_logits_equal_uncached_to_1e_5(shape: str) -> None:
    model = make(**SHAPES[shape])
    extra = source_of(model)
    memory_BSD = model.encode(**extra) if extra else None
    readers = [
        Decoder(model, prompts(), None, memory_BSD, extra.get("source_mask_BS"), cached=cached)
        for cached in (True, False)
    ]
    for token in range(10):
        cached_BV, uncached_BV = (decoder.next_logits() for decoder in readers)
        assert (cached_BV - uncached_BV).abs().max() <= 1e-5
        for decoder in readers:
            decoder.append(torch.full((3,), token))


@pytest.mark.parametrize("shape", [name for name in SHAPES if not name.startswith("encoder")])
def test_a_padded_prompt_continues_as_it_does_alone(shape: str) -> None:
    model, config = make(**SHAPES[shape]), GenerationConfig(max_new_tokens=8)
    long, short = prompts()[:1], prompts()[1:2, :3]
    padded_BT = torch.cat((long, torch.nn.functional.pad(short, (2, 0))))
    mask_BT = torch.ones(2, 5, dtype=torch.bool)
    mask_BT[1, :2] = False
    together = generate(model, padded_BT, config, prompt_mask_BT=mask_BT)
    assert torch.equal(together.tokens_BT[:1], generate(model, long, config).tokens_BT)
    assert torch.equal(together.tokens_BT[1:], generate(model, short, config).tokens_BT)


def test_a_wide_enough_beam_finds_the_likeliest_sequence() -> None:
    model = make(vocab_size=5)
    prompt_BT = torch.tensor([[1, 2]])
    found = generate(model, prompt_BT, GenerationConfig(method="beam", num_beams=125, max_new_tokens=3))
    rows = torch.tensor(list(itertools.product(range(5), repeat=3)))
    with torch.no_grad():
        logits_BTV = model(torch.cat((prompt_BT.expand(125, -1), rows), dim=1))
    log_probs_B = logits_BTV[:, 1:4].log_softmax(-1).gather(2, rows[..., None]).sum((1, 2))
    assert found.tokens_BT[0].tolist() == rows[log_probs_B.argmax()].tolist()
    assert found.log_probs_B[0].item() == pytest.approx(log_probs_B.max().item(), abs=1e-4)


def test_one_beam_is_greedy() -> None:
    model = make()
    beam = generate(model, prompts(), GenerationConfig(method="beam", num_beams=1, max_new_tokens=9))
    assert torch.equal(beam.tokens_BT, generate(model, prompts(), GenerationConfig(max_new_tokens=9)).tokens_BT)


def test_a_sequence_ends_at_its_end_token() -> None:
    model = make()
    free = generate(model, prompts(), GenerationConfig(max_new_tokens=9))
    end_id = int(free.tokens_BT[0, 4])
    ended = generate(model, prompts(), GenerationConfig(max_new_tokens=9, end_id=end_id))
    length = int(ended.lengths_B[0])
    assert ended.tokens_BT[0, length - 1] == end_id
    assert (ended.tokens_BT[0, length:] == end_id).all()
    assert torch.equal(ended.tokens_BT[0, :length], free.tokens_BT[0, :length])


def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass() -> None:
    logits_BV = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()[:, [2, 0, 3, 1]]

    def kept(top_k: int | None = None, top_p: float | None = None) -> list[bool]:
        return filter_logits(logits_BV, top_k=top_k, top_p=top_p).isfinite()[0].tolist()

    assert kept(top_p=0.7) == [False, True, False, True]
    assert kept(top_p=0.8) == [True, True, False, True]
    assert kept(top_p=0.01) == [False, True, False, False]
    assert kept(top_k=1) == [False, True, False, False]
    assert kept(top_k=3, top_p=0.9) == [True, True, False, True]
    assert kept() == [True] * 4


def test_samples_follow_the_temperature_and_the_seed_alone() -> None:
    model, prompt_BT = make(), prompts()[:1].expand(4000, -1)
    config = GenerationConfig(method="sample", max_new_tokens=1, temperature=0.7, top_k=6)
    state = torch.get_rng_state()
    drawn = generate(model, prompt_BT, config).tokens_BT
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(drawn, generate(model, prompt_BT, config).tokens_BT)
    with torch.no_grad():
        logits_1V = model(prompt_BT[:1])[:, -1] / 0.7
    expected_V = filter_logits(logits_1V, top_k=6).softmax(-1)[0]
    share_V = torch.bincount(drawn[:, 0], minlength=V) / 4000
    assert (share_V - expected_V).abs().max() < 0.03


def test_what_cannot_be_generated_says_why() -> None:
    with pytest.raises(UserError, match="at most 20 new tokens"):
        generate(make(positions="learned"), prompts(), GenerationConfig(max_new_tokens=30))
    with pytest.raises(UserError, match="cannot continue text"):
        generate(make(family="encoder"), prompts())
    with pytest.raises(UserError, match="needs source_BS"):
        generate(make(family="encoder-decoder"), prompts())
    with pytest.raises(UserError, match="temperature"):
        GenerationConfig(temperature=0.0)
