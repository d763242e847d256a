"""Checkpoints: everything that the next step depends on, as plain values and tensors, written atomically.

There are two kinds: a run's own newest checkpoint, and those of a shared prefix, from which runs of several budgets
branch. The latter also hold the loss and gradient norm of every step, so that each run can write the rows that it would
have written alone. Both hold whole states, however many ranks trained, so that any other number can go on from them. It
must not know loops, claims or sweeps.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from experiments.digests import with_trailer, without_trailer
from experiments.distributed.ranks import ALONE, Ranks
from experiments.distributed.sharding import spread, whole
from experiments.files import replace, set_aside, write_atomic
from experiments.machine.hardware import is_out_of_memory
from experiments.store.checkpoints import previous_of
from experiments.training.recorder import Recorder
from models.lit import LitTransformer

STATE_FIELDS = {"run_id", "step", "model", "optimizer", "rng_cpu", "rng_cuda"}
"""What every checkpoint holds."""


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


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be gone on from; the message says why."""


def write_state(path: Path, state: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Replace a checkpoint atomically; a full disk leaves the one before.

    Parameters
    ----------
    path : Path
        The checkpoint. It ends with the digest of its content.
    state : dict
        Plain values and tensors.
    keep_previous : bool
        Whether the one that was there stays under the name that `previous_of` gives.
    """
    buffer = io.BytesIO()
    torch.save(_compact(state), buffer)
    content = with_trailer(buffer.getvalue())
    if keep_previous and path.exists():
        replace(path, previous_of(path))
    write_atomic(path, content)


def _compact(value: Any) -> Any:
    """Copy tensors that are views of larger ones, which torch would write whole."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        return {name: _compact(item) for name, item in value.items()}
    return [_compact(item) for item in value] if isinstance(value, list) else value


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
    DamagedCheckpoint
        When it cannot be read, has changed since it was written, or belongs to something else.
    """
    try:
        content = without_trailer(path.read_bytes())
    except OSError as error:
        raise DamagedCheckpoint(f"it cannot be read: {error.strerror}") from error
    if content is None:
        raise DamagedCheckpoint("it has changed since it was written: its digest is another")
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedCheckpoint(f"it cannot be read: {reason}") from error
    if not isinstance(state, dict) or not set(state) >= STATE_FIELDS:
        raise DamagedCheckpoint("it is no checkpoint")
    if state["run_id"] != identity:
        raise DamagedCheckpoint(f"it belongs to run {state['run_id']}")
    return state


def read_or_set_aside(path: Path, identity: str, device: torch.device, lit: LitTransformer) -> dict[str, Any] | None:
    """Read a checkpoint; one that cannot be gone on from is moved out of the way, and standard error says so.

    Parameters
    ----------
    path : Path
        The checkpoint.
    identity : str
        As in `read_state`.
    device : torch.device
        Where its tensors go.
    lit : LitTransformer
        The module that will load it.

    Returns
    -------
    dict or None
        None where there is none, or none that is whole.
    """
    if not path.exists():
        return None
    try:
        state = read_state(path, identity, device)
        shapes = {name: tuple(value.shape) for name, value in state["model"].items()}
        if shapes != {name: tuple(value.shape) for name, value in lit.state_dict().items()}:
            raise DamagedCheckpoint("it holds another model")
    except DamagedCheckpoint as error:
        moved = set_aside(path)
        sys.stderr.write(f"warning: {path} is set aside as {'' if moved is None else moved.name}: {error}\n")
        return None
    return state


def spread_state(
    state: dict[str, Any] | None, lit: LitTransformer, optimizer: torch.optim.Optimizer, ranks: Ranks, *, seed: int
) -> dict[str, Any]:
    """Give the checkpoint that rank 0 read to every rank, in the form that its module loads.

    Random states are each rank's own where as many ranks wrote them; else those of other ranks than 0 begin anew.

    Parameters
    ----------
    state : dict or None
        Of `read_state`, on rank 0.
    lit : LitTransformer
        The module that will load it.
    optimizer : Optimizer
        Its optimiser.
    ranks : Ranks
        Who trains together.
    seed : int
        The run's seed.
    """
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
        Of `read_state` or `spread_state`.
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
