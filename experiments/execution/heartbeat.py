"""The heartbeat of a worker: its claim grows while it trains, and it watches for what the training cannot see.

That is: the end of the process that started it, a failure of another rank, a claim that somebody gave up as lost, and a
training that takes no step any more. It must not know what is trained.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from experiments.distributed.ranks import RankFailure, Ranks
from experiments.execution.queue import Claimed
from experiments.execution.retries import Ending, ending_of_rank
from experiments.execution.supervisor import ExitStatus
from experiments.machine.liveness import HEARTBEAT_SECONDS, parent_lost
from experiments.machine.wake import Wake
from experiments.records import RunStatus
from experiments.store.claims import Claims
from experiments.training.state import Superseded


@dataclass
class Heartbeat:
    """Shows and watches the life of one worker."""

    claims: Claims
    """Where claims grow."""
    ranks: Ranks
    """Who trains with it."""
    write_ending: Callable[[Claimed, Ending], None]
    """Writes down how an attempt ended."""
    parent: int | None
    """Process id that this worker ends with; None: nobody's."""
    stall_seconds: float
    """How long a training may take no step before it counts as hung."""
    _stop: Wake = field(default_factory=Wake, init=False)
    _given_up: set[str] = field(default_factory=set, init=False)
    _stepped: float = field(default=0.0, init=False)

    def stop(self, *_: object) -> None:
        """Ask the worker to checkpoint and end; a signal handler."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to end."""
        return self._stop.is_set()

    def step(self, name: str | None = None) -> bool:
        """Note that the training goes on; asked before every step.

        Parameters
        ----------
        name : str, optional
            One of several segments that are trained together; None: the only one.

        Returns
        -------
        bool
            Whether it is to save and end.

        Raises
        ------
        Superseded
            When somebody gave the attempt up as lost, and another may train the same.
        """
        self._stepped = time.monotonic()
        if self._given_up if name is None else name in self._given_up:
            raise Superseded("an observer gave this attempt up as lost, because it had shown no life")
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Wait while others train, unless the worker is asked to end."""
        self._stop.wait(seconds)
        self._look_for_parent()

    @contextlib.contextmanager
    def beating(self, claimed: Claimed) -> Iterator[None]:
        """Let a claim grow while its segment is trained.

        Parameters
        ----------
        claimed : Claimed
            The attempt.
        """
        over = threading.Event()
        self._given_up.discard(claimed.segment.segment_id)
        self._stepped = time.monotonic()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                self._beat(claimed)

        thread = threading.Thread(target=beat, name=f"heartbeat {claimed.segment.segment_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._given_up.discard(claimed.segment.segment_id)

    def _beat(self, claimed: Claimed) -> None:
        name = claimed.segment.segment_id
        with contextlib.suppress(OSError):  # a full disk ends the training itself, with a message
            self.claims.beat(name, claimed.attempt)
        if self.claims.is_over(name, claimed.attempt):
            self._given_up.add(name)
        self._look_for_parent()
        if (failure := self.ranks.failure()) is not None:
            self._abandon(claimed, failure)
        hung = time.monotonic() - self._stepped
        if hung > self.stall_seconds:
            reason = f"the training took no step for {hung:.0f} s; the worker was ended"
            self._exit(claimed, Ending(status=RunStatus.LOST, reason=reason, exit_status=ExitStatus.RESTART))

    def _abandon(self, claimed: Claimed, failure: RankFailure) -> None:
        """Write down what another rank cannot go on from, and end this process: its main thread may wait for ever."""
        self._exit(claimed, ending_of_rank(failure), tell_ranks=True)

    def _exit(self, claimed: Claimed, ending: Ending, *, tell_ranks: bool = False) -> None:
        try:
            self.write_ending(claimed, ending)
            if tell_ranks:
                self.ranks.acknowledge_failure()
        except Exception:  # the process ends either way
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(ExitStatus.RESTART if ending.exit_status is None else ending.exit_status)

    def _look_for_parent(self) -> None:
        if self.parent is not None and parent_lost(self.parent):
            self._stop.set()
