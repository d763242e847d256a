"""Labelled heads learn, and every way to fine-tune starts at the model, trains what it says and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.config.finetuning import LORA_TARGETS, MethodConfig, Scaling, method_params, tuning_flops
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.modules.finetuning import merge_lora, prepare, trainable_params
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


FAMILIES = ["encoder", "decoder", "encoder-decoder"]
SIZES = {"adapters": 4, "prompt": 5, "lora": 2}


def method_of(name: str, **changes: Any) -> MethodConfig:
    return MethodConfig(**{"name": name, "size": SIZES.get(name), **changes})


def prepared(model: Transformer, method: MethodConfig) -> Transformer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft's imports say about themselves
        if method.name == "lora":
            pytest.importorskip("peft", reason="LoRA needs the extra `peft`")
        return prepare(model, method)


def frozen_names(model: nn.Module) -> dict[str, Tensor]:
    names = (".stack", ".layer", ".base_layer")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for word in names:
        state = {name.replace(word, ""): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["full", "head", "adapters", "prompt", "bitfit", "lora"])
def test_a_method_trains_its_parameters_and_no_others(family: str, name: str) -> None:
    model, x_BT = make(family, bias=True, norm="layernorm", pooler=family == "encoder"), tokens()
    before, expected = frozen_names(model), call(model, x_BT)
    method = method_of(name)
    prepared(model, method)
    if name != "prompt":
        assert torch.allclose(call(model, x_BT), expected, atol=1e-5)
    assert trainable_params(model) == sum(method_params(model.config, method).values())
    learns = {key for key, p in model.named_parameters() if p.requires_grad}
    head = TokenClassifier(model, 4)
    first, last = train(head, lambda: head.loss(x_BT, x_BT % 4))
    assert last < 0.8 * first
    after = frozen_names(model)
    moved = {key for key, tensor in before.items() if not torch.equal(tensor, after[key])}
    assert moved <= learns
    assert bool(moved) == (name in ("full", "bitfit"))


@pytest.mark.parametrize("name", ["lora", "adapters", "prompt"])
def test_a_size_of_nothing_is_the_frozen_model(name: str) -> None:
    model, x_BT = make(), tokens()
    expected = model(x_BT)
    prepared(model, MethodConfig(name=name, size=0))  # type: ignore[arg-type]  # one of its names
    assert torch.equal(model(x_BT), expected)
    assert trainable_params(model) == 0
    assert method_params(model.config, MethodConfig(name=name, size=0)) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("target", LORA_TARGETS)
def test_an_update_that_is_not_zero_changes_the_output_in_evaluation_mode(target: str) -> None:
    model, x_BT = make("decoder", activation="swiglu").eval(), tokens()
    expected = model(x_BT)
    prepared(model, method_of("lora", targets=(target,)))
    updates = [p for key, p in model.named_parameters() if "lora_B" in key]
    assert len(updates) == 2
    for update in updates:
        nn.init.constant_(update, 0.1)
    assert not torch.allclose(model(x_BT), expected, atol=1e-4)


@pytest.mark.parametrize(("scaling", "factor"), [("alpha/rank", 16 / 4), ("rslora", 16 / 2)])
def test_the_update_is_scaled_as_its_rule_says(scaling: Scaling, factor: float) -> None:
    model = make("decoder", depth=1, tie_embeddings=False)
    method = method_of("lora", size=4, alpha=16.0, scaling=scaling, targets=("down",))
    before = model.get_parameter("decoder.blocks.0.ffn.down.weight").clone()
    prepared(model, method)
    below, above = (model.get_parameter(f"decoder.blocks.0.ffn.down.lora_{name}.default.weight") for name in "AB")
    nn.init.normal_(above)
    product = above @ below
    assert method.update_scale == factor
    merge_lora(model)
    merged = model.get_parameter("decoder.blocks.0.ffn.down.weight")
    assert torch.allclose(merged - before, factor * product, atol=1e-5)


@pytest.mark.parametrize("family", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["full", "head", "adapters", "prompt", "bitfit", "lora"])
def test_flops_are_those_that_torch_counts(name: str, family: str) -> None:
    length, batch = 16, 3
    model = make(family, width=64, depth=3, bias=True, norm="layernorm", positions="learned")
    head = SequenceClassifier(prepared(model, method_of(name)), 4, pooling="mean")
    x_BT = tokens(batch, length)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        head.loss(x_BT, x_BT.sum(1) % 4).backward()
    counted = tuning_flops(model.config, method_of(name), length=length, head_outputs=4) * batch
    assert counter.get_total_flops() == pytest.approx(counted, rel=1e-3)  # the head under a frozen body costs 2, not 3


def test_lora_starts_at_the_model_changes_it_in_evaluation_mode_and_merges_exactly() -> None:
    model, x_BT = make("decoder").eval(), tokens()
    expected, names = model(x_BT), set(model.state_dict())
    state = torch.get_rng_state()
    prepared(model, method_of("lora"))
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
        MethodConfig(name="lorra")  # type: ignore[arg-type]  # what a user may write


def test_a_model_without_biases_is_refused_by_bitfit() -> None:
    with pytest.raises(UserError, match="this model has none"):
        prepare(make(), MethodConfig(name="bitfit"))
