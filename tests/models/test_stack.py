"""A stack of models: each member's losses are those of it alone, and nothing of one reaches another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.config.objective import FAMILY_OF, ObjectiveConfig, ObjectiveName
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.lit import LitTransformer
from models.modules.stacked import stack
from models.stack import Stack

RATES = (1e-3, 1e-2, 3e-2)
"""One a member."""


def make(objective: ObjectiveName, rate: float, seed: int, fields: dict[str, Any], **rule: Any) -> LitTransformer:
    """A small model of the objective's family."""
    shape: dict[str, Any] = {"vocab_size": 320, "width": 16, "depth": 1, "num_heads": 2, "context": 16}
    return LitTransformer(
        model=TransformerConfig(family=FAMILY_OF[objective], **(shape | fields)),
        optimizer=OptimizerConfig(**({"learning_rate": rate, "weight_decay": 10 * rate} | rule)),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**6,
        batch_tokens=64,
        seed=seed,
        objective=ObjectiveConfig(name=objective, z_loss=1e-4 if fields.get("logit_cap") else 0.0),
    )


def finish(module: LitTransformer, optimizer: torch.optim.Optimizer) -> None:
    module.clip_gradients_()
    optimizer.step()
    module.update_average()
    optimizer.zero_grad(set_to_none=True)


def batches(steps: int, members: int) -> Tensor:
    return torch.randint(0, 256, (steps, members, 4, 17), generator=torch.Generator().manual_seed(1))


def stacked_losses(lits: list[LitTransformer], tokens: Tensor) -> Tensor:
    """Train them as a stack: (steps, members)."""
    together = Stack([lit.model for lit in lits], lits[0].objective)
    optimizers = [lit.configure_optimizers() for lit in lits]
    told = []
    for step, batch in enumerate(tokens):
        losses = together.losses(batch.unbind(), [step] * len(lits))
        losses.sum().backward()
        together.hand_out_gradients()
        for lit, optimizer in zip(lits, optimizers, strict=True):
            finish(lit, optimizer)
        told.append(losses.detach())
    return torch.stack(told)


def lone_losses(lit: LitTransformer, tokens: Tensor) -> Tensor:
    """Train it alone: (steps,)."""
    optimizer, told = lit.configure_optimizers(), []
    for step, batch in enumerate(tokens):
        loss = lit.training_step(batch, step)
        loss.backward()
        finish(lit, optimizer)
        told.append(loss.detach())
    return torch.stack(told)


@pytest.mark.parametrize(
    ("objective", "fields", "rule"),
    [
        ("causal", {"positions": "rotary", "qk_norm": True}, {}),
        ("causal", {"positions": "none", "logit_cap": 30.0, "tie_embeddings": True}, {"name": "muon"}),
        ("causal", {"positions": "alibi", "norm": "layernorm", "bias": True, "head_bias": True}, {"ema_decay": 0.9}),
        ("masked", {"positions": "learned", "num_segments": 2, "head": "transform"}, {"name": "lion"}),
        ("span", {"positions": "sinusoidal", "activation": "swiglu"}, {"name": "sgd"}),
        ("infilling", {"positions": "learned", "position_offset": 2, "embedding_norm": True}, {}),
    ],
)
def test_the_losses_of_a_member_are_those_of_the_model_alone(
    objective: ObjectiveName, fields: dict[str, Any], rule: dict[str, Any]
) -> None:
    tokens = batches(200, len(RATES))
    together = [make(objective, rate, seed, fields, **rule) for seed, rate in enumerate(RATES)]
    alone = [make(objective, rate, seed, fields, **rule) for seed, rate in enumerate(RATES)]
    found = stacked_losses(together, tokens)
    expected = torch.stack([lone_losses(lit, tokens[:, member]) for member, lit in enumerate(alone)], dim=1)
    assert expected.isfinite().all()
    assert (found - expected).abs().max() < 1e-5
    assert expected.std(dim=1).min() > 0  # members are not alike
    for one, other in zip(together, alone, strict=True):
        held_out = (lit.eval().losses_and_mask(tokens[0, 0])[0] for lit in (one, other))
        torch.testing.assert_close(*held_out, atol=1e-4, rtol=0)


def test_a_member_that_is_not_finite_changes_no_bit_of_the_others() -> None:
    tokens = batches(30, 3)
    fields = {"positions": "learned", "qk_norm": True, "bias": True, "norm": "layernorm"}
    tame, wild = ([make("causal", rate, seed, fields) for seed, rate in enumerate(RATES)] for _ in range(2))
    with torch.no_grad():
        next(wild[1].model.parameters())[:] = float("nan")
    expected, found = stacked_losses(tame, tokens), stacked_losses(wild, tokens)
    assert found[:, 1].isnan().all()
    assert torch.equal(found[:, [0, 2]], expected[:, [0, 2]])
    for member in (0, 2):
        for one, other in zip(wild[member].parameters(), tame[member].parameters(), strict=True):
            assert torch.equal(one, other)


def test_the_weights_of_a_member_are_views_of_the_stacks_and_gradients_are_its_own() -> None:
    lits = [make("causal", rate, seed, {}) for seed, rate in enumerate(RATES)]
    together = Stack([lit.model for lit in lits], lits[0].objective)
    together.losses(batches(1, 3)[0].unbind(), [0, 0, 0])[1].backward()
    together.hand_out_gradients()
    whole = dict(together.model.named_parameters())
    for member, lit in enumerate(lits):
        for name, parameter in lit.model.named_parameters():
            assert parameter.data_ptr() == whole[name][member].data_ptr()
            assert parameter.grad is not None
            assert bool(parameter.grad.any()) == (member == 1)


def test_positions_that_belong_to_heads_are_refused() -> None:
    lits = [make("causal", rate, seed, {"positions": "t5"}) for seed, rate in enumerate(RATES)]
    with pytest.raises(ValueError, match="t5"):
        stack([lit.model for lit in lits])
