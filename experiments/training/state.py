"""`TrainState`: everything that the next step depends on, from making it to its checkpoints.

Owns how a state is made, resumed, saved, and left behind for the runs that share its prefix. It must not know the loop,
claims or sweeps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from experiments.config.counts import flops_of
from experiments.config.prefixes import prefix_id
from experiments.config.run import RunConfig, run_id
from experiments.data.corpus import TokenCorpus
from experiments.distributed.ranks import ALONE, Ranks
from experiments.distributed.sharding import set_up
from experiments.errors import UserError
from experiments.machine.choices import ExecutionChoices
from experiments.store.checkpoints import earlier_checkpoints, previous_of
from experiments.training.checkpointing import (
    read_or_set_aside,
    restore,
    restore_recorder,
    snapshot,
    spread_state,
    write_state,
)
from experiments.training.history import History, Pending, replay
from experiments.training.recorder import Recorder
from models.lit import LitTransformer
from models.modules.attention import set_attention_backend
from models.modules.transformer import set_recompute

Row = dict[str, Any]
"""One line of metrics.jsonl."""


class Diverged(Exception):
    """The divergence guard stopped the training; the message says why."""


class Interrupted(Exception):
    """The training was asked to stop; a checkpoint was written."""


class Superseded(Exception):
    """The training is somebody else's now; nothing was written."""


@dataclass(frozen=True, kw_only=True)
class TrainSetup:
    """What a training needs from outside; every rank has its own, and rank 0 alone writes."""

    config: RunConfig
    """What to train."""
    corpus: TokenCorpus
    """Its tokens."""
    folder: Path
    """runs/<run_id>, or the folder of the shared prefix; checkpoints go below it."""
    fabric: Fabric
    """Device and precision."""
    write_rows: Callable[[list[Row]], None]
    """Takes finished metric rows."""
    settle: Callable[[], None] = lambda: None
    """Called on rank 0 before a checkpoint is written: brings the rows to the disk, and refuses where tokens have
    changed."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked before every step."""
    checkpoint_seconds: float = 60.0
    """Time between mid-run checkpoints."""
    peak_flops_per_second: float | None = None
    """For model-FLOPs utilisation."""
    start: Path | None = None
    """The checkpoint of a shared prefix to start from; None: from nothing."""
    micro_batch: int | None = None
    """Sequences that a rank holds in memory at a time; None: all of its part of the batch."""
    ranks: Ranks = ALONE
    """Who trains together; every rank takes the same steps."""
    choices: ExecutionChoices = field(default_factory=ExecutionChoices)
    """What the user forces of how runs are executed."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; what rates and the time between checkpoints are measured by."""

    def write(self, rows: list[Row]) -> None:
        """Hand over rows, on rank 0."""
        if rows and self.ranks.rank == 0:
            self.write_rows(rows)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a training goes, and what it leaves behind."""

    identity: str
    """The run_id, or the name of the shared prefix."""
    end_step: int
    """Steps to take in all."""
    checkpoint: Path
    """Its own newest mid-run checkpoint."""
    is_prefix: bool = False
    """Whether it is a shared prefix, whose rows belong to no run."""
    keep: tuple[int, Path] | None = None
    """(step, path): the prefix's checkpoint to leave behind on the way."""


def run_target(config: RunConfig, folder: Path, keep: tuple[int, Path] | None = None) -> Target:
    """Aim at the end of a run.

    Parameters
    ----------
    config : RunConfig
        The run.
    folder : Path
        Its folder.
    keep : (int, Path), optional
        Step and path of a prefix's checkpoint to leave behind on the way.
    """
    checkpoint = folder / "checkpoints" / "latest.pt"
    return Target(identity=run_id(config), end_step=config.num_steps, checkpoint=checkpoint, keep=keep)


def prefix_target(config: RunConfig, folder: Path, keep: tuple[int, Path]) -> Target:
    """Aim at a step of a shared prefix.

    Parameters
    ----------
    config : RunConfig
        One of the runs that share it.
    folder : Path
        The folder of the prefix.
    keep : (int, Path)
        The step and the checkpoint to leave there.
    """
    step, _ = keep
    return Target(
        identity=str(prefix_id(config)),
        end_step=step,
        checkpoint=folder / "checkpoints" / f"latest-{step}.pt",
        is_prefix=True,
        keep=keep,
    )


@dataclass(kw_only=True)
class TrainState:
    """A model in training, after some number of steps."""

    lit: LitTransformer
    """The module."""
    module: Any
    """The module as Fabric wrapped it: whose training step is called."""
    optimizer: torch.optim.Optimizer
    """The optimiser."""
    recorder: Recorder
    """The window of losses so far."""
    pending: Pending
    """Losses that are still on the device, and the history of a shared prefix."""
    step: int = 0
    """Steps taken."""
    shared_steps: int = 0
    """Steps that were taken from the checkpoint of a shared prefix."""
    train_loss: float = math.nan
    """Mean training loss of the last window, nats per token."""


def make_state(setup: TrainSetup, target: Target) -> TrainState:
    """Make a fresh state, or go on from the newest whole checkpoint: the target's own, else the shared prefix's.

    A run that has left its prefix writes the rows that it would have written there.

    Parameters
    ----------
    setup : TrainSetup
        What to train with.
    target : Target
        What is trained.

    Returns
    -------
    TrainState
        Ready for its next step.

    Raises
    ------
    Diverged
        When the rows of the prefix, in this run's windows, say so.
    """
    config = setup.config
    lit = LitTransformer(
        model=config.model,
        optimizer=config.optimizer,
        schedule=config.schedule,
        objective=config.objective,
        total_tokens=config.tokens,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    _execute_as_chosen(setup, lit)
    torch.manual_seed(setup.ranks.seed(config.seed))  # dropout
    recorder = Recorder(
        num_steps=config.num_steps,
        batch_tokens=config.batch_tokens,
        flops_per_step=flops_of(config, tokens=config.batch_tokens),
        peak_flops_per_second=setup.peak_flops_per_second,
        clock=setup.clock,
    )
    module, optimizer = set_up(setup.ranks, setup.fabric, lit)
    history = History() if target.keep is not None else None
    pending = Pending(recorder, history, setup.ranks.mean if setup.ranks.many else None)
    state = TrainState(lit=lit, module=module, optimizer=optimizer, recorder=recorder, pending=pending)
    _go_on(setup, target, state)
    recorder.resume_clock()
    lit.train()
    return state


def _execute_as_chosen(setup: TrainSetup, lit: LitTransformer) -> None:
    """Set a module up to run as the user forces it."""
    choices = setup.choices
    if choices.attention is not None:
        set_attention_backend(lit, choices.attention)
    if choices.recompute:
        set_recompute(lit)
    if choices.compile and setup.ranks.many:
        raise UserError(
            "execution.compile is for runs of one process each; leave it out, or leave --devices-per-run out"
        )
    if choices.cuda_graphs and setup.fabric.device.type != "cuda":
        raise UserError("execution.cuda_graphs needs a GPU; leave it out on a CPU")
    if choices.compile:
        lit.compile_losses(cuda_graphs=choices.replays(setup.config.batch_sequences, setup.micro_batch))


def save_state(setup: TrainSetup, target: Target, state: TrainState) -> None:
    """Replace the newest checkpoint of what is trained; called by every rank.

    Parameters
    ----------
    setup : TrainSetup
        What it is trained with.
    target : Target
        What is trained.
    state : TrainState
        As it is now.
    """
    state.pending.fetch(state.step)
    saved = snapshot(target.identity, state.step, state.lit, state.optimizer, setup.ranks) | {
        "recorder": state.recorder.state(),
        "shared_steps": state.shared_steps,
    }
    if state.pending.history is not None:
        saved["history"] = state.pending.history.state()
    if setup.ranks.rank == 0:
        setup.settle()
        write_state(target.checkpoint, saved, keep_previous=True)


def leave_prefix(setup: TrainSetup, target: Target, state: TrainState) -> None:
    """Leave the checkpoint of a shared prefix behind, unless it is there; its history ends here.

    Parameters
    ----------
    setup : TrainSetup
        What it is trained with.
    target : Target
        What is trained, with the checkpoint to keep.
    state : TrainState
        As it is now, at the step of that checkpoint.
    """
    assert target.keep is not None
    _, path = target.keep
    state.pending.fetch(state.step)
    history = state.pending.history
    if history is not None and not setup.ranks.broadcast(path.exists()):
        saved = snapshot(str(prefix_id(setup.config)), state.step, state.lit, state.optimizer, setup.ranks)
        if setup.ranks.rank == 0:
            setup.settle()
            write_state(path, saved | {"history": history.state(), "trained_seconds": state.recorder.trained_seconds})
    state.recorder.resume_clock()
    state.pending.history = None


def _go_on(setup: TrainSetup, target: Target, state: TrainState) -> None:
    """Bring a fresh state to the newest checkpoint that is whole: the target's own, the one before it, the prefix's."""
    for path in (target.checkpoint, previous_of(target.checkpoint)):
        saved = _read(setup, path, target.identity, state)
        if saved is not None:
            _resume(saved, state)
            return
    starts = () if setup.start is None else (setup.start, *earlier_checkpoints(setup.start))
    for path in setup.ranks.broadcast(starts):
        saved = _read(setup, path, str(prefix_id(setup.config)), state)
        if saved is not None:
            _branch(setup, target, saved, state)
            return


def _resume(saved: dict[str, Any], state: TrainState) -> None:
    """Go on from the target's own checkpoint."""
    state.step = restore(saved, state.lit, state.optimizer)
    restore_recorder(state.recorder, saved["recorder"])
    state.shared_steps = saved.get("shared_steps", 0)
    if state.pending.history is not None:
        state.pending.history = History.of(saved["history"]) if "history" in saved else None


def _branch(setup: TrainSetup, target: Target, saved: dict[str, Any], state: TrainState) -> None:
    """Start from the checkpoint of a shared prefix, and write the rows that a run would have written until there."""
    state.step = state.shared_steps = restore(saved, state.lit, state.optimizer)
    past = History.of(saved["history"])
    rows, verdict = replay(state.recorder, past, state.lit, float(saved["trained_seconds"]))
    if not target.is_prefix:
        setup.write(rows)
        if verdict is not None:
            raise Diverged(verdict)
    if rows:
        state.train_loss = rows[-1]["train_loss"]
    if state.pending.history is not None:
        state.pending.history = past


def _read(setup: TrainSetup, path: Path, identity: str, state: TrainState) -> dict[str, Any] | None:
    """A checkpoint in the form that this rank loads; None where there is none that is whole."""
    ranks, saved = setup.ranks, None
    if ranks.rank == 0:
        device = torch.device("cpu") if ranks.many else setup.fabric.device
        saved = read_or_set_aside(path, identity, device, state.lit)
    if not ranks.broadcast(saved is not None):
        return None
    if ranks.many:
        return spread_state(saved, state.lit, state.optimizer, ranks, seed=setup.config.seed)
    return saved
