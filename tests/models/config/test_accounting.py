"""Counts equal the modules whatever the config, and the published numbers where there are any."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from models.config.accounting import (
    count_params,
    forward_flops,
    forward_flops_per_token,
    memory_bytes,
    params_non_embedding,
    params_total,
    training_flops,
)
from models.config.objective import ObjectiveConfig, ObjectiveName
from models.config.presets import (
    CHINCHILLA_SHAPES,
    chinchilla,
    preset,
    preset_names,
    relative_projection_params,
    scaled_to,
)
from models.config.transformer import ACTIVATIONS, FAMILIES, HEADS, NORMS, PLACEMENTS, POSITIONS, TransformerConfig
from models.errors import UserError
from models.modules.transformer import Transformer
from models.objectives import make_examples

PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "bart-base": 139_420_416,
    "llama-7b": 6_738_415_616,
}
"""Counts of the reference implementations."""

ROUNDED = {
    "transformer-base": 65e6,
    "transformer-big": 213e6,
    "gpt3-175b": 175e9,
    "mpt-7b": 6.7e9,
    "chinchilla-70b": 70e9,
}
"""Counts as the papers round them (Vaswani et al. 2017, table 3; Brown et al. 2020, table 2.1)."""


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    family, head = draw(st.sampled_from(FAMILIES)), draw(st.sampled_from(HEADS))
    heads = draw(st.sampled_from([1, 2, 4]))
    return TransformerConfig(
        family=family,
        vocab_size=draw(st.integers(3, 50)),
        width=4 * heads * draw(st.integers(1, 3)),
        depth=draw(st.integers(1, 3)),
        encoder_depth=draw(st.sampled_from([None, 1, 2])) if family == "encoder-decoder" else None,
        num_heads=heads,
        num_kv_heads=draw(st.sampled_from([None, 1, heads])),
        head_dim=draw(st.sampled_from([None, 6])),
        ffn_width=draw(st.sampled_from([None, 20])),
        context=draw(st.integers(2, 12)),
        positions=draw(st.sampled_from(POSITIONS)),
        position_offset=draw(st.sampled_from([0, 2])),
        norm=draw(st.sampled_from(NORMS)),
        norm_placement=draw(st.sampled_from(PLACEMENTS)),
        final_norm=draw(st.sampled_from([None, True, False])),
        embedding_norm=draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        bias=draw(st.booleans()),
        tie_embeddings=head != "none" and draw(st.booleans()),
        head=head,
        head_bias=head != "none" and draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        num_segments=draw(st.sampled_from([0, 2])),
        pooler=family != "decoder" and draw(st.booleans()),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(), st.integers(1, 12), st.integers(1, 12))
def test_params_and_flops_equal_the_module_whatever_the_config(
    config: TransformerConfig, target: int, source: int
) -> None:
    target, source = min(target, config.context), min(source, config.context)
    both = config.family == "encoder-decoder"
    with torch.device("meta"):
        model = Transformer(config)
        tokens_BT, source_BS = torch.zeros(1, target, dtype=torch.long), torch.zeros(1, source, dtype=torch.long)
    assert model.parameter_groups() == count_params(config)
    assert sum(p.numel() for p in model.parameters()) == params_total(config)
    with FlopCounterMode(display=False) as counter:
        model(tokens_BT, source_BS=source_BS if both else None)
    assert counter.get_total_flops() == sum(
        forward_flops(config, target_tokens=target, source_tokens=source if both else None).values()
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_their_published_counts(name: str) -> None:
    assert params_total(preset(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_presets_come_near_the_rounded_counts_of_papers(name: str) -> None:
    config = preset(name)
    extra = relative_projection_params(config) if name.startswith("chinchilla") else 0
    assert params_total(config) + extra == pytest.approx(ROUNDED[name], rel=0.035)


def test_chinchillas_fifty_shapes_have_their_published_counts_within_one_percent(published_data: Path) -> None:
    with (published_data / "chinchilla_tables" / "tableA9_models.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(CHINCHILLA_SHAPES) == 50
    for row in rows:
        config = shape_of(row["d_model"], row["n_layers"], row["n_heads"], row["kv_size"], row["ffw_size"])
        assert config == preset(f"chinchilla-{round(float(row['params']) / 1e6)}m")
        counted = params_total(config) + relative_projection_params(config)
        assert counted == pytest.approx(float(row["params"]), rel=0.01)


@pytest.mark.parametrize("name", preset_names(with_tables=True))
def test_every_preset_is_made_on_meta_with_its_counts_by_group(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = Transformer(config)
    assert model.parameter_groups() == count_params(config)


def test_chinchillas_shapes_have_their_published_counts_within_one_percent() -> None:
    for millions, *_ in CHINCHILLA_SHAPES:
        config = preset(f"chinchilla-{millions}m")
        assert params_total(config) + relative_projection_params(config) == pytest.approx(millions * 1e6, rel=0.01)


def shape_of(width: str, depth: str, heads: str, size: str, hidden: str) -> TransformerConfig:
    shape: dict[str, Any] = {"width": int(width), "depth": int(depth), "num_heads": int(heads)}
    return chinchilla(**shape, head_dim=int(size), ffn_width=int(hidden))


def test_flops_over_six_nd_are_those_of_chinchillas_table_a4(published_data: Path) -> None:
    """Numerator: the layers' products and softmax (3 H T^2); denominator: 6 x published total N; T = 2,048."""
    with (published_data / "chinchilla_tables" / "tableA4_flops_ratio.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 6
    length = 2048
    for row in rows:
        config = shape_of(row["d_model"], row["layers"], row["heads"], row["k_q_size"], row["ffw"])
        parts = forward_flops(config, target_tokens=length)
        softmax = 3.0 * config.depth * config.num_heads * length**2
        layers = sum(parts.values()) - parts["head"] + softmax
        params = params_total(config) + relative_projection_params(config)
        ratio = 3 * layers / (6 * params * length)
        assert ratio == pytest.approx(float(row["ratio_exact_over_6ND_paper_recalled"]), abs=0.0055)


def test_training_is_three_forwards_and_scales_with_tokens() -> None:
    config = preset("gpt2")
    forward = sum(forward_flops(config, target_tokens=1024).values())
    assert training_flops(config, tokens=1024 * 5) == pytest.approx(15 * forward)
    assert sum(forward_flops_per_token(config).values()) * 1024 == pytest.approx(forward)
    causal = training_flops(config, tokens=1e6, objective=ObjectiveConfig())
    assert causal == training_flops(config, tokens=1e6)


@pytest.mark.parametrize("objective", ["span", "infilling"])
def test_flops_of_an_objective_are_those_of_what_it_makes_of_a_sequence(objective: ObjectiveName) -> None:
    config = preset("t5-small").replace(width=64, num_heads=2, head_dim=32, vocab_size=400, context=64)
    settings_ = ObjectiveConfig(name=objective)
    examples = make_examples(torch.randint(0, 256, (1, 65)), settings_)
    assert examples.source_BS is not None
    with torch.device("meta"):
        model = Transformer(config)
    with FlopCounterMode(display=False) as counter:
        model(examples.inputs_BT.to("meta"), source_BS=examples.source_BS.to("meta")).sum().backward()
    assert counter.get_total_flops() == pytest.approx(training_flops(config, tokens=64, objective=settings_))


def test_memory_of_training_holds_weights_gradients_and_two_moments() -> None:
    config = preset("gpt2")
    memory = memory_bytes(config, batch_tokens=1024)
    assert memory["weights"] == memory["gradients"] == 4 * 124_439_808
    assert memory["optimizer"] == 8 * 124_439_808
    less = memory_bytes(config, batch_tokens=1024, recompute=True)
    assert {name for name, held in less.items() if held != memory[name]} == {"activations"}
    assert less["activations"] < memory["activations"] / 5
    cache = memory_bytes(config, batch_tokens=1024, precision="bf16-true", mode="inference")["cache"]
    assert cache == 2 * 12 * 768 * 1024 * 2
    with pytest.raises(UserError, match="precision"):
        memory_bytes(config, batch_tokens=1, precision="fp8")


@pytest.mark.parametrize("name", ["gpt2-xl", "bert-base", "t5-small", "llama-7b", "transformer-base"])
@pytest.mark.parametrize("params", [3e6, 4e8, 1.8e12])
def test_a_family_scales_to_a_size(name: str, params: float) -> None:
    config = scaled_to(preset(name), params)
    body = params_non_embedding(config)
    assert params_total(config) == pytest.approx(params, rel=0.03 if params > 1e8 else 0.2)
    assert config.family == preset(name).family
    assert body > 0
