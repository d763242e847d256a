"""Models that train together: one forward and one backward pass for all, and a gradient for each.

The members stay models of their own, whose weights are views of the stack's: whatever moves, saves or reads a member's
weights does so in the stack. It must not know optimisers, data or runs. Shapes: M members, B sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.config.objective import ObjectiveConfig
from models.losses import Losses, compiled_losses, stacked_losses
from models.modules.stacked import stack
from models.modules.transformer import Transformer
from models.objectives import Examples, make_examples


class Stack:
    """Models of one config side by side.

    Parameters
    ----------
    members : sequence of Transformer
        Their weights become views of the stack's, with the values that they have.
    objective : ObjectiveConfig
        What all of them predict.
    backend : str, optional
        Losses are computed by graphs of this backend of torch.compile; None: by the code as it stands.
    """

    def __init__(
        self, members: Sequence[Transformer], objective: ObjectiveConfig, *, backend: str | None = None
    ) -> None:
        self.objective = objective
        self.model = stack(members)
        self._losses: Losses = stacked_losses if backend is None else compiled_losses(backend, stacked_losses)
        named = [dict(member.named_parameters()) for member in members]
        self._weights: list[tuple[nn.Parameter, list[nn.Parameter]]] = [
            (weight, [own[name] for own in named]) for name, weight in self.model.named_parameters()
        ]
        for weight, own in self._weights:
            for parameter, values in zip(own, weight.data.unbind(), strict=True):
                parameter.data = values

    def losses(self, batches_BT: Sequence[Tensor], steps: Sequence[int]) -> Tensor:
        """Return each member's mean loss over its predicted tokens.

        Parameters
        ----------
        batches_BT : sequence of M Tensors of int, shape (B, T + 1)
            Token ids of each member.
        steps : sequence of M ints
            Steps that each has taken, which vary what a masking objective takes out.

        Returns
        -------
        Tensor, shape (M,)
            Nats per token; a member's gradient does not depend on the others.
        """
        made = [
            make_examples(batch, self.objective, step=step + 1) for batch, step in zip(batches_BT, steps, strict=True)
        ]
        examples = Examples(
            inputs_BT=torch.cat([item.inputs_BT for item in made]),
            targets_BT=torch.cat([item.targets_BT for item in made]),
            mask_BT=_joined([item.mask_BT for item in made]),
            source_BS=_joined([item.source_BS for item in made]),
        )
        places_N, targets_N = examples.predicted()
        inputs_BT, source_BS = examples.inputs_BT, examples.source_BS
        return self._losses(self.model, inputs_BT, source_BS, places_N, targets_N, "mean", self.objective.z_loss)

    def hand_out_gradients(self) -> None:
        """Give every member its part of the gradient of the stack, which has none after that."""
        for weight, own in self._weights:
            if weight.grad is None:
                continue
            for parameter, gradient in zip(own, weight.grad.unbind(), strict=True):
                parameter.grad = gradient
            weight.grad = None


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors one after another; None where there are none."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
