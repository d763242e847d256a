"""The batch script of a sweep on a Slurm cluster: what is asked of Slurm, the splitting of long arrays, the text.

Pure: nothing is asked, written or submitted here. It must not know how a run is trained. Torch-free.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.cluster.scheduler import job_name
from experiments.errors import UserError
from experiments.machine.devices import THREAD_VARIABLES, DeviceKind

MAX_KILLS = 20
"""Times that one element starts its worker again after it was killed."""
MIN_WORKING_SECONDS = 120
"""What must lie between the start of a job and the signal ahead of its limit, which Slurm may send a minute early: a
worker that is always warned while it starts would be queued again for ever."""


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What a sweep asks of Slurm; none of it changes a result."""

    device: DeviceKind = "cpu"
    """cpu or cuda: where each worker trains."""
    partition: str | None = None
    """Partition; None: the cluster's default."""
    account: str | None = None
    """Account to charge."""
    gres: str | None = None
    """Generic resources of each worker and node, such as gpu:1."""
    time: str | None = None
    """Time limit in Slurm's notation; None: the partition's."""
    array_max: int | None = None
    """Workers that may run at a time; None: as many as Slurm starts."""
    nodes: int = 1
    """Nodes of one worker."""
    devices_per_run: int = 1
    """Processes of one worker on each of its nodes, one a GPU."""
    signal_seconds: int = 120
    """How long before the time limit a worker is warned to save and let go."""
    lines: tuple[str, ...] = ()
    """Further #SBATCH options, such as --cpus-per-task=8."""

    def __post_init__(self) -> None:
        for name in ("array_max", "nodes", "devices_per_run", "signal_seconds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} is {value}; give a number of at least 1")
        for name in ("partition", "account", "gres", "time"):
            value = getattr(self, name)
            if value is not None and not is_one_line(value):
                raise UserError(f"--{name} {value!r} holds a line break or a quotation mark; leave it out")
        for line in self.lines:
            if not re.match(r"--?[a-zA-Z]", line) or not line.isprintable():
                raise UserError(f"--sbatch {line!r} is not an option of sbatch; write it as --sbatch=--cpus-per-task=8")
        limit = None if self.time is None else seconds_of(self.time)
        if limit is not None and limit < self.signal_seconds + MIN_WORKING_SECONDS:
            raise UserError(
                f"the time limit {self.time} leaves a worker less than {MIN_WORKING_SECONDS} s before the signal "
                f"{self.signal_seconds} s ahead of it; raise --time or lower --signal-seconds"
            )

    @property
    def num_tasks(self) -> int:
        """Processes of one worker."""
        return self.nodes * self.devices_per_run


def is_one_line(text: str) -> bool:
    """Whether a text may stand in a line that Slurm reads: no line breaks or other control characters, no quotes."""
    return '"' not in text and text.isprintable()


def seconds_of(limit: str) -> int | None:
    """Seconds of a time limit in Slurm's notation: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; None without a limit.

    Parameters
    ----------
    limit : str
        The time limit; UNLIMITED and INFINITE are none.

    Returns
    -------
    int or None
        Seconds.

    Raises
    ------
    UserError
        When it is none of these.
    """
    if limit.upper() in ("UNLIMITED", "INFINITE"):
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if found is None:
        raise UserError(f"--time {limit!r} is no time limit; write 90 (minutes), 4:00:00 or 1-12:00:00")
    days, *parts = found.groups()
    given = [int(part) for part in parts if part is not None]
    if days is not None or len(given) == 3:
        hours, minutes, seconds = (*given, 0, 0)[:3]
    else:
        hours, minutes, seconds = 0, *(*given, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


# -- arrays ------------------------------------------------------------------------------------------------------------


def array_of(count: int, limit: int | None) -> str:
    """`--array`'s value for `count` elements of which at most `limit` run at a time."""
    return f"0-{count - 1}" + (f"%{limit}" if limit is not None and limit < count else "")


def split(count: int, limit: int | None, max_size: int) -> list[str]:
    """Arrays of at most `max_size` elements that hold `count` together; a limit on parallel elements is shared out.

    Slurm limits each array by itself, so that every part has at least one at a time.
    """
    num_parts = -(-count // max_size)
    sizes = [count // num_parts + (part < count % num_parts) for part in range(num_parts)]
    if limit is None:
        return [array_of(size, None) for size in sizes]
    shares = [limit // num_parts + (part < limit % num_parts) for part in range(num_parts)]
    return [array_of(size, max(1, share)) for size, share in zip(sizes, shares, strict=True)]


# -- the script --------------------------------------------------------------------------------------------------------

FIRST_STAYS = """\
# When nothing is free the first element stays, to take up what a vanished worker leaves; the others give way.
[ "$SLURM_ARRAY_TASK_ID" -eq 0 ] || worker+=(--no-linger)"""
ALL_STAY = "# Runs of this sweep share their first steps: a worker that finds nothing free stays until no run is left."

BODY = """\
# One element of the array is one worker: it takes runs until none is free. Ahead of the time limit, and when a job is
# preempted, it saves a checkpoint and lets go of its run, and the element asks to be queued again.
element=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
log() {{ echo "$(date '+%F %T') $element: $*"; }}
{exports}
worker=({command})
{lingering}

pid= warned= signalled=
stop() {{ warned=yes signalled=yes; [ -z "$pid" ] || kill -{forwarded} "$pid" 2>/dev/null; }}
trap stop USR1 USR2 TERM

node=${{SLURMD_NODENAME:-$(hostname)}}
log "on $node, restart ${{SLURM_RESTART_COUNT:-0}}, CUDA_VISIBLE_DEVICES=${{CUDA_VISIBLE_DEVICES-none}}"
kills=0 status=4
while [ -z "$warned" ]; do
  "${{worker[@]}}" &
  pid=$!
  [ -z "$warned" ] || stop  # the signal came before the worker's number was known
  wait "$pid"; status=$?
  while [ -n "$signalled" ] || kill -0 "$pid" 2>/dev/null; do signalled=; wait "$pid"; status=$?; done  # cut short
  if [ "$status" -gt 128 ] && [ "$kills" -lt {max_kills} ]; then kills=$((kills + 1))  # killed: start it again
  elif [ "$status" -ne 75 ]; then break; fi  # 75: it asks for a fresh process
done
log "the worker ended with status $status"

# 4, or warned, and anything but an end of its own: there is more to do. Only a RUNNING job asks to come back: one
# that was cancelled, or that Slurm itself queues again, is COMPLETING.
if [ "$status" -eq 4 ] || {{ [ -n "$warned" ] && ! [[ "$status" =~ ^[0-3]$ ]]; }}; then
  for attempt in 1 2 3; do
    if state=$(squeue --noheader --jobs="$element" --format=%T); then
      [ "$state" = RUNNING ] || break
      log "asks to be queued again"
      scontrol requeue "$element" && exit 0
    fi
    sleep 5  # the controller is busy
  done
fi
exit "$status"
"""


@dataclass(frozen=True, kw_only=True)
class BatchScript:
    """The batch script of a sweep: an array of workers that save and are queued again."""

    sweep: str
    """Name of the sweep."""
    manifest: Path
    """sweeps/<name>.json."""
    logs: Path
    """Folder of the workers' logs."""
    array: str
    """Value of `--array`."""
    options: SlurmOptions
    """What is asked of Slurm."""
    all_stay: bool = False
    """Whether workers that find nothing free stay, because what others train will free more for them."""
    arguments: Sequence[str] = ()
    """Options handed to each `work` command."""
    python: str = sys.executable
    """Interpreter, where the compute nodes find it."""
    folder: Path | None = None
    """Where the job starts; None: here."""

    def text(self) -> str:
        """Write the script."""
        many = self.options.num_tasks > 1
        body = BODY.format(
            exports="export " + " ".join(f"{name}=1" for name in (*THREAD_VARIABLES, "PYTHONSAFEPATH")),
            command=" ".join(self._command()),
            lingering=ALL_STAY if self.all_stay else FIRST_STAYS,
            forwarded="USR1" if many else "TERM",  # srun passes USR1 on, and would kill at TERM
            max_kills=MAX_KILLS,
        )
        title = f"# Workers of the sweep {self.sweep}, written by `isoflop run --launcher slurm`."
        return "\n".join(["#!/usr/bin/env bash", title, *self._directives(), "", body])

    def _directives(self) -> list[str]:
        """The lines that Slurm reads."""
        options, percent = self.options, str(self.logs.resolve()).replace("%", "%%")
        named = {name: getattr(options, name) for name in ("partition", "account", "gres", "time")}
        head = [
            f"--job-name={job_name(self.sweep)}",
            f"--array={self.array}",
            f"--nodes={options.nodes}",
            f"--ntasks-per-node={options.devices_per_run}",
            *(f"--{name}={value}" for name, value in named.items() if value is not None),
            *options.lines,
            f"--signal=B:USR1@{options.signal_seconds}",
            "--requeue",
            "--open-mode=append",
            f"--chdir={self.folder or Path.cwd()}",
            f"--output={percent}/slurm-%A_%a.log",
        ]
        for line in head:
            if line not in options.lines and not is_one_line(line):
                raise UserError(f"{line!r} cannot stand in a batch script; give the store and the folder plain names")
        return ["#SBATCH " + re.sub(r"=(.*\s.*)$", r'="\1"', line) for line in head]

    def _command(self) -> list[str]:
        """The words of one worker's command line, quoted for a shell."""
        options, manifest = self.options, str(self.manifest.resolve())
        words = [self.python, "-m", "experiments", "work", manifest, "--device", options.device, *self.arguments]
        parts = [shlex.quote(word) for word in words]
        if options.num_tasks == 1:
            return [*parts, "--parent", "$$"]
        # once one process has ended, the others have a minute to save, and are ended then if they hang
        starter = ["srun", f"--ntasks={options.num_tasks}", "--kill-on-bad-exit=0", "--wait=60"]
        places = ["--nodes", str(options.nodes), "--devices-per-run", str(options.devices_per_run)]
        return [*starter, *parts, *places]
