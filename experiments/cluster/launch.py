"""The Slurm launcher: writes a sweep's batch script, submits it as an array of workers, keeps the job numbers.

Slurm allocates, prioritises, preempts and requeues; the workers share the runs among themselves through the store. What
Slurm says afterwards is read by scheduler.py. It must not know how a run is trained. Torch-free.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.cluster.scheduler import (
    Element,
    Submission,
    ask,
    live_elements,
    read_submissions,
    require,
    submissions_path,
)
from experiments.cluster.script import BatchScript, SlurmOptions, array_of, split
from experiments.errors import UserError
from experiments.files import write_atomic
from experiments.store.store import RunStore

WORKER_OPTIONS = ("expiry_seconds", "strategy")
"""Options of the command line that are the workers' own."""
MAX_DEFAULT_WORKERS = 32
"""Workers that are asked for when nobody says how many."""


def script_path(store: RunStore, sweep: str) -> Path:
    """sweeps/<name>.sbatch."""
    return store.sweeps / f"{sweep}.sbatch"


def max_array_size() -> int:
    """Elements that this cluster allows in one array."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    if found is None:
        raise UserError("`scontrol show config` names no MaxArraySize; is this a Slurm cluster?")
    return int(found.group(1))


def num_wanted(missing: int, workers: int | None) -> int:
    """Workers for `missing` runs: never more than runs, and at most MAX_DEFAULT_WORKERS unless `workers` says more."""
    return min(missing, MAX_DEFAULT_WORKERS if workers is None else workers)


def submit(script: Path, arrays: Sequence[str], store: RunStore, sweep: str) -> list[Submission]:
    """Submit one script as one or several arrays; each job's number is written down before the next is submitted.

    Parameters
    ----------
    script : Path
        The batch script.
    arrays : sequence of str
        Values of `--array`.
    store : RunStore
        Where the numbers are written down.
    sweep : str
        Name of the sweep.

    Raises
    ------
    UserError
        When Slurm refuses.
    """
    made = []
    for array in arrays:
        answer = ask("sbatch", "--parsable", f"--array={array}", str(script.resolve()))
        submission = Submission(job=answer.split(";")[0].strip(), array=array, unix_seconds=round(time.time(), 3))
        with submissions_path(store, sweep).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(vars(submission), sort_keys=True) + "\n")
        made.append(submission)
    return made


def queued_summary(elements: Sequence[Element]) -> str:
    """What is queued or running, in words: '3 running, 9 pending (Resources), jobs 15, 16'."""
    counts: dict[str, int] = {}
    for element in elements:
        counts[element.state.lower()] = counts.get(element.state.lower(), 0) + 1
    reasons = sorted({element.reason for element in elements if element.state == "PENDING" and element.reason})
    words = [
        f"{number} {state}" + (f" ({', '.join(reasons)})" if state == "pending" and reasons else "")
        for state, number in sorted(counts.items(), reverse=True)
    ]
    jobs = sorted({element.job for element in elements}, key=lambda job: (len(job), job))
    return f"{', '.join(words)}, {'jobs' if len(jobs) > 1 else 'job'} {', '.join(jobs)}"


# -- the launcher of `run` ---------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `run --launcher slurm`."""
    group = parser.add_argument_group("Slurm (--launcher slurm)")
    group.add_argument("--dry-run", action="store_true", help="print the batch script; write and submit nothing")
    group.add_argument("--partition", help="partition")
    group.add_argument("--account", help="account to charge")
    group.add_argument("--gres", help="resources of each worker, such as gpu:1")
    group.add_argument("--time", help="time limit of a job; a worker that meets it saves and is queued again")
    group.add_argument("--array-max", type=int, help="workers that may run at a time")
    group.add_argument("--nodes", type=int, help="nodes of one worker, for data-parallel runs (default: 1)")
    group.add_argument("--signal-seconds", type=int, help="seconds ahead of the limit at which it saves (default: 120)")
    group.add_argument(
        "--expiry-seconds", type=float, help="how long the heartbeat of a worker on another node may stand still"
    )
    group.add_argument("--sbatch", action="append", metavar="OPTION", help="another line, as --sbatch=--qos=long")


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of this group that the command line gave, by the names of SlurmOptions and their own."""
    names = {name: name for name in ("dry_run", *WORKER_OPTIONS, *SlurmOptions.__dataclass_fields__)}
    del names["device"]
    names["lines"] = "sbatch"
    values = {name: getattr(args, option) for name, option in names.items()}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def options_of(args: argparse.Namespace) -> SlurmOptions:
    """What the command line asks of Slurm; 'auto' is cuda where GPUs are asked for. UserError without a Slurm."""
    given = given_options(args)
    if not given.get("dry_run"):
        require("sbatch")
    for name in ("dry_run", *WORKER_OPTIONS):
        given.pop(name, None)
    given["lines"] = tuple(given.get("lines", ()))
    device = args.device
    if device == "auto":
        device = "cuda" if re.search(r"\bgpus?\b", " ".join([given.get("gres", ""), *given["lines"]])) else "cpu"
    return SlurmOptions(device=device, **given)


def worker_arguments(args: argparse.Namespace) -> list[str]:
    """Options of `work` that only workers on several machines need."""
    given = {name: value for name in WORKER_OPTIONS if (value := getattr(args, name)) is not None}
    return [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), str(value))]


def refuse_options(args: argparse.Namespace) -> None:
    """UserError when options of Slurm were given to another launcher."""
    given = [
        "--sbatch" if name == "lines" else "--" + name.replace("_", "-")
        for name in given_options(args)
        if name not in ("devices_per_run", "strategy")
    ]
    if given:
        raise UserError(f"{given[0]} is an option of --launcher slurm; add that, or leave {given[0]} out")


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What there is to train, and by whom."""

    missing: int
    """Runs without a record."""
    added: int = 0
    """Runs that workers which run already do not know of; those that still wait will."""
    workers: int | None = None
    """Workers wanted; those that are queued already count. None: one a run, up to MAX_DEFAULT_WORKERS."""
    all_stay: bool = False
    """Whether workers that find nothing free stay, because what others train will free more for them."""
    arguments: Sequence[str] = ()
    """Options handed to each `work` command."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers is {self.workers}; give a number of at least 1")


def launch(options: SlurmOptions, *, store: RunStore, sweep: str, demand: Demand, dry_run: bool = False) -> str:
    """Write the script and submit the workers that are missing.

    Parameters
    ----------
    options : SlurmOptions
        What is asked of Slurm.
    store : RunStore
        Where the manifest is.
    sweep : str
        Its name.
    demand : Demand
        What there is to train.
    dry_run : bool
        Only give the script's text.

    Returns
    -------
    str
        What was done, in words; the script with `dry_run`.

    Raises
    ------
    UserError
        When there is no Slurm, or it refuses.
    """
    missing, workers = demand.missing, demand.workers
    wanted = num_wanted(missing, workers)
    if dry_run:
        return _script(store, sweep, array_of(max(1, wanted), options.array_max), options, demand)
    if missing == 0:
        return "every run is done; nothing was submitted\n"
    alive = live_elements(store, sweep) if read_submissions(store, sweep) else []
    waiting = sum(element.state == "PENDING" for element in alive)
    number = max(wanted - len(alive), num_wanted(demand.added, workers) - waiting)
    if number <= 0:
        return (
            f"{len(alive)} workers of this sweep are queued already ({queued_summary(alive)}); nothing was submitted\n"
        )
    arrays = split(number, options.array_max, max_array_size())
    logs, script = store.root / "logs", script_path(store, sweep)
    logs.mkdir(exist_ok=True)
    write_atomic(script, _script(store, sweep, arrays[0], options, demand))
    made = submit(script, arrays, store, sweep)
    before = f" beside {len(alive)} that are queued already ({queued_summary(alive)})" if alive else ""
    jobs = "jobs" if len(made) > 1 else "job"
    return (
        f"submitted {number} workers{before} for {missing} runs: {jobs} {', '.join(item.job for item in made)}\n"
        f"script: {script}; logs: {logs}/slurm-<job>_<element>.log\n"
        f"`isoflop status {store.manifest_path(sweep)}` says how far they are; `cancel` ends them; "
        f"`sync --follow` mirrors them to W&B\n"
    )


def _script(store: RunStore, sweep: str, array: str, options: SlurmOptions, demand: Demand) -> str:
    return BatchScript(
        sweep=sweep,
        manifest=store.manifest_path(sweep),
        logs=store.root / "logs",
        array=array,
        options=options,
        all_stay=demand.all_stay,
        arguments=demand.arguments,
    ).text()
