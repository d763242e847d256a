"""How an attempt ended and whether the run is tried again: what an exception means, what is written down of it.

Owns error.txt, records of failed and diverged runs, the endings of claims, and the micro-batch, which is halved after
each attempt that ran out of memory. It must not know loops or heartbeats.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import torch

from experiments.config.kinds import AnyRun, canonical, design_of
from experiments.data.tokens import DamagedTokens
from experiments.distributed.ranks import RankFailure
from experiments.errors import UserError
from experiments.execution.engine import Execution, is_peer_lost
from experiments.execution.queue import Claimed
from experiments.execution.supervisor import ExitStatus
from experiments.files import write_atomic
from experiments.machine.hardware import is_out_of_memory
from experiments.records import RunRecord, RunStatus
from experiments.store.checkpoints import prefix_folder
from experiments.store.claims import RunState
from experiments.store.configs import ConfigError
from experiments.store.store import RunStore
from experiments.training.state import Diverged, Interrupted, Superseded

PEER_LOST = "one of its processes vanished (killed, out of memory, or its machine went down)"
REFUSED = "the worker stopped: see its message"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended."""

    status: RunStatus
    """done, interrupted, diverged, failed, lost or oom."""
    reason: str | None = None
    """Why, in one line."""
    trace: str | None = None
    """The traceback of an error."""
    exit_status: ExitStatus | None = None
    """The status with which the worker is to end; None: it goes on."""

    @property
    def breaks_group(self) -> bool:
        """Whether processes that train together cannot go on after it."""
        failed = self.status in (RunStatus.OOM, RunStatus.FAILED, RunStatus.LOST)
        return failed or self.exit_status == ExitStatus.REFUSED


def ending_of(error: BaseException | None, *, in_group: bool) -> Ending:
    """Say what an exception means for the attempt that raised it.

    Parameters
    ----------
    error : BaseException or None
        None when the attempt went well.
    in_group : bool
        Whether several processes train together: after a failure of one all start afresh.
    """
    if error is None:
        return Ending(status=RunStatus.DONE)
    if isinstance(error, Interrupted):
        return Ending(status=RunStatus.INTERRUPTED, reason=str(error), exit_status=ExitStatus.STOPPED)
    if isinstance(error, Superseded):
        return Ending(status=RunStatus.LOST, reason=str(error))
    if isinstance(error, Diverged):
        return Ending(status=RunStatus.DIVERGED, reason=str(error))
    if isinstance(error, DamagedTokens):  # a fresh process opens them, and makes them anew
        return Ending(status=RunStatus.INTERRUPTED, reason=str(error), exit_status=ExitStatus.RESTART)
    if isinstance(error, ConfigError):  # other runs are not concerned
        return Ending(status=RunStatus.FAILED, reason=str(error))
    if isinstance(error, UserError):
        return Ending(status=RunStatus.INTERRUPTED, reason=REFUSED, exit_status=ExitStatus.REFUSED)
    trace = "".join(traceback.format_exception(error))
    restart = ExitStatus.RESTART if in_group else None
    if is_out_of_memory(error):
        return Ending(status=RunStatus.OOM, trace=trace, exit_status=restart)
    if in_group and is_peer_lost(error):
        return Ending(status=RunStatus.LOST, reason=PEER_LOST, exit_status=restart)
    if isinstance(error, torch.AcceleratorError):  # the context of the device is lost with it
        restart = ExitStatus.RESTART
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return Ending(status=RunStatus.FAILED, reason=reason, trace=trace, exit_status=restart)


def ending_of_rank(failure: RankFailure) -> Ending:
    """Say what the failure of another rank means for the attempt.

    Parameters
    ----------
    failure : RankFailure
        As that rank reported it.
    """
    if failure.ending == RunStatus.OOM:
        return Ending(status=RunStatus.OOM, trace=failure.trace, exit_status=ExitStatus.RESTART)
    if failure.ending == RunStatus.FAILED:
        reason = f"rank {failure.rank}: {failure.reason}"
        return Ending(status=RunStatus.FAILED, reason=reason, trace=failure.trace, exit_status=ExitStatus.RESTART)
    return Ending(status=RunStatus.INTERRUPTED, reason=REFUSED, exit_status=ExitStatus.REFUSED)


@dataclass(frozen=True, kw_only=True)
class EndingWriter:
    """Writes down how attempts ended, and gives up a run whose retries are used up."""

    store: RunStore
    """Where claims and records are."""
    execution: Execution
    """What records say of the machine."""
    max_failures: int
    """Errors after which a run is recorded as failed."""

    def write(self, claimed: Claimed, ending: Ending) -> None:
        """Write down how an attempt ended: error.txt, the record of a run that is given up, the end of the claim.

        Parameters
        ----------
        claimed : Claimed
            The attempt.
        ending : Ending
            How it ended.
        """
        segment = claimed.segment
        status, reason = ending.status, ending.reason
        if ending.trace is not None:
            folder = prefix_folder(self.store, str(segment.prefix)) if segment.is_prefix else None
            write_atomic((folder or self.store.run_folder(segment.run_id)) / "error.txt", ending.trace)
        given_up = None
        if status == RunStatus.OOM:
            status, reason, given_up = self._out_of_memory(claimed, str(ending.trace))
        elif status == RunStatus.FAILED:
            failures = self.store.claims.states()[segment.segment_id].endings.count(RunStatus.FAILED) + 1
            if failures >= self.max_failures:
                given_up = f"{reason} ({failures} attempts{'; see error.txt' if ending.trace is not None else ''})"
        elif status == RunStatus.DIVERGED:
            given_up = reason
        if given_up is not None and not segment.is_prefix:
            self._publish(segment.run_id, claimed.attempt, status, given_up)
        self.store.claims.end(segment.segment_id, claimed.attempt, status, reason)

    def give_up(self, run_id: str, state: RunState) -> None:
        """Publish as failed a run whose retries are used up, unless that was done.

        Parameters
        ----------
        run_id : str
            The run.
        state : RunState
            How its attempts ended.
        """
        if self.store.is_published(run_id):
            return
        named = [name for name in (RunStatus.FAILED, RunStatus.LOST) if name in state.endings]
        counts = ", ".join(f"{state.endings.count(name)} {name}" for name in named)
        seen = "; see error.txt" if (self.store.run_folder(run_id) / "error.txt").exists() else ""
        self._publish(run_id, state.attempts, RunStatus.FAILED, f"its retries are used up ({counts}){seen}")

    def _out_of_memory(self, claimed: Claimed, trace: str) -> tuple[RunStatus, str, str | None]:
        """(status, reason, why the run is given up): the next attempt holds half as many sequences, down to one."""
        config = self.store.read_any(claimed.segment.run_id)
        held = micro_batch_of(config, claimed.num_ooms, self.execution.ranks.size)
        if held > 1:
            reason = f"out of memory with {held} sequences at a time; the next attempt takes {held // 2}"
            return RunStatus.OOM, reason, None
        error = trace.strip().splitlines()[-1].partition(":")[0]
        reason = f"out of memory with one sequence at a time ({error}); see error.txt"
        return RunStatus.FAILED, reason, reason

    def _publish(self, run_id: str, attempt: int, status: RunStatus, reason: str) -> None:
        """Publish the record of a run that is not trained on; without a config that can be read there is none."""
        try:
            config = self.store.read_any(run_id)
        except ConfigError as error:
            sys.stderr.write(f"warning: run {run_id} {status}: {error}\n")
            return
        rows = self.store.read_metrics(run_id)
        last = {key: rows[-1][key] for key in ("step", "train_loss", "lr")} if rows else {}
        outcome: dict[str, Any] = {f"last_{key}": value for key, value in last.items()}
        held = micro_batch_of(config, 0, self.execution.ranks.size)
        self.store.publish(
            RunRecord(
                run_id=run_id,
                status=status,
                reason=reason,
                config=canonical(config),
                design=design_of(config, num_train_tokens=self.execution.num_train_tokens(config)),
                outcome=outcome,
                execution=self.execution.facts(config, attempt=attempt, began=time.time(), micro_batch=held),
            )
        )


def micro_batch_of(config: AnyRun, num_ooms: int, num_ranks: int, chosen: int | None = None) -> int:
    """How many sequences a rank holds at a time after attempts that ran out of memory: half as many for each.

    Parameters
    ----------
    config : AnyRun
        The run.
    num_ooms : int
        Attempts that ran out of memory.
    num_ranks : int
        Processes that train together.
    chosen : int, optional
        Most sequences that the user allows.
    """
    share = -(-config.batch_sequences // num_ranks)
    return max(1, min(share, chosen or share) >> num_ooms)
