"""Checkpoints: everything that the next step depends on, as plain values and tensors, written atomically.

There are two kinds: a run's own newest checkpoint, and those of a shared prefix, from which runs of several budgets
branch. The latter also hold the loss and gradient norm of every step, so that each run can write the rows that it would
have written alone. Both hold whole states, however many ranks trained, so that any other number can go on from them. It
must not know loops, claims or sweeps.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from experiments.distributed.ranks import ALONE, Ranks
from experiments.distributed.sharding import spread, whole
from experiments.files import StoreError, write_atomic
from experiments.training.recorder import Recorder
from models.lit import LitTransformer


def snapshot(
    identity: str, step: int, lit: LitTransformer, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Gather what the next step depends on; called by every rank, and rank 0's result is the one to write.

    Parameters
    ----------
    identity : str
        The run_id, or the name of a shared prefix.
    step : int
        Steps taken so far.
    lit : LitTransformer
        The module.
    optimizer : Optimizer
        Its optimiser.
    ranks : Ranks
        Who trains together.

    Returns
    -------
    dict
        Plain values and tensors.
    """
    on_cuda = next(lit.parameters()).device.type == "cuda"
    state = {
        "run_id": identity,
        "step": step,
        "model": lit.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng_cpu": torch.get_rng_state(),
        "rng_cuda": [torch.cuda.get_rng_state()] if on_cuda else [],
    }
    if not ranks.many:
        return state
    others = ranks.gather([state["rng_cpu"], state["rng_cuda"]])[1:]
    gathered: dict[str, Any] = whole(ranks, state)
    return gathered | {"rng_ranks": others}


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace a checkpoint atomically; a full disk leaves the one before.

    Parameters
    ----------
    path : Path
        The checkpoint.
    state : dict
        Plain values and tensors.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def read_state(path: Path, identity: str, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint.

    Parameters
    ----------
    path : Path
        The checkpoint.
    identity : str
        The run_id, or the name of the shared prefix, that it has to belong to.
    device : torch.device
        Where its tensors go.

    Raises
    ------
    StoreError
        When it belongs to something else.
    """
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["run_id"] != identity:
        raise StoreError(f"{path} belongs to run {state['run_id']}; delete it and run the sweep again")
    return state


def read_for_ranks(
    path: Path, identity: str, lit: LitTransformer, optimizer: torch.optim.Optimizer, ranks: Ranks, *, seed: int
) -> dict[str, Any]:
    """Read a checkpoint on rank 0 and give it to every rank, in the form that its module loads.

    Random states are each rank's own where as many ranks wrote them; else those of other ranks than 0 begin anew.

    Parameters
    ----------
    path : Path
        The checkpoint.
    identity : str
        As in `read_state`.
    lit : LitTransformer
        The module that will load it.
    optimizer : Optimizer
        Its optimiser.
    ranks : Ranks
        Who trains together.
    seed : int
        The run's seed.
    """
    state = read_state(path, identity, torch.device("cpu")) if ranks.rank == 0 else None
    state = spread(ranks, state, lit, optimizer)
    others = state.get("rng_ranks", [])
    if ranks.rank and len(others) == ranks.size - 1:
        state["rng_cpu"], state["rng_cuda"] = others[ranks.rank - 1]
    elif ranks.rank:
        torch.manual_seed(ranks.seed(seed, step=state["step"]))
        state["rng_cpu"], state["rng_cuda"] = torch.get_rng_state(), []
    return state


def restore(state: dict[str, Any], lit: LitTransformer, optimizer: torch.optim.Optimizer) -> int:
    """Put weights, optimiser and random states back.

    Parameters
    ----------
    state : dict
        Of `read_state` or `read_for_ranks`.
    lit : LitTransformer
        The module.
    optimizer : Optimizer
        Its optimiser.

    Returns
    -------
    int
        The step to go on from.
    """
    lit.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng_cpu"].cpu())
    if state["rng_cuda"]:
        torch.cuda.set_rng_state(state["rng_cuda"][0].cpu())
    return int(state["step"])


def restore_recorder(recorder: Recorder, saved: dict[str, Any]) -> None:
    """Put back what a run's own checkpoint holds of its recorder."""
    recorder.window = list(saved["window"])
    recorder.guard.first = saved["guard_first"]
    recorder.trained_seconds = saved["trained_seconds"]


def save_weights(path: Path, lit: LitTransformer, ranks: Ranks = ALONE) -> None:
    """Write the model's weights as safetensors, by the names of `Transformer`; called by every rank.

    Parameters
    ----------
    path : Path
        The file.
    lit : LitTransformer
        The module.
    ranks : Ranks
        Who trains together; rank 0 writes.
    """
    state = whole(ranks, lit.evaluated.state_dict())
    if ranks.rank == 0:
        tensors = {name: value.contiguous().cpu() for name, value in state.items()}
        write_atomic(path, safetensors.torch.save(tensors))
