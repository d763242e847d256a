"""Labelled heads learn, and every way to fine-tune starts at the model, trains what it says and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.modules.finetuning import FinetuneConfig, merge_lora, prepare, trainable_params
from models.modules.heads import ExtractiveQAHead, SequenceClassifier, TokenClassifier
from models.modules.transformer import Transformer


def make(family: str = "encoder", **changes: Any) -> Transformer:
    fields = {"vocab_size": 31, "width": 32, "depth": 2, "num_heads": 4, "context": 24}
    return Transformer(TransformerConfig(**{**fields, "family": family, **changes}), seed=1)


def tokens(batch: int = 16, length: int = 10) -> Tensor:
    return torch.randint(2, 31, (batch, length), generator=torch.Generator().manual_seed(0))


def train(module: nn.Module, loss: Callable[[], Tensor], steps: int = 40, rate: float = 1e-2) -> tuple[float, float]:
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=rate)
    first = loss().item()
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return first, loss().item()


def call(model: Transformer, x_BT: Tensor) -> Tensor:
    return model(x_BT, source_BS=x_BT) if model.config.family == "encoder-decoder" else model(x_BT)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_sequences_are_classified_and_padding_changes_nothing(family: str) -> None:
    head = SequenceClassifier(make(family, pooler=family == "encoder"), 3)
    x_BT = tokens()
    labels_B = x_BT.sum(1) % 3
    first, last = train(head, lambda: head.loss(x_BT, labels_B))
    assert last < 0.3 * first
    padded_BT, mask_BT = nn.functional.pad(x_BT, (0, 4)), nn.functional.pad(torch.ones_like(x_BT), (0, 4)).bool()
    assert torch.allclose(head(padded_BT, mask_BT), head(x_BT), atol=1e-4)


def test_the_mean_of_real_states_is_the_mean() -> None:
    head = SequenceClassifier(make(), 3, pooling="mean")
    x_BT = tokens()
    mask_BT = torch.ones_like(x_BT, dtype=torch.bool)
    mask_BT[:, 7:] = False
    assert torch.allclose(head(x_BT, mask_BT), head(x_BT[:, :7]), atol=1e-5)
    with pytest.raises(UserError, match="sees nothing but itself"):
        SequenceClassifier(make("decoder"), 3, pooling="first")


def test_tokens_are_classified() -> None:
    head, x_BT = TokenClassifier(make(), 4), tokens()
    first, last = train(head, lambda: head.loss(x_BT, x_BT % 4, x_BT > 3))
    assert last < 0.1 * first


def test_answers_are_found_as_spans() -> None:
    head, x_BT = ExtractiveQAHead(make()), tokens()
    x_BT[:, 5] = 1
    first_B = torch.full((16,), 5)
    _, last = train(head, lambda: head.loss(x_BT, first_B, first_B + 2))
    assert last < 0.1
    assert head.best_span(x_BT).tolist() == [[5, 7]] * 16
    assert (head.best_span(x_BT, max_length=2).diff(dim=1) <= 1).all()


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
@pytest.mark.parametrize("method", ["full", "head", "adapters", "prompt"])
def test_a_method_trains_its_parameters_and_no_others(family: str, method: str) -> None:
    model, x_BT = make(family), tokens()
    before, expected = dict(model.state_dict()), call(model, x_BT)
    before = {name: tensor.clone() for name, tensor in before.items()}
    prepare(model, FinetuneConfig(method=method, bottleneck=4, num_prompt=5))
    if method != "prompt":
        assert torch.allclose(call(model, x_BT), expected, atol=1e-5)
    blocks, cross = 2 * (2 if family == "encoder-decoder" else 1), 2 * (family == "encoder-decoder")
    adapter = 32 * 4 + 4 + 4 * 32 + 32
    num = {"full": sum(t.numel() for t in model.parameters()), "head": 0, "prompt": 5 * 32}
    assert trainable_params(model) == num.get(method, (2 * blocks + cross) * adapter)
    head = TokenClassifier(model, 4)
    first, last = train(head, lambda: head.loss(x_BT, x_BT % 4))
    assert last < 0.8 * first
    if method != "full":
        after = {name.replace(".stack", "").replace(".layer", ""): t for name, t in model.state_dict().items()}
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_lora_starts_at_the_model_changes_it_in_evaluation_mode_and_merges_exactly() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft's imports say about themselves
        pytest.importorskip("peft", reason="LoRA needs the extra `peft`")
        model, x_BT = make("decoder").eval(), tokens()
        expected, names = model(x_BT), set(model.state_dict())
        state = torch.get_rng_state()
        prepare(model, FinetuneConfig(method="lora", rank=2))
        assert torch.equal(state, torch.get_rng_state())
        assert torch.allclose(model(x_BT), expected, atol=1e-6)
        assert trainable_params(model) == 2 * 2 * (4 * (32 + 32) + 2 * (32 + 128))
        head = TokenClassifier(model, 4)
        first, last = train(head, lambda: head.loss(x_BT, x_BT % 4))
        assert last < 0.6 * first
        tuned = model.eval()(x_BT)
        assert (tuned - expected).abs().max() > 0.1
        merge_lora(model)
    assert set(model.state_dict()) == names
    assert torch.allclose(model(x_BT), tuned, atol=1e-4)


def test_a_method_that_is_not_known_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'lora'"):
        FinetuneConfig(method="lorra")
