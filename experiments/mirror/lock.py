"""One mirror of a sweep at a time, also between machines that share nothing but the store's disk.

A mirror claims its place as a worker claims a run: by an exclusive create, with a heartbeat that others watch. It must
not know what is mirrored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.errors import UserError
from experiments.machine.liveness import HEARTBEAT_SECONDS, HeartbeatWatch, alive, identify
from experiments.machine.wake import Wake
from experiments.records import RunStatus
from experiments.store.store import RunStore

KEPT_CLAIMS = 8
"""Ended claims that stay, so that a listing which is some mirrors old still finds the newest."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has the place."""

    who: str
    """For people: 'process 12 on this machine'."""
    certain: bool
    """Whether it was seen alive: as a process here, or by a heartbeat from elsewhere."""


@dataclass
class MirrorLock:
    """The place of one sweep's mirror."""

    folder: Path
    """Folder that gets claims/."""
    name: str
    """What is locked."""
    watch: HeartbeatWatch = field(default_factory=HeartbeatWatch)
    """Judges mirrors of other machines."""
    _attempt: int | None = field(default=None, init=False)
    _first_beats: dict[int, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.name = self.name.replace(".", "_")  # a claim's name ends at its first dot
        self._store = RunStore(self.folder)
        self._over = threading.Event()

    def take(self) -> Holder | None:
        """Take the place; None when it is ours now, else who has it.

        Raises
        ------
        UserError
            When the folder cannot be written.
        """
        try:
            self._store.claims.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write {self._store.claims.folder}: {error.strerror}; give the mirror a folder with --folder"
            ) from error
        state = self._store.claims.states().get(self.name)
        attempt = 0 if state is None else state.attempts
        if state is not None and state.heartbeat is not None:
            holder = self._holder(attempt, state.heartbeat)
            if holder is not None:
                return holder
            self._store.claims.end(self.name, attempt, RunStatus.LOST)
        if not self._store.claims.take(self.name, attempt + 1, identify()):
            return Holder(who="a process that started at the same time", certain=False)
        self._attempt = attempt + 1
        self._forget_old()
        self._over.clear()
        threading.Thread(target=self._beat, args=(self._attempt,), daemon=True).start()
        return None

    def _holder(self, attempt: int, heartbeat: int) -> Holder | None:
        """Who holds an attempt that has not ended; None when its process is gone."""
        owner = self._store.claims.owner(self.name, attempt) or {}
        living = alive(owner) if owner else None
        certain = bool(living)
        if living is None:
            certain = heartbeat > self._first_beats.setdefault(attempt, heartbeat)
            living = not self.watch.stalled(f"{self.name}.{attempt}", heartbeat)
        if not living:
            return None
        here = owner.get("host") == identify()["host"]
        where = "this machine" if here else owner.get("host", "another machine")
        return Holder(who=f"process {owner.get('pid', 'unknown')} on {where}", certain=certain)

    def wait(self, *, until: Wake, patient: bool, warn: Callable[[str], None]) -> bool:
        """Take the place as soon as it is free; False when `until` came first.

        Parameters
        ----------
        until : Wake
            Ends the wait when it is set.
        patient : bool
            Whether to wait for a holder who is certainly alive.
        warn : callable
            Is told once who holds the place.

        Returns
        -------
        bool
            Whether the place was taken.

        Raises
        ------
        UserError
            When somebody who is certainly alive has it and `patient` is false.
        """
        warned = False
        while (holder := self.take()) is not None:
            if holder.certain and not patient:
                raise UserError(
                    f"{holder.who} mirrors this sweep already; stop it or wait until it has ended, "
                    "or add --follow to take over when it ends"
                )
            if not warned:
                warn(f"{holder.who} mirrors this sweep; waiting to take over")
                warned = True
            if until.wait(HEARTBEAT_SECONDS / 2):
                return False
        return True

    def release(self) -> None:
        """Leave the place to the next one."""
        self._over.set()
        if self._attempt is not None:
            self._store.claims.end(self.name, self._attempt, RunStatus.DONE)
            self._attempt = None

    def _beat(self, attempt: int) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a beat that a disk refused costs nothing; the next one shows life as well
                self._store.claims.beat(self.name, attempt)

    def _forget_old(self) -> None:
        for claim in self._store.claims.folder.glob(f"{self.name}.*"):
            number = claim.name.split(".")[1]
            if number.isdigit() and int(number) <= (self._attempt or 0) - KEPT_CLAIMS:
                claim.unlink(missing_ok=True)
