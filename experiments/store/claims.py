"""Claims: who executes what, as small files that only ever appear.

    claims/<name>.<attempt>            one execution: created exclusively, grows by a byte a heartbeat
    claims/<name>.<attempt>.<ending>   how it ended; the reason as JSON

`<name>` is a run_id, or that of a segment of a shared prefix. Workers never remove a claim, so that a stale listing is
safe: an attempt that somebody else took exists, and the exclusive create fails. States and attempt numbers are judged
from one listing of the flat folder. This file must not know torch, or what an execution does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.files import StoreError, link_once, write_atomic
from experiments.machine.liveness import HeartbeatWatch, alive
from experiments.machine.memory import killed_for_memory
from experiments.records import RunStatus

ENDINGS = (
    RunStatus.DONE,
    RunStatus.FAILED,
    RunStatus.DIVERGED,
    RunStatus.INTERRUPTED,
    RunStatus.LOST,
    RunStatus.OOM,
)
"""How an attempt may end."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What one listing says of one run."""

    attempts: int = 0
    """Executions begun so far."""
    heartbeat: int | None = None
    """Size of the latest claim, when that attempt has not ended."""
    endings: tuple[RunStatus, ...] = ()
    """How the ended attempts ended, by attempt."""
    published: bool = False
    """Whether some attempt ended with a published record (done or diverged, or failed for good)."""

    @property
    def running(self) -> bool:
        """Whether the latest attempt has not ended."""
        return self.heartbeat is not None

    def exhausted(self, *, max_failures: int, max_losses: int) -> bool:
        """Say whether the retries of a run are used up.

        Parameters
        ----------
        max_failures : int
            Errors that are allowed.
        max_losses : int
            Vanished workers that are allowed.

        Returns
        -------
        bool
            Whether nothing more is tried.
        """
        return self.endings.count(RunStatus.FAILED) >= max_failures or self.endings.count(RunStatus.LOST) >= max_losses


class Claims:
    """The claims of one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """claims/ of the store."""

    def exists(self, name: str, attempt: int) -> bool:
        """Say whether somebody took an attempt.

        Parameters
        ----------
        name : str
            A run id, or the id of a part of a shared prefix.
        attempt : int
            Number of the attempt, from 1.

        Returns
        -------
        bool
            Whether its claim is there.
        """
        return (self.folder / f"{name}.{attempt}").exists()

    def states(self) -> dict[str, RunState]:
        """Judge the state of every run that was ever claimed, from one listing of the folder.

        Names that are no claim's say nothing.
        """
        attempts: dict[str, dict[int, os.DirEntry[str]]] = {}
        endings: dict[str, dict[int, RunStatus]] = {}
        try:
            entries = os.scandir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        with entries:
            for entry in entries:
                found = parse_claim_name(entry.name)
                if found is None:
                    continue
                name, attempt, ending = found
                if ending is None:
                    attempts.setdefault(name, {})[attempt] = entry
                else:
                    endings.setdefault(name, {})[attempt] = ending
        result = {}
        for name, taken in attempts.items():
            ended, last = endings.get(name, {}), max(taken)
            result[name] = RunState(
                attempts=last,
                heartbeat=None if last in ended else _size(taken[last]),
                endings=tuple(ended[attempt] for attempt in sorted(ended)),
                published=any(ending in (RunStatus.DONE, RunStatus.DIVERGED) for ending in ended.values()),
            )
        return result

    def is_over(self, name: str, attempt: int) -> bool:
        """Say whether an attempt has ended, by its worker or because an observer gave it up.

        Parameters
        ----------
        name : str
            What was claimed.
        attempt : int
            Number of the attempt.

        Returns
        -------
        bool
            Whether its ending is written down.
        """
        return any((self.folder / f"{name}.{attempt}.{known}").exists() for known in ENDINGS)

    def take(self, name: str, attempt: int, owner: Mapping[str, Any]) -> bool:
        """Begin an attempt.

        Parameters
        ----------
        name : str
            A run id, or the id of a part of a shared prefix.
        attempt : int
            Number of the attempt, from 1.
        owner : mapping of str to object
            What tells the worker apart; kept in the claim for people and observers.

        Returns
        -------
        bool
            Whether it is ours; False when somebody else has it.

        Raises
        ------
        StoreError
            When the disk refuses.
        """
        path = self.folder / f"{name}.{attempt}"
        temporary = self.folder / f".claim.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            temporary.write_text(json.dumps(owner, sort_keys=True) + "\n", encoding="utf-8")
            return link_once(temporary, path, lock=None)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror}; finished runs are kept: free the disk or make it writable, "
                "then run the same command again"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def owner(self, name: str, attempt: int) -> dict[str, Any] | None:
        """Read who claimed an attempt.

        Parameters
        ----------
        name : str
            What was claimed.
        attempt : int
            Number of the attempt.

        Returns
        -------
        dict of str to object, or None
            None while the claim's first line is not complete, and where it is damaged.
        """
        path = self.folder / f"{name}.{attempt}"
        try:
            if not path.is_file():
                return None
            text = path.read_text(encoding="utf-8", errors="replace")
            line, newline, _ = text.partition("\n")
            owner = json.loads(line) if newline else None
        except (OSError, ValueError, RecursionError):
            return None
        return owner if isinstance(owner, dict) else None

    def beat(self, name: str, attempt: int) -> None:
        """Show life: the claim grows by one byte.

        Parameters
        ----------
        name : str
            What was claimed.
        attempt : int
            Number of the attempt.

        Raises
        ------
        OSError
            When the disk refuses.
        """
        with (self.folder / f"{name}.{attempt}").open("ab") as stream:
            stream.write(b".")

    def end(self, name: str, attempt: int, ending: RunStatus, reason: str | None = None) -> bool:
        """Write down how an attempt ended.

        Parameters
        ----------
        name : str
            What was claimed.
        attempt : int
            Number of the attempt.
        ending : RunStatus
            One of ENDINGS.
        reason : str or None
            Why, where something went wrong.

        Returns
        -------
        bool
            False when that was written already: an observer gave the attempt up as lost.

        Raises
        ------
        StoreError
            When the disk refuses.
        ValueError
            When that is no ending.
        """
        if ending not in ENDINGS:
            raise ValueError(f"ending {str(ending)!r} is not one of {', '.join(ENDINGS)}")
        if self.is_over(name, attempt):
            return False
        path = self.folder / f"{name}.{attempt}.{ending}"
        write_atomic(path, json.dumps({"reason": reason}) + "\n", durable=False)
        return True

    def reason(self, name: str, attempt: int, ending: RunStatus) -> str | None:
        """Read the reason that was given with an ending.

        Parameters
        ----------
        name : str
            What was claimed.
        attempt : int
            Number of the attempt.
        ending : RunStatus
            How it ended.

        Returns
        -------
        str or None
            None where there was none; the words "its note is damaged" where it cannot be read.
        """
        path = self.folder / f"{name}.{attempt}.{ending}"
        try:
            written = json.loads(path.read_text(encoding="utf-8")) if path.is_file() or not path.exists() else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            return "its note is damaged"
        found = written.get("reason") if isinstance(written, dict) else "its note is damaged"
        return None if found is None else str(found)

    def judge(self, name: str, state: RunState, watch: HeartbeatWatch) -> bool:
        """Write down as lost the latest attempt of a run, when its worker has vanished.

        On this machine the process is asked for. Elsewhere, and where a process is there but frozen, its heartbeat must
        have stood still for the watch's expiry.

        Parameters
        ----------
        name : str
            What was claimed.
        state : RunState
            Its state by the last listing.
        watch : HeartbeatWatch
            Remembers heartbeats of other machines.

        Returns
        -------
        bool
            Whether it was lost.
        """
        if state.heartbeat is None:
            return False
        owner = self.owner(name, state.attempts)
        living = None if owner is None else alive(owner)
        if living is not False and not watch.stalled(f"{name}.{state.attempts}", state.heartbeat):
            return False
        if living is False and owner is not None and killed_for_memory(owner):
            ending, reason = RunStatus.OOM, "the worker was killed for want of memory"
        elif living:
            ending, reason = RunStatus.LOST, f"the worker has shown no life for {watch.expiry_seconds:.0f} s"
        else:
            ending, reason = RunStatus.LOST, "the worker vanished (killed, or its machine went down)"
        self.end(name, state.attempts, ending, reason)
        return True


def parse_claim_name(text: str) -> tuple[str, int, RunStatus | None] | None:
    """Take the name of a file in claims/ apart.

    Parameters
    ----------
    text : str
        Such as `0123456789ab.2.done`.

    Returns
    -------
    tuple of (str, int, RunStatus or None), or None
        What was claimed, the number of the attempt, its ending; None for a name that is no claim's.
    """
    name, *rest = text.split(".")
    if not name or len(rest) not in (1, 2) or not re.fullmatch(r"[1-9][0-9]{0,8}", rest[0]):
        return None
    if len(rest) == 1:
        return name, int(rest[0]), None
    return (name, int(rest[0]), RunStatus(rest[1])) if rest[1] in ENDINGS else None


def _size(entry: os.DirEntry[str]) -> int | None:
    """Bytes of a claim; None when it was taken away since it was listed."""
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return None
