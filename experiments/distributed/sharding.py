"""How a model lies on the ranks that train it: Fabric's strategies, norms of sharded gradients, whole states of shards.

ddp is Fabric's DDPStrategy. fsdp is its ModelParallelStrategy with `fully_shard` (FSDP2), because Fabric's FSDPStrategy
refuses CPUs, on which all this is tested. It must not know loops, files or sweeps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from experiments.config.run import FABRIC_PRECISION
from experiments.distributed.place import Place
from experiments.distributed.ranks import Ranks
from experiments.errors import UserError
from experiments.machine.devices import Precision
from models.lit import LitTransformer

FORWARD_METHODS = ("training_step", "losses_and_mask")
"""Ways into the module: before each of them its weights have to be there."""


class PlaceEnvironment(ClusterEnvironment):
    """What Fabric asks of a cluster, answered by a Place: nothing is guessed, and nothing is started."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        """The ranks are there already."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 listens."""
        return self.place.address

    @property
    def main_port(self) -> int:
        """Its port."""
        return self.place.port

    @staticmethod
    def detect() -> bool:
        """Never chosen by Fabric itself."""
        return False

    def world_size(self) -> int:
        """Number of ranks."""
        return self.place.size

    def set_world_size(self, size: int) -> None:
        """It is given."""

    def global_rank(self) -> int:
        """This process's rank."""
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """It is given."""

    def local_rank(self) -> int:
        """Its number on this machine."""
        return self.place.local_rank

    def node_rank(self) -> int:
        """This machine's number."""
        return self.place.rank // self.place.local_size


def make_fabric(ranks: Ranks, device: str, precision: Precision) -> Fabric:
    """Make Fabric for a process alone, or for one of several ranks that have joined.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    device : str
        cpu or cuda.
    precision : Precision
        Of the run.
    """
    if ranks.place is None or not ranks.many:
        alone = PlaceEnvironment(Place(rank=0, size=1, local_rank=0, port=0))  # else it counts a Slurm step's tasks
        fabric = Fabric(accelerator=device, devices=1, precision=FABRIC_PRECISION[precision], plugins=[alone])
        fabric.launch()
        return fabric
    strategy: DDPStrategy | ModelParallelStrategy
    if ranks.strategy == "fsdp":
        strategy = ModelParallelStrategy(shard_, data_parallel_size=ranks.size, tensor_parallel_size=1)
    else:
        strategy = DDPStrategy()
    strategy.parallel_devices = ranks.devices(device)
    threads = torch.get_num_threads()
    fabric = Fabric(
        accelerator=device,
        strategy=strategy,
        devices=1,  # those of the strategy count
        num_nodes=ranks.place.num_nodes,
        precision=FABRIC_PRECISION[precision],
        plugins=[PlaceEnvironment(ranks.place)],
    )
    fabric.launch()
    torch.set_num_threads(threads)  # Fabric takes all cores where OMP_NUM_THREADS says nothing
    return fabric


def shard_(lit: LitTransformer, mesh: DeviceMesh) -> LitTransformer:
    """Shard a module in place: each block by itself, and the rest together.

    Parameters
    ----------
    lit : LitTransformer
        The module.
    mesh : DeviceMesh
        The devices of all ranks.
    """
    mesh = mesh["data_parallel"]
    for stack in (lit.model.encoder, lit.model.decoder):
        for block in stack.blocks if stack is not None else ():
            fully_shard(block, mesh=mesh)
    fully_shard(lit, mesh=mesh)
    for method in FORWARD_METHODS:
        register_fsdp_forward_method(lit, method)
    return lit


def set_up(ranks: Ranks, fabric: Fabric, lit: LitTransformer) -> tuple[Any, torch.optim.Optimizer]:
    """Place a module on its device and over the ranks, and make its optimiser.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    fabric : Fabric
        Of `make_fabric`.
    lit : LitTransformer
        The module.

    Returns
    -------
    module : Any
        The wrapped module, whose training step is to be called.
    optimizer : Optimizer
        Over its parameters, or their shards.
    """
    if ranks.strategy == "fsdp":  # the optimiser is one of shards
        if lit.optimizer_config.name == "muon" or lit.average is not None:
            raise UserError("fsdp shards neither muon's matrices nor an average of weights; use --strategy ddp")
        module = fabric.setup_module(lit)
        optimizer = lit.configure_optimizers()
    else:
        optimizer = lit.configure_optimizers()
        if ranks.strategy == "ddp" and lit.model.pooler is not None:
            lit.model.pooler.requires_grad_(False)  # no objective reads it, and ranks would wait for its gradient
        module, _ = fabric.setup(lit, optimizer)
    fabric._callbacks.clear()  # else Fabric keeps every module that it has set up
    return module, optimizer


def clip_gradients_(ranks: Ranks, lit: LitTransformer) -> torch.Tensor | None:
    """Clip the norm of the whole gradient, wherever its parts are.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    lit : LitTransformer
        The module, after its gradients were computed.

    Returns
    -------
    Tensor or None
        The norm before clipping; None where the run does not clip.
    """
    if ranks.strategy != "fsdp":
        return lit.clip_gradients_()
    limit = lit.optimizer_config.grad_clip
    if limit is None:
        return None
    norm = torch.nn.utils.get_total_norm([item.grad for item in lit.parameters() if item.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    torch.nn.utils.clip_grads_with_norm_(lit.parameters(), limit, norm)
    return norm


# -- whole states ------------------------------------------------------------------------------------------------------


def whole(ranks: Ranks, state: Any) -> Any:
    """Put the shards of a state together on the CPU of rank 0; called by every rank.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    state : Any
        Nested dicts and lists with sharded tensors.

    Returns
    -------
    Any
        The same with whole tensors; ranks other than 0 get None for them.
    """
    if ranks.strategy != "fsdp":
        return state
    if isinstance(state, dict):
        return {key: whole(ranks, value) for key, value in state.items()}
    if isinstance(state, list):
        return [whole(ranks, value) for value in state]
    if isinstance(state, DTensor):
        full = state.full_tensor()
        return full.cpu() if ranks.rank == 0 else None
    return state


def spread(
    ranks: Ranks, state: dict[str, Any] | None, lit: LitTransformer, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Give rank 0's whole state to every rank, in the form that its module and optimiser load.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    state : dict or None
        The whole state, on rank 0; None on the others.
    lit : LitTransformer
        The module that will load it: whole or in shards.
    optimizer : Optimizer
        Its optimiser.

    Returns
    -------
    dict
        The state, with tensors laid out as this rank's are.
    """
    if not ranks.many:
        assert state is not None
        return state
    outline: dict[str, Any] = ranks.broadcast(None if state is None else _outline(state))
    model = {} if state is None else state["model"]
    outline["model"] = {name: _spread_tensor(ranks, model.get(name), like) for name, like in lit.state_dict().items()}
    parameters = [item for group in optimizer.param_groups for item in group["params"]]
    for index, entry in outline["optimizer"]["state"].items():
        for name, value in entry.items():
            if value is None:
                full = None if state is None else state["optimizer"]["state"][index][name]
                entry[name] = _spread_tensor(ranks, full, parameters[index])
    return outline


def _outline(state: dict[str, Any]) -> dict[str, Any]:
    """A state without its large tensors, which go one by one."""
    optimizer = state["optimizer"]
    small = {
        index: {name: None if torch.is_tensor(value) and value.ndim else value for name, value in entry.items()}
        for index, entry in optimizer["state"].items()
    }
    return state | {"model": None, "optimizer": optimizer | {"state": small}}


def _spread_tensor(ranks: Ranks, full: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Rank 0's tensor on every rank, laid out as `like` is."""
    if full is None:
        full = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    full = full.to(device=like.device, dtype=like.dtype)
    if isinstance(like, DTensor):
        return distribute_tensor(full, like.device_mesh, like.placements)
    dist.broadcast(full, src=0)
    return full
