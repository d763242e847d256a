"""What Slurm says of a sweep's jobs, and which run each of them trains; cancelling them. Torch-free.

The store says what is done; the scheduler only says what is queued and running, and why not. Jobs are known by the
numbers that a submission wrote down beside the manifest, never by who asks. It must not know how jobs are submitted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.store.store import RunStore

TIMEOUT_SECONDS = 60.0
"""How long a command of Slurm may take before it is given up."""
SQUEUE_FORMAT = "%F|%K|%T|%r|%N|%M|%L|%j"
"""Array job, element, state, reason, nodes, time used, time left, name."""
SACCT_FIELDS = "JobID,State,ExitCode,Elapsed,NodeList"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One array that was submitted."""

    job: str
    """Its job number."""
    array: str
    """Its elements, as `0-11%4`."""
    unix_seconds: float
    """When, for people."""


@dataclass(frozen=True, kw_only=True)
class Element:
    """One worker in Slurm's eyes."""

    job: str
    """Number of its array."""
    index: str
    """Its number in the array."""
    state: str
    """Slurm's state: PENDING, RUNNING, COMPLETING, TIMEOUT, NODE_FAIL ..."""
    reason: str | None = None
    """Why it waits."""
    nodes: str | None = None
    """Where it runs or ran."""
    used: str | None = None
    """Time used, as Slurm writes it."""
    left: str | None = None
    """Time to its limit, as Slurm writes it."""

    @property
    def name(self) -> str:
        """`15_3`."""
        return f"{self.job}_{self.index}"


def job_name(sweep: str) -> str:
    """Name of a sweep's jobs."""
    return f"isoflop-{sweep}"


def require(program: str) -> None:
    """UserError when this machine has no such command."""
    if shutil.which(program) is None:
        raise UserError(f"{program} is not on this machine; run this command on a login node of a Slurm cluster")


def ask(program: str, *words: str) -> str:
    """Standard output of one of Slurm's commands.

    Parameters
    ----------
    program : str
        The command, such as squeue.
    *words : str
        Its arguments.

    Returns
    -------
    str
        What it printed.

    Raises
    ------
    UserError
        When this machine has no such command, or it refuses; one sentence with its reason.
    """
    require(program)
    try:
        answer = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{program} has not answered for {TIMEOUT_SECONDS:.0f} s; try again later") from None
    if answer.returncode != 0:
        prefix = f"{program}: error: "
        lines = [line.removeprefix(prefix).strip() for line in answer.stderr.splitlines() if line.strip()]
        reason = "; ".join(dict.fromkeys(lines)) or f"exit status {answer.returncode}"
        raise UserError(f"{program} refused: {reason}")
    return answer.stdout


# -- what was submitted ------------------------------------------------------------------------------------------------


def submissions_path(store: RunStore, sweep: str) -> Path:
    """sweeps/<name>.jobs: a line of JSON for each array that was submitted."""
    return store.sweeps / f"{sweep}.jobs"


def read_submissions(store: RunStore, sweep: str) -> list[Submission]:
    """Arrays that were submitted for a sweep, oldest first."""
    path = submissions_path(store, sweep)
    if not path.exists():
        return []
    try:
        return [Submission(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it when `squeue` shows no job of this sweep") from error


# -- what Slurm says ---------------------------------------------------------------------------------------------------


def parse_squeue(text: str) -> list[tuple[str, Element]]:
    """(job name, element) of each line of `squeue --array` in SQUEUE_FORMAT."""
    found = []
    for line in text.splitlines():
        job, index, state, reason, nodes, used, left, name = line.split("|", 7)
        element = Element(
            job=job,
            index=index,
            state=state,
            reason=None if reason in ("", "None") else reason,
            nodes=nodes or None,
            used=used or None,
            left=left or None,
        )
        found.append((name, element))
    return found


def live_elements(store: RunStore, sweep: str) -> list[Element]:
    """Elements of a sweep's jobs that are queued, running or on their way out; UserError when Slurm cannot be asked."""
    jobs = {submission.job for submission in read_submissions(store, sweep)}
    answer = ask("squeue", "--noheader", "--array", f"--name={job_name(sweep)}", f"--format={SQUEUE_FORMAT}")
    return [element for name, element in parse_squeue(answer) if element.job in jobs and name == job_name(sweep)]


def parse_sacct(text: str) -> list[Element]:
    """Elements from `sacct --parsable2 --allocations` with SACCT_FIELDS; pending ranges are left to squeue."""
    found = []
    for line in text.splitlines():
        identity, state, _, elapsed, nodes = line.split("|", 4)
        job, _, index = identity.partition("_")
        if index.isdigit():
            found.append(Element(job=job, index=index, state=state.split()[0], nodes=nodes, used=elapsed))
    return found


def ended_elements(jobs: Sequence[str]) -> list[Element] | None:
    """Elements that have ended, by sacct; None where the cluster keeps no accounts."""
    if not jobs or shutil.which("sacct") is None:
        return None
    words = [f"--jobs={','.join(jobs)}", "--noheader", "--parsable2", "--allocations", f"--format={SACCT_FIELDS}"]
    try:
        answer = ask("sacct", *words)
    except UserError:  # accounting is switched off on many small clusters; what is done, the store knows
        return None
    return [item for item in parse_sacct(answer) if item.state not in ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED")]


# -- beside the store's view -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SchedulerView:
    """A sweep's jobs now."""

    elements: tuple[Element, ...]
    """Queued and running."""
    ended: tuple[Element, ...] | None
    """Ended, None where Slurm keeps no accounts."""
    runs: Mapping[str, str]
    """Element -> the run, or the segment of a shared prefix, that its worker says it trains."""

    @property
    def num_running(self) -> int:
        """Workers that run now."""
        return sum(element.state == "RUNNING" for element in self.elements)

    @property
    def vanished(self) -> dict[str, str]:
        """Element -> run, where the store says 'running' and Slurm no longer knows the job: its worker is gone."""
        alive = {element.name for element in self.elements}
        return {name: run_id for name, run_id in self.runs.items() if name not in alive}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `status --json`."""
        return {
            "launcher": "slurm",
            "jobs": [vars(element) | {"run_id": self.runs.get(element.name)} for element in self.elements],
            "ended": None if self.ended is None else [vars(element) for element in self.ended],
            "vanished": self.vanished,
        }


def view(store: RunStore, sweep: str, names: Iterable[str]) -> SchedulerView | None:
    """What Slurm says of a sweep; None when it was never submitted to one.

    Parameters
    ----------
    store : RunStore
        Where the manifest is.
    sweep : str
        Its name.
    names : iterable of str
        Names under which workers claim: runs, and segments of shared prefixes.

    Returns
    -------
    SchedulerView or None
        What is queued, runs or has ended.

    Raises
    ------
    UserError
        When it was, and Slurm cannot be asked from here.
    """
    submissions = read_submissions(store, sweep)
    if not submissions:
        return None
    return SchedulerView(
        elements=tuple(live_elements(store, sweep)),
        ended=None if (ended := ended_elements([item.job for item in submissions])) is None else tuple(ended),
        runs=trained_by(store, names),
    )


def trained_by(store: RunStore, names: Iterable[str]) -> dict[str, str]:
    """Element -> what it trains, of all that is being trained: each claim names the job of its worker."""
    states, found = store.claims.states(), {}
    for name in names:
        state = states.get(name)
        if state is not None and state.running:
            owner = store.claims.owner(name, state.attempts) or {}
            if owner.get("job"):
                found[str(owner["job"])] = name
    return found


def cancel(store: RunStore, sweep: str) -> list[Element]:
    """End all jobs of a sweep; the elements that were queued or running."""
    alive = live_elements(store, sweep) if read_submissions(store, sweep) else []
    if alive:
        ask("scancel", *sorted({element.job for element in alive}))
    return alive
