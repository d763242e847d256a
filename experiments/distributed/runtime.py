"""What the training loop runs on: this process's CPU alone, or Fabric for a GPU and for several ranks.

A CPU needs of Fabric an autocast and a backward pass, and importing Lightning takes as long as importing torch, which
every worker would wait for. It must not know loops, files or sweeps.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from experiments.distributed.ranks import Ranks
from experiments.machine.devices import Precision
from models.trainable import TrainableTransformer


class Runtime(Protocol):
    """What the training loop asks of Fabric, or of what stands for it."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the run's precision within the block."""

    def backward(self, tensor: torch.Tensor) -> None:
        """Add the gradients of a scalar."""

    def no_backward_sync(self, module: Any) -> AbstractContextManager[Any]:
        """Exchange no gradients with other ranks within the block."""


@dataclass(frozen=True, kw_only=True)
class OneCpu:
    """The CPU of this process, in a run's precision."""

    precision: Precision = "fp32"
    """Of matrix products; weights are float32."""

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def autocast(self) -> AbstractContextManager[Any]:
        """Bfloat16 within the block where the run is in bf16."""
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def backward(self, tensor: torch.Tensor) -> None:
        """Add the gradients of a scalar; none is scaled."""
        torch.autograd.backward(tensor)

    def no_backward_sync(self, module: Any) -> AbstractContextManager[Any]:
        """Nothing: there is no other rank."""
        return nullcontext()


def make_runtime(ranks: Ranks, device: str, precision: Precision) -> Runtime:
    """Return what a process trains on, alone or as one of several ranks that have joined.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    device : str
        cpu or cuda.
    precision : Precision
        Of the run.
    """
    if device == "cpu" and not ranks.many:
        return OneCpu(precision=precision)
    from experiments.distributed.fabric import make_fabric

    fabric: Runtime = make_fabric(ranks, device, precision)
    return fabric


def set_up(ranks: Ranks, runtime: Runtime, lit: TrainableTransformer) -> tuple[Any, torch.optim.Optimizer]:
    """Place a module on its device and over the ranks, and make its optimiser.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    runtime : Runtime
        Of `make_runtime`, or a Fabric.
    lit : TrainableTransformer
        The module.

    Returns
    -------
    module : Any
        The module, wrapped where Fabric does, whose training step is to be called.
    optimizer : Optimizer
        Over its parameters, or their shards.
    """
    if isinstance(runtime, OneCpu):
        return lit, lit.configure_optimizers()
    from experiments.distributed.fabric import set_up_by_fabric

    return set_up_by_fabric(ranks, runtime, lit)
