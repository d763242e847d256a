"""The LightningModule: one model, one objective, AdamW and a schedule in tokens.

Workers drive it by Fabric and it trains under lightning.Trainer to the same losses: what both must agree on (learning
rate, clipping, groups, loss) is a method here. Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import lightning
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.config.objective import ObjectiveConfig, check_objective
from models.config.optimizer import OptimizerConfig, check_optimizer
from models.config.schedules import ScheduleConfig, learning_rate_multiplier
from models.config.transformer import TransformerConfig
from models.kernels.cross_entropy import Reduction
from models.losses import Losses, compiled_losses, token_losses
from models.modules.transformer import Transformer
from models.objectives import Examples, make_examples
from models.optimizers.registry import make_optimizer


class LitTransformer(lightning.LightningModule):
    """A transformer with its objective, optimiser and schedule.

    Parameters
    ----------
    model : TransformerConfig
        What is trained.
    optimizer : OptimizerConfig
        How its weights are moved.
    schedule : ScheduleConfig
        How the learning rate changes.
    total_tokens : int
        Tokens of the whole run, the end of the schedule.
    batch_tokens : int
        Tokens of one optimiser step.
    seed : int
        Seed of the initial weights, which do not depend on the global random state and leave it alone.
    objective : ObjectiveConfig, optional
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
        check_optimizer(optimizer, model)
        self.config, self.optimizer_config, self.schedule = model, optimizer, schedule
        self.total_tokens, self.batch_tokens = total_tokens, batch_tokens
        self.model = Transformer(model, seed=seed)
        self.token_losses: Losses = token_losses
        self.average: AveragedModel | None = None
        if optimizer.ema_decay is not None:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(optimizer.ema_decay))
            self.average.requires_grad_(False)
        self._clipped: list[torch.nn.Parameter] | None = None

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        return self.model(tokens_BT)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss over predicted tokens; nothing is logged, the value stays on the device.

        Parameters
        ----------
        batch : Tensor of int, shape (B, T + 1)
            Token ids.
        batch_idx : int
            The step, which varies what a masking objective takes out.

        Returns
        -------
        Tensor, scalar
            Nats per token.
        """
        examples = make_examples(batch, self.objective, step=batch_idx + 1)
        places_N, targets_N = examples.predicted()
        return self._losses(examples, places_N, targets_N, "mean", self.objective.z_loss)

    @torch.no_grad()
    def losses_and_mask(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return validation losses, and where they count, whatever the objective.

        What is taken out of a sequence depends on its tokens and the objective's seed alone, so that the loss means the
        same for every model and every batch size.

        Parameters
        ----------
        batch : Tensor of int, shape (B, T + 1)
            Token ids.

        Returns
        -------
        losses_BT : Tensor of float32, shape (B, length of the targets)
            Nats per token, of tokens that do not count too.
        mask_BT : Tensor of bool, same shape
            True where a token was to be predicted.
        """
        examples = make_examples(batch, self.objective)
        losses_N = self._losses(examples, None, examples.targets_BT.flatten(), "none", 0.0)
        losses_BT = losses_N.view(examples.targets_BT.shape)
        return losses_BT, torch.ones_like(losses_BT, dtype=torch.bool) if examples.mask_BT is None else examples.mask_BT

    def _losses(
        self, examples: Examples, places_N: Tensor | None, targets_N: Tensor, reduction: Reduction, z_loss: float
    ) -> Tensor:
        model = self.model if self.training else self.evaluated
        return self.token_losses(model, examples.inputs_BT, examples.source_BS, places_N, targets_N, reduction, z_loss)

    def compile_losses(self, backend: str = "inductor", *, cuda_graphs: bool = False) -> None:
        """Train and validate by compiled graphs from now on; losses agree with those without to rounding.

        Parameters
        ----------
        backend : str
            A name of torch.compile's.
        cuda_graphs : bool
            Replay them as CUDA graphs, for batches that are held as a whole.
        """
        self.token_losses = compiled_losses(backend, cuda_graphs=cuda_graphs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the config's optimiser over the parametrization's groups."""
        self._clipped = None
        return make_optimizer(self.model, self.config, self.optimizer_config)

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
            self._clipped = list(self.model.parameters())
        return torch.nn.utils.clip_grad_norm_(self._clipped, limit)

    @property
    def evaluated(self) -> Transformer:
        """The model whose losses validation measures and whose weights are kept: the average, where there is one."""
        return self.model if self.average is None else cast(Transformer, self.average.module)

    def update_average(self) -> None:
        """Take the weights after a step into their average, where the config wants one."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_train_batch_end(self, *_: Any) -> None:
        """Under a Trainer: take the step's weights into their average."""
        self.update_average()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Under a Trainer: set the rate of this step."""
        self.set_learning_rate(self.optimizers(use_pl_optimizer=False), self.global_step * self.batch_tokens)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Under a Trainer: clip as `clip_gradients_` does; the Trainer's own limits are not used."""
        self.clip_gradients_()
