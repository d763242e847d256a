"""Optimisers: each does what its paper says, resumes to the last bit, and keeps as many numbers as are counted."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from models.config.objective import ObjectiveConfig
from models.config.optimizer import OptimizerConfig, OptimizerName, optimizer_numbers
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.lit import LitTransformer
from models.optimizers.lion import Lion

NAMES = get_args(OptimizerName)
RATES = {"adamw": 1e-2, "muon": 1e-2, "sgd": 1e-1, "lion": 1e-3}


def make(name: str = "adamw", model: dict[str, Any] | None = None, **changes: Any) -> LitTransformer:
    fields: dict[str, Any] = {"vocab_size": 31, "width": 16, "depth": 2, "num_heads": 2, "context": 8}
    objective = ObjectiveConfig(z_loss=changes.pop("z_loss", 0.0))
    optimizer: dict[str, Any] = {"name": name, "learning_rate": RATES[name], **changes}
    return LitTransformer(
        model=TransformerConfig(**{**fields, **(model or {})}),
        optimizer=OptimizerConfig(**optimizer),
        schedule=ScheduleConfig(name="constant"),
        total_tokens=10**6,
        batch_tokens=32,
        seed=5,
        objective=objective,
    )


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 31, (4, 9), generator=generator) for _ in range(count)]


def train(module: LitTransformer, optimizer: torch.optim.Optimizer, data: list[torch.Tensor]) -> list[float]:
    losses = []
    for step, batch in enumerate(data):
        module.set_learning_rate(optimizer, step * 32)
        loss = module.training_step(batch, step)
        loss.backward()
        module.clip_gradients_()
        optimizer.step()
        module.update_average()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def same_average(first: LitTransformer, second: LitTransformer) -> bool:
    pairs = zip(first.evaluated.parameters(), second.evaluated.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_state_goes_on_to_the_same_last_bit(name: str) -> None:
    data = batches(8)
    whole = make(name, ema_decay=0.9)
    losses = train(whole, whole.configure_optimizers(), [data[0]] * 4 + data)
    assert losses[3] < losses[0]
    first, optimizer = (made := make(name, ema_decay=0.9)), made.configure_optimizers()
    train(first, optimizer, [data[0]] * 4)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    second = make(name, ema_decay=0.9)
    fresh = second.configure_optimizers()
    second.load_state_dict(saved[0])
    fresh.load_state_dict(saved[1])
    assert train(second, fresh, data) == losses[4:]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.evaluated.parameters(), second.evaluated.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_as_many_numbers_are_kept_as_are_counted(name: str) -> None:
    model: dict[str, Any] = {"bias": True, "norm": "layernorm", "head_bias": True, "qk_norm": True}
    module = make(name, model, ema_decay=0.99)
    optimizer = module.configure_optimizers()
    train(module, optimizer, batches(1))
    kept = sum(v.numel() for state in optimizer.state.values() for k, v in state.items() if k != "step")
    kept += sum(p.numel() for p in module.evaluated.parameters())
    assert kept == optimizer_numbers(module.optimizer_config, module.config)


def test_muon_moves_hidden_matrices_by_an_orthogonal_step_and_leaves_the_rest_to_adamw() -> None:
    module, plain = make("muon", grad_clip=None, weight_decay=0.0), make("adamw", grad_clip=None, weight_decay=0.0)
    before = copy.deepcopy(module.model.state_dict())
    for lit in (module, plain):
        train(lit, lit.configure_optimizers(), batches(1))
    for name, parameter in module.model.named_parameters():
        if parameter.ndim == 2 and name not in ("tokens.weight", "head.weight"):
            step = (parameter.detach() - before[name]) / (1e-2 * 0.2 * max(parameter.shape) ** 0.5)
            sizes = torch.linalg.svdvals(step)
            assert sizes.max() < 1.3, name  # five iterations in bfloat16 come this near to one
            assert sizes.median() > 0.6, name
        else:
            assert torch.equal(parameter, plain.model.get_parameter(name)), name


def test_muon_has_rates_and_decays_of_its_own() -> None:
    groups = make("muon", matrix_rate=2e-2, matrix_decay=0.3).configure_optimizers().param_groups
    assert {(g["matrix"], g["lr"], g["weight_decay"]) for g in groups} == {
        (True, 2e-2, 0.3),
        (False, 1e-2, 0.1),
        (False, 1e-2, 0.0),
    }


def test_lion_follows_its_formula() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = Lion([{"params": [w], "lr": 0.1, "weight_decay": 0.5}], lr=0.1, betas=(0.9, 0.99))
    weight, momentum = w.detach().clone(), torch.zeros(2)
    for gradient in (torch.tensor([3.0, -1.0]), torch.tensor([-0.1, 5.0])):
        w.grad = gradient
        optimizer.step()
        weight = weight - 0.1 * ((0.9 * momentum + 0.1 * gradient).sign() + 0.5 * weight)
        momentum = 0.99 * momentum + 0.01 * gradient
        assert torch.allclose(w, weight)


@pytest.mark.parametrize("name", ["muon", "lion"])
def test_trainer_and_our_loop_reach_the_same_losses(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make(name, ema_decay=0.9)
    wanted = train(ours, ours.configure_optimizers(), batches(4))
    by_trainer = make(name, ema_decay=0.9)
    losses: list[torch.Tensor] = []
    step = by_trainer.training_step

    def recorded(batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        losses.append(step(batch, batch_idx))
        return losses[-1]

    monkeypatch.setattr(by_trainer, "training_step", recorded)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_steps=4, enable_model_summary=False, default_root_dir=tmp_path, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Trainer's advice on data loader workers
        data: Any = batches(4)
        trainer.fit(by_trainer, DataLoader(data, batch_size=None))
    assert [loss.item() for loss in losses] == wanted
    assert all(
        torch.equal(a, b) for a, b in zip(ours.evaluated.parameters(), by_trainer.evaluated.parameters(), strict=True)
    )


def test_the_average_is_what_validation_reads() -> None:
    module = make(ema_decay=0.75)
    averages: list[list[torch.Tensor]] = []
    optimizer = module.configure_optimizers()
    for batch in batches(3):
        train(module, optimizer, [batch])
        weights = [p.detach().clone() for p in module.model.parameters()]
        old = averages[-1] if averages else weights
        averages.append([0.75 * a + 0.25 * b for a, b in zip(old, weights, strict=True)])
    assert all(
        torch.allclose(a, b, atol=1e-7) for a, b in zip(averages[-1], module.evaluated.parameters(), strict=True)
    )
    raw = module.losses_and_mask(batches(1)[0])[0]
    averaged = module.eval().losses_and_mask(batches(1)[0])[0]
    module.model.load_state_dict(module.evaluated.state_dict())
    assert not torch.equal(raw, averaged)
    assert torch.equal(module.train().losses_and_mask(batches(1)[0])[0], averaged)


def test_z_loss_changes_gradients_by_its_own_and_no_loss() -> None:
    batch, (plain, with_z) = batches(1)[0], (make(), make(z_loss=0.1))
    first, second = plain.training_step(batch, 0), with_z.training_step(batch, 0)
    assert second.item() == pytest.approx(first.item(), abs=1e-6)
    (first + 0.1 * plain.model(batch[:, :-1]).logsumexp(-1).square().mean()).backward()
    second.backward()
    for wanted, got in zip(plain.model.parameters(), with_z.model.parameters(), strict=True):
        assert wanted.grad is not None
        assert got.grad is not None
        assert torch.allclose(wanted.grad, got.grad, atol=1e-6)


def test_capped_logits_stay_below_their_cap_in_training_validation_and_generation() -> None:
    batch, module = batches(1)[0], make(model={"logit_cap": 0.5, "head_bias": True})
    logits, free = module.model(batch[:, :-1]), make(model={"head_bias": True}).model(batch[:, :-1])
    assert logits.abs().max() <= 0.5 < free.abs().max()
    assert torch.allclose(logits, 0.5 * torch.tanh(free / 0.5), atol=1e-6)
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).item()
    assert module.training_step(batch, 0).item() == pytest.approx(wanted, abs=1e-6)
    assert module.losses_and_mask(batch)[0].mean().item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "moun"}, "did you mean 'muon'"),
        ({"matrix_rate": 1e-2}, "matrix_rate is for muon's matrices"),
        ({"name": "muon", "matrix_rate": 0.0}, "matrix_rate is 0.0; give a positive number"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"momentum": -0.1}, "momentum is -0.1"),
    ],
)
def test_an_optimizer_that_cannot_work_says_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        OptimizerConfig(**changes)


def test_sgd_under_mup_is_refused() -> None:
    with pytest.raises(UserError, match="'sgd' needs other multipliers"):
        make("sgd", {"parametrization": "mup", "base_width": 16})
