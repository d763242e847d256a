"""The LightningModule: what is trained, under lightning.Trainer, to the losses of a worker."""

from __future__ import annotations

from typing import Any

import lightning
import torch

from models.trainable import TrainableTransformer


class LitTransformer(TrainableTransformer, lightning.LightningModule):
    """A transformer with its objective, optimiser and schedule, and the hooks by which a Trainer asks for them."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Under a Trainer: take the step's weights into their average."""
        self.update_average()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Under a Trainer: set the rate of this step."""
        trained: Any = self  # the type of a module that has both bases knows no property of Lightning's
        self.set_learning_rate(trained.optimizers(use_pl_optimizer=False), trained.global_step * self.batch_tokens)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Under a Trainer: clip as `clip_gradients_` does; the Trainer's own limits are not used."""
        self.clip_gradients_()
