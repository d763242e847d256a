"""The LightningModule: one model, one objective, AdamW and a schedule in tokens.

Workers drive it by Fabric and it trains under lightning.Trainer to the same losses: what both must agree on (learning
rate, clipping, groups, loss) is a method here. Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config.objective import ObjectiveConfig, check_objective
from models.config.optimizer import OptimizerConfig
from models.config.schedules import ScheduleConfig, learning_rate_multiplier
from models.config.transformer import TransformerConfig
from models.errors import UserError
from models.kernels.cross_entropy import linear_cross_entropy
from models.modules.parametrization import optimizer_groups
from models.modules.transformer import Transformer
from models.objectives import Examples, make_examples


class LitTransformer(lightning.LightningModule):
    """A transformer with its objective, optimiser and schedule.

    Parameters
    ----------
    model, optimizer, schedule
        What is trained and how.
    total_tokens
        Tokens of the whole run, the end of the schedule.
    batch_tokens
        Tokens of one optimiser step.
    seed
        Seed of the initial weights, which do not depend on the global random state and leave it alone.
    objective
        What is predicted; causal language modelling by default.
    """

    def __init__(
        self,
        model: TransformerConfig,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        total_tokens: int,
        batch_tokens: int,
        seed: int,
        objective: ObjectiveConfig | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective if objective is not None else ObjectiveConfig()
        check_objective(self.objective, model)
        self.config, self.optimizer_config, self.schedule = model, optimizer, schedule
        self.total_tokens, self.batch_tokens = total_tokens, batch_tokens
        self.model = Transformer(model, seed=seed)
        self._clipped: list[torch.nn.Parameter] | None = None

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        return self.model(tokens_BT)

    def losses_of(self, examples: Examples) -> Tensor:
        """Return the losses (B, T) of examples in float32 nats, of positions that do not count too."""
        logits_BTV = self.model(examples.inputs_BT, source_BS=examples.source_BS).float()
        losses = F.cross_entropy(logits_BTV.flatten(0, 1), examples.targets_BT.flatten(), reduction="none")
        return losses.view(examples.targets_BT.shape)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss in nats per predicted token; nothing is logged, the value stays on the device.

        `batch` is (B, T + 1) token ids; `batch_idx` is the step, which varies what a masking objective takes out.
        """
        examples = make_examples(batch, self.objective, step=batch_idx + 1)
        states_BTD, targets_BT, mask_BT = (
            self.model.hidden(examples.inputs_BT, source_BS=examples.source_BS),
            examples.targets_BT,
            examples.mask_BT,
        )
        x_ND = states_BTD.flatten(0, 1) if mask_BT is None else states_BTD[mask_BT]
        targets_N = targets_BT.flatten() if mask_BT is None else targets_BT[mask_BT]
        head, table_VD = self.model.head, self.model.tokens.weight
        assert head is not None
        return linear_cross_entropy(head.prepare(x_ND), head.table(table_VD), head.bias, targets_N)

    @torch.no_grad()
    def loss_per_token(self, batch: Tensor) -> Tensor:
        """Return the losses (B, T) in float32 nats, not reduced, for validation of causal language modelling."""
        if self.objective.name != "causal":
            raise UserError(f"objective {self.objective.name!r} does not predict every token; use losses_and_mask")
        return self.losses_of(make_examples(batch, self.objective))

    @torch.no_grad()
    def losses_and_mask(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return validation losses (B, T) in float32 nats and where they count (bool), whatever the objective.

        What is taken out of a sequence depends on its tokens and the objective's seed alone, so that the loss means the
        same for every model and every batch size. T is the length of the targets.
        """
        examples = make_examples(batch, self.objective)
        losses_BT = self.losses_of(examples)
        mask_BT = torch.ones_like(losses_BT, dtype=torch.bool) if examples.mask_BT is None else examples.mask_BT
        return losses_BT, mask_BT

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over the parametrization's groups, fused where torch has it."""
        config, self._clipped = self.optimizer_config, None
        groups = optimizer_groups(self.model, self.config, config)
        fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=fused)

    def learning_rate(self, tokens_seen: int) -> float:
        """Return the peak group's rate in the step that starts after `tokens_seen` tokens.

        During warm-up the rate is that of the step's middle, so that the first step is not one of rate zero.
        """
        if tokens_seen < self.schedule.warmup_tokens:
            tokens_seen = min(tokens_seen + self.batch_tokens // 2, self.schedule.warmup_tokens)
        factor = learning_rate_multiplier(self.schedule, tokens_seen=tokens_seen, total_tokens=self.total_tokens)
        return self.optimizer_config.learning_rate * factor

    def set_learning_rate(self, optimizer: torch.optim.Optimizer, tokens_seen: int) -> float:
        """Set the rates of the step that starts after `tokens_seen` tokens; return the peak group's."""
        rate = self.learning_rate(tokens_seen)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_multiplier"]
        return rate

    def clip_gradients_(self) -> Tensor | None:
        """Clip the global gradient norm in place; return the norm before it, or None without clipping."""
        limit = self.optimizer_config.grad_clip
        if limit is None:
            return None
        if self._clipped is None:  # walking the modules for their parameters costs more than the norm of a small model
            self._clipped = list(self.parameters())
        return torch.nn.utils.clip_grad_norm_(self._clipped, limit)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Under a Trainer: set the rate of this step."""
        self.set_learning_rate(self.optimizers(use_pl_optimizer=False), self.global_step * self.batch_tokens)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Under a Trainer: clip as `clip_gradients_` does; the Trainer's own limits are not used."""
        self.clip_gradients_()
