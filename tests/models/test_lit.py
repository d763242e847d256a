"""The LightningModule: one training, whoever drives it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import lightning
import pytest
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric

from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig
from models.config.transformer import TransformerConfig
from models.lit import LitTransformer
from tests.known import known

STEPS, BATCH, CONTEXT = 6, 4, 8

GOLDEN = [4.10594, 3.80503, 4.01826, 3.8303, 3.80876, 3.53231]
"""Losses of the first steps; a change of these is a change of results."""


def make_module(**changes: object) -> LitTransformer:
    fields: dict[str, object] = {"vocab_size": 31, "width": 16, "depth": 2, "num_heads": 2, "context": CONTEXT}
    return LitTransformer(
        model=TransformerConfig(**{**fields, **changes}),  # type: ignore[arg-type]
        optimizer=OptimizerConfig(learning_rate=1e-2, grad_clip=0.5),
        schedule=ScheduleConfig(name="wsd", warmup_tokens=64, decay_tokens=64),
        total_tokens=STEPS * BATCH * CONTEXT,
        batch_tokens=BATCH * CONTEXT,
        seed=5,
    )


def make_batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 31, (BATCH, CONTEXT + 1), generator=generator) for _ in range(STEPS)]


def train_by_fabric(module: LitTransformer, batches: list[torch.Tensor]) -> list[float]:
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(module, module.configure_optimizers())
    model.mark_forward_method("training_step")
    losses = []
    for step, batch in enumerate(batches):
        module.set_learning_rate(optimizer, step * module.batch_tokens)
        loss = model.training_step(batch, step)
        optimizer.zero_grad()
        fabric.backward(loss)
        module.clip_gradients_()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Recorder(lightning.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: object, module: object, outputs: dict[str, torch.Tensor], *_: object) -> None:
        self.losses.append(outputs["loss"].item())


def train_by_trainer(module: LitTransformer, batches: list[torch.Tensor], folder: Path) -> list[float]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    recorder = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Trainer's advice on data loader workers
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=len(batches),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[recorder],
        )
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return recorder.losses


def test_trainer_and_fabric_reach_the_same_losses(tmp_path: Path) -> None:
    by_fabric = train_by_fabric(make_module(), make_batches())
    by_trainer = train_by_trainer(make_module(), make_batches(), tmp_path)
    assert len(by_fabric) == STEPS
    assert by_fabric == by_trainer


def test_making_a_module_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    make_module().configure_optimizers()
    assert torch.equal(state, torch.get_rng_state())


def test_the_first_steps_are_the_golden_ones() -> None:
    losses = train_by_fabric(make_module(), make_batches())
    assert losses == pytest.approx(GOLDEN, abs=2e-5)


def test_validation_losses_are_those_of_training_without_reduction() -> None:
    module, batch = make_module(), make_batches()[0]
    losses_BT, mask_BT = module.losses_and_mask(batch)
    assert mask_BT.all()
    assert losses_BT.shape == (BATCH, CONTEXT)
    assert losses_BT.dtype == torch.float32
    assert losses_BT.mean().item() == pytest.approx(module.training_step(batch, 0).item(), rel=1e-6)
    logits = module(batch[:, :-1])
    expected = F.cross_entropy(logits[1, 2], batch[1, 3])
    assert losses_BT[1, 2].item() == pytest.approx(expected.item(), rel=1e-5)


def test_training_in_bfloat16_stays_near_float32() -> None:
    module, batch = make_module(), make_batches()[0]
    exact = module.training_step(batch, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module.training_step(batch, 0)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), abs=0.05)
    rounded.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_gradients_are_clipped_to_the_configs_norm() -> None:
    module = make_module()
    (1000 * module.training_step(make_batches()[0], 0)).backward()
    before = known(module.clip_gradients_())
    after = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
    assert before.item() > 100
    assert after.item() == pytest.approx(0.5, rel=1e-4)


def test_gains_biases_and_tables_do_not_decay() -> None:
    module = make_module(bias=True, norm="layernorm")
    groups = module.configure_optimizers().param_groups
    decaying = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    for name, parameter in module.named_parameters():
        matrix = parameter.ndim == 2 and "tokens" not in name
        assert (id(parameter) in decaying) == matrix, name


def test_the_rate_of_every_step_is_positive_and_follows_the_schedule() -> None:
    module = make_module()
    optimizer = module.configure_optimizers()
    rates = [module.set_learning_rate(optimizer, step * module.batch_tokens) for step in range(STEPS)]
    assert min(rates) > 0
    assert rates[2] == rates[3] == 1e-2
    assert rates[5] == pytest.approx(0.5e-2)
