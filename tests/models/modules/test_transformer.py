"""The decoder's laws: what it counts, what it may see, and that its weights are a pure function of (config, seed)."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.config.accounting import count_params, forward_flops, params_fit, params_non_embedding, params_total
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.modules.transformer import Transformer, set_recompute
from tests.known import known


def small(**changes: object) -> TransformerConfig:
    fields: dict[str, object] = {"vocab_size": 61, "width": 32, "depth": 2, "num_heads": 4, "context": 16}
    return TransformerConfig(**{**fields, **changes})  # type: ignore[arg-type]


def test_parameter_groups_add_up_to_the_module() -> None:
    config = small()
    model = Transformer(config)
    assert model.parameter_groups() == count_params(config)
    assert params_total(config) == sum(p.numel() for p in model.parameters())
    assert params_non_embedding(config) + 61 * 32 == params_fit(config)


def test_forward_flops_equal_the_flop_counter_on_meta() -> None:
    config = small()
    with torch.device("meta"):
        model, tokens_BT = Transformer(config), torch.zeros(1, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens_BT).sum().backward()
    assert counter.get_total_flops() == 3 * sum(forward_flops(config, target_tokens=16).values())


def test_no_gradient_flows_from_an_output_to_a_later_input() -> None:
    model = Transformer(small())
    x_BTD = model.embed(torch.randint(0, 61, (1, 16))).detach().requires_grad_()
    known(model.decoder)(x_BTD)[0, 7].square().sum().backward()
    seen_T = known(x_BTD.grad)[0].abs().sum(-1)
    assert (seen_T[:8] > 0).all()
    assert (seen_T[8:] == 0).all()


def test_weights_depend_on_config_and_seed_alone_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Transformer(small(), seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second, other = Transformer(small(), seed=3), Transformer(small(), seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.tokens.weight, other.tokens.weight)


def test_a_tensor_does_not_depend_on_how_many_blocks_there_are() -> None:
    shallow, deep = Transformer(small(depth_scaling="none")), Transformer(small(depth=3, depth_scaling="none"))
    deep_state = deep.state_dict()
    assert all(torch.equal(tensor, deep_state[name]) for name, tensor in shallow.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 5}, "width 32 is not divisible by num_heads 5"),
        ({"num_kv_heads": 3}, "num_kv_heads"),
        ({"num_heads": 32}, "even head_dim"),
        ({"positions": "rotery"}, "did you mean 'rotary'"),
        ({"dropout": 1.0}, "dropout"),
        ({"depth": 0}, "whole number"),
        ({"width": 32.0}, "whole number"),
        ({"encoder_depth": 2}, "encoder-decoder"),
        ({"head": "none", "tie_embeddings": True}, "nothing to tie"),
        ({"parametrization": "mup"}, "base_width"),
        ({"norm_eps": -1.0}, "positive"),
    ],
)
def test_a_config_that_cannot_work_says_why(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        small(**changes)


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_layers_that_are_computed_again_give_the_same_gradients_and_hold_less(family: str) -> None:
    config = small(family=family, depth=4, dropout=0.1)
    inputs_BT = torch.randint(0, 61, (2, 16), generator=torch.Generator().manual_seed(0))
    gradients, held_bytes = [], []
    for recompute in (False, True):
        model = Transformer(config).train()
        if recompute:
            set_recompute(model)
        held: list[int] = []

        def keep(tensor: torch.Tensor, held: list[int] = held) -> torch.Tensor:
            held.append(tensor.nbytes)
            return tensor

        torch.manual_seed(1)  # dropout
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            source = {"source_BS": inputs_BT} if family == "encoder-decoder" else {}
            loss = model(inputs_BT, **source).square().mean()
        held_bytes.append(sum(held))
        loss.backward()
        gradients.append([known(parameter.grad) for parameter in model.parameters() if parameter.grad is not None])
    assert len(gradients[0]) > 20
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert held_bytes[1] < 0.5 * held_bytes[0]
