"""What ranks that share a model do with its parts: the norm of sharded gradients, and whole states of shards.

It must not know loops, files or sweeps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from experiments.distributed.ranks import Ranks
from models.trainable import TrainableTransformer


def clip_gradients_(ranks: Ranks, lit: TrainableTransformer) -> torch.Tensor | None:
    """Clip the norm of the whole gradient, wherever its parts are.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    lit : TrainableTransformer
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
    ranks: Ranks, state: dict[str, Any] | None, lit: TrainableTransformer, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Give rank 0's whole state to every rank, in the form that its module and optimiser load.

    Parameters
    ----------
    ranks : Ranks
        Who trains together.
    state : dict or None
        The whole state, on rank 0; None on the others.
    lit : TrainableTransformer
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
