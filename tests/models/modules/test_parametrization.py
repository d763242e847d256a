"""muP and depth scalings by the coordinate check: what a few steps change keeps its size as models grow."""

from __future__ import annotations

from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from models.config.optimizer import OptimizerConfig
from models.config.transformer import TransformerConfig
from models.coordinates import PLACES, coordinate_check, growth, plot_coordinates
from models.modules.attention import attention_scale
from models.modules.parametrization import branch_scale, initialise_, output_scale
from models.modules.transformer import Block, Transformer
from models.optimizers.groups import optimizer_groups
from tests.known import known

WIDTHS = (64, 128, 256, 512, 1024)
MUP: dict[str, Any] = {"parametrization": "mup", "base_width": 64, "base_head_dim": 16}


def make(width: int = 64, depth: int = 2, **changes: Any) -> TransformerConfig:
    fields = {"vocab_size": 64, "num_heads": 4, "context": 16}
    return TransformerConfig(**{**fields, "width": width, "depth": depth, **changes})


def test_under_mup_changes_are_flat_in_width_and_under_the_standard_parametrization_they_grow() -> None:
    standard = coordinate_check([make(width) for width in WIDTHS], steps=3, seeds=1)
    mup = coordinate_check([make(width, **MUP) for width in WIDTHS], steps=3, seeds=1)
    for place in PLACES:
        assert abs(growth(mup, place=place, step=3)) < 0.2, place
    for place in ("attention", "ffn", "logits"):
        assert growth(standard, place=place, step=3) > 0.35, place


@pytest.mark.parametrize("scaling", ["depth-mup", "completep"])
def test_depth_scalings_keep_changes_flat_in_depth(scaling: str) -> None:
    configs = [make(depth=depth, depth_scaling=scaling, base_depth=2) for depth in (2, 4, 8, 16)]
    found = coordinate_check(configs, steps=3, seeds=1)
    for place in ("states", "logits"):
        assert abs(growth(found, place=place, step=3, by="depth")) < 0.05, place


def test_the_figure_shows_every_place_with_its_exponent() -> None:
    matplotlib.use("Agg")
    found = coordinate_check([make(width, **MUP) for width in (64, 128)], steps=1, seeds=1)
    axes = plot_coordinates(found, step=1, title="muP")
    labels = [text.get_text() for text in known(axes.get_legend()).get_texts()]
    assert [label.split()[0] for label in labels] == list(PLACES)
    plt.close(known(axes.get_figure(root=True)))


def test_at_its_base_width_mup_is_the_standard_parametrization() -> None:
    standard, mup = make(), make(**MUP)
    assert attention_scale(standard) == attention_scale(mup)
    assert output_scale(mup) == branch_scale(mup) == 1.0
    pairs = zip(Transformer(standard).parameters(), Transformer(mup).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    groups = [optimizer_groups(Transformer(c), c, OptimizerConfig()) for c in (standard, mup)]
    assert [(g["lr"], g["weight_decay"], g["eps"]) for g in groups[0]] == [
        (g["lr"], g["weight_decay"], g["eps"]) for g in groups[1]
    ]


def test_under_mup_matrices_learn_inversely_to_width_and_decay_as_before() -> None:
    config = make(256, **MUP)
    optimizer = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1)
    model = Transformer(config)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer_groups(model, config, optimizer):
        for parameter in group["params"]:
            name = names[id(parameter)]
            hidden = parameter.ndim == 2 and not name.startswith(("tokens", "head"))
            assert group["lr"] == pytest.approx(1e-2 / 4 if hidden else 1e-2), name
            decays = parameter.ndim == 2 and not name.startswith("tokens")
            assert group["lr"] * group["weight_decay"] == pytest.approx(1e-3 if decays else 0.0), name


def test_initial_scales_follow_fan_in_and_depth() -> None:
    model = Transformer(make(256, depth=8))
    block = known(model.decoder).blocks[3]
    assert isinstance(block, Block)
    assert block.attention.query.weight.std().item() == pytest.approx(1 / 16, rel=0.02)
    assert block.ffn.up.weight.std().item() == pytest.approx(1 / 16, rel=0.02)
    assert block.ffn.down.weight.std().item() == pytest.approx(1 / 32 / 4, rel=0.02)
    assert block.attention.output.weight.std().item() == pytest.approx(1 / 16 / 4, rel=0.02)
    assert (block.ffn_norm.weight == 1).all()


def test_writing_weights_again_gives_the_same_weights() -> None:
    config = make(bias=True, norm="layernorm")
    model = Transformer(config, seed=3)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    initialise_(model, config, seed=3)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
