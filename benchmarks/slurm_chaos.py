"""Disturb a sweep on a real Slurm until it is done, and compare every digit. `python -m benchmarks.slurm_chaos`.

Two virtual nodes with four fake GPUs each run on this machine. A round lets a worker meet its time limit, kills a
process that trains, kills a worker whole, cancels an element, preempts a node and kills a node. At the end: one
published record a run, executions counted, and losses equal to the last digit to those of an undisturbed sweep; once
with shared prefixes, and once with every run alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.slurm_cluster import SlurmCluster, missing_programs
from experiments.machine.devices import usable_cores
from experiments.store.store import RunStore

SWEEP = """
name: chaos
data: {{corpus: markov, corpus_options: {{num_symbols: 16, num_tokens: 2097152}}, context: 64, val_size: 16384}}
design:
  kind: ladder
  tokens: {tokens}
  shapes: [{{width: 16, depth: 1}}, {{width: 24, depth: 1}}, {{width: 32, depth: 1}}]
  head_width: 8
seeds: {seeds}
recipe: {{learning_rate: 0.01, batch_tokens: 512, warmup_tokens: 10240}}
"""
WORKERS = 5
TIME_LIMIT = "10"
SIGNAL_SECONDS = 10
EXPIRY_SECONDS = 12
PREEMPTION_SECONDS = 60.0
"""How long a job with priority may take to get its node and to end."""
SHORTEST_SECONDS = 50.0
"""For how long the disturbed sweep must train at least: Slurm looks at time limits every half minute."""
ASKS = "asks to be queued again"


def command(*words: object) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "experiments", *map(str, words)]


def outcomes(store: Path) -> dict[str, Any]:
    """run_id -> what was measured, without timing."""
    found = {}
    for path in store.glob("runs/*/record.json"):
        measured = json.loads(path.read_text())["outcome"]
        found[path.parent.name] = [measured[key] for key in ("loss", "loss_se", "val_sums", "train_loss")]
    return found


@dataclass
class Chaos:
    """One sweep on one cluster, and what strikes it."""

    cluster: SlurmCluster
    """The cluster."""
    sweep: Path
    """The sweep's file."""
    store: Path
    """Its store."""
    num_runs: int
    """Runs of the sweep."""
    rng: random.Random
    """Chooses the victims."""
    deadline: float
    """Monotonic time by which all must be done."""
    strikes: Counter[str] = field(default_factory=Counter)
    """What was done, by kind."""
    share: bool = True
    """Whether runs share their first steps."""
    _requeues_before: int | None = field(default=None, init=False)

    @property
    def job(self) -> str:
        """Number of the first array."""
        first = (self.store / "sweeps" / "chaos.jobs").read_text().splitlines()[0]
        return str(json.loads(first)["job"])

    def verb(self, *words: object) -> str:
        """What a command of the project says; it must end well."""
        seconds = max(1.0, self.deadline - time.monotonic())
        answer = subprocess.run(
            command(*words), env=self.cluster.environment, capture_output=True, text=True, check=False, timeout=seconds
        )
        if answer.returncode not in (0, 1):
            raise RuntimeError(f"{words} ended with {answer.returncode}: {answer.stderr}")
        return answer.stdout

    def submit(self) -> str:
        """`run --launcher slurm`; what it says."""
        return self.verb(
            *("run", self.sweep, "--store", self.store, "--launcher", "slurm", "--workers", WORKERS),
            *("--device", "cpu", "--gres", "gpu:1", "--partition", "low", "--time", TIME_LIMIT),
            *([] if self.share else ["--no-sharing"]),
            *("--signal-seconds", SIGNAL_SECONDS, "--checkpoint-seconds", 1, "--expiry-seconds", EXPIRY_SECONDS),
        )

    def elements(self, *states: str) -> dict[str, str]:
        """Element -> node, of the sweep's jobs in these states (all: none given)."""
        answer = self.cluster.command("squeue", "--noheader", "--array", "--partition=low", "--format=%i|%T|%N")
        rows = [line.split("|") for line in answer.splitlines()]
        return {name: node for name, state, node in rows if not states or state in states}

    def until(self, condition: Any, what: str) -> None:
        """Wait for a condition, at most to the deadline."""
        self.cluster.wait_until(condition, what, max(1.0, self.deadline - time.monotonic()))

    def training(self) -> list[dict[str, Any]]:
        """Who trains now: the owners of claims that have not ended and whose element runs."""
        store, running = RunStore(self.store), self.elements("RUNNING")
        owners = [
            store.claims.owner(name, state.attempts) for name, state in store.claims.states().items() if state.running
        ]
        return [owner for owner in owners if owner is not None and owner.get("job") in running]

    def is_done(self) -> bool:
        """Whether every run has a record."""
        return len(list(self.store.glob("runs/*/record.json"))) == self.num_runs

    # -- strikes -------------------------------------------------------------------------------------------------------

    def meet_limit(self) -> bool:
        """Bring the first element's time limit near: Slurm warns it within half a minute. See `met_limit`."""
        if f"{self.job}_0" not in {owner["job"] for owner in self.training()}:
            return False
        self._requeues_before = self.first_log().count(ASKS)
        self.cluster.command("scontrol", "update", f"JobId={self.job}_0", "EndTime=now+45")
        return True

    def met_limit(self) -> None:
        """Wait until the warned element has asked to come back, and give it its time again."""
        if self._requeues_before is not None:
            self.until(lambda: self.first_log().count(ASKS) > self._requeues_before, "the element to be warned")
            self.cluster.command("scontrol", "update", f"JobId={self.job}_0", f"TimeLimit={TIME_LIMIT}")
            self._requeues_before = None

    def first_log(self) -> str:
        """What the first element has logged."""
        return (self.store / "logs" / f"slurm-{self.job}_0.log").read_text()

    def victim_node(self) -> str | None:
        """A node on which something is trained, and not the one on which a time limit comes near."""
        node_of = self.elements("RUNNING")
        spared = node_of.get(f"{self.job}_0") if self._requeues_before is not None else None
        nodes = sorted({node_of[owner["job"]] for owner in self.training() if owner["job"] in node_of} - {spared})
        return self.rng.choice(nodes) if nodes else None

    def kill_trainer(self) -> bool:
        """SIGKILL one process that trains; its supervisor forks it anew."""
        owners = self.training()
        return bool(owners) and _kill(self.rng.choice(owners)["pid"])

    def kill_worker(self) -> bool:
        """SIGKILL a worker with its supervisor; the batch script starts it again."""
        owners = self.training()
        if not owners:
            return False
        pid = self.rng.choice(owners)["pid"]
        try:
            supervisor = psutil.Process(pid).ppid()
        except psutil.NoSuchProcess:
            return False
        return _kill(supervisor) and _kill(pid)

    def cancel_element(self) -> bool:
        """`scancel` an element that trains; it does not come back, and the next submission replaces it."""
        elements = [owner["job"] for owner in self.training() if not owner["job"].endswith("_0")]
        if elements:
            self.cluster.command("scancel", self.rng.choice(elements))
        return bool(elements)

    def preempt(self) -> bool:
        """A job of the partition with priority takes all of a node on which something is trained."""
        node = self.victim_node()
        if node is None:
            return False
        job = self.cluster.command(
            *("sbatch", "--parsable", "--partition=high", f"--nodelist={node}", "--exclusive"),
            *("--output=/dev/null", "--wrap", "sleep 2"),
        )
        try:
            self.cluster.wait_until(self._high_is_over, "the preempting job to end", PREEMPTION_SECONDS)
        except TimeoutError:  # after a lost node, Slurm 22.05 may believe that its cores are taken for ever
            self.cluster.command("scancel", job)
            return False
        return True

    def _high_is_over(self) -> bool:
        return not self.cluster.command("squeue", "--noheader", "--partition=high")

    def kill_node(self) -> bool:
        """SIGKILL everything on a node, wait until Slurm has noticed, and start it again."""
        self.met_limit()
        node = self.victim_node()
        if node is not None:
            self.cluster.kill_node(node)
            self.cluster.wait_for_nodes("down", 1)
            self.cluster.start_node(node)
        return node is not None

    def strike(self, kind: str) -> None:
        """Do one thing as soon as something is being trained that it can strike."""
        self.until(lambda: self.is_done() or self._struck(kind), f"a victim of {kind}")

    def _struck(self, kind: str) -> bool:
        struck = bool(getattr(self, kind)())
        self.strikes[kind] += struck
        return struck


def _kill(pid: int) -> bool:
    """SIGKILL a process; whether there was one."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# in the order of how long they take: the first round has to fit into the sweep
KINDS = ("meet_limit", "kill_trainer", "kill_worker", "cancel_element", "preempt", "kill_node")


def endings(store: Path, *, prefixes: bool) -> tuple[int, dict[str, int]]:
    """Executions, and how they ended, of runs, or of the segments of their shared prefixes."""
    names = [path.name.split(".") for path in (store / "claims").glob("[!.]*")]
    names = [parts for parts in names if ("-" in parts[0]) == prefixes]
    return sum(len(parts) == 2 for parts in names), dict(Counter(parts[2] for parts in names if len(parts) == 3))


def train_in_peace(
    sweep: Path, store: Path, *, num_runs: int, scale: int, share: bool, limit: float
) -> tuple[float, float]:
    """Write the sweep's file and train it undisturbed by two workers of this machine.

    Returns the seconds that it took, and those from the first claim to the last record, in which others could strike.
    """
    tokens = [32768 * scale, 65536 * scale]
    sweep.write_text(SWEEP.format(tokens=tokens, seeds=list(range(num_runs // 6))))
    store.mkdir()
    began = time.monotonic()
    subprocess.run(
        command(
            *("run", sweep, "--store", store, "--workers", 2, "--wandb", "off"), *([] if share else ["--no-sharing"])
        ),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=limit,
    )
    seconds = time.monotonic() - began
    first_claim = min(path.stat().st_mtime for path in store.glob("claims/[!.]*"))
    last_record = max(path.stat().st_mtime for path in store.glob("runs/*/record.json"))
    return seconds, last_record - first_claim


def chaos(
    folder: Path,
    *,
    num_runs: int = 60,
    rounds: int = 1,
    seed: int = 0,
    scale: int = 1,
    share: bool = True,
    limit: float = 600.0,
) -> dict[str, Any]:
    """Train a sweep in peace and another one under strikes; what happened, as plain data.

    Parameters
    ----------
    folder
        An empty folder.
    num_runs
        Runs of the sweep, a multiple of six.
    rounds
        How often each kind of strike is made.
    seed
        Of the choice of victims.
    scale
        Length of the runs.
    share
        Whether runs share their first steps.
    limit
        Seconds after which the disturbed sweep must be done.
    """
    sweep, peace, war = folder / "chaos.yaml", folder / "peace", folder / "war"
    peace_seconds, trained = train_in_peace(sweep, peace, num_runs=num_runs, scale=scale, share=share, limit=limit)
    expected = 2 * trained / min(usable_cores(), WORKERS)
    if expected < SHORTEST_SECONDS:  # a fast machine would be done before the last strike
        shutil.rmtree(peace)
        scale *= math.ceil(SHORTEST_SECONDS / expected)
        peace_seconds, _ = train_in_peace(sweep, peace, num_runs=num_runs, scale=scale, share=share, limit=limit)
    war.mkdir()
    (folder / "slurm").mkdir()
    rng = random.Random(seed)
    with SlurmCluster(root=folder / "slurm").running() as cluster:
        began = time.monotonic()
        deadline = began + limit
        it = Chaos(cluster=cluster, sweep=sweep, store=war, num_runs=num_runs, rng=rng, deadline=deadline, share=share)
        submissions = [it.submit().splitlines()[0]]
        with ThreadPoolExecutor(1) as others:  # somebody submits once more while the first strike waits for its victim
            again = others.submit(it.submit)
            it.strike(KINDS[0])
            submissions.append(again.result().splitlines()[0])
        for number in range(rounds):
            if number:
                it.submit()  # replaces the element that was cancelled
            for kind in rng.sample(KINDS, len(KINDS)) if number else KINDS[1:]:
                it.strike(kind)
        it.until(it.is_done, "every run being done")
        war_seconds = time.monotonic() - began
        status = json.loads(it.verb("status", "chaos", "--store", war, "--json"))
        it.until(lambda: not it.elements(), "every job ending by itself")
    executions, run_endings = endings(war, prefixes=False)
    logs = "\n".join(path.read_text() for path in (war / "logs").glob("slurm-*.log"))
    return {
        "runs": len(outcomes(war)),
        "losses_equal_to_the_last_digit": outcomes(war) == outcomes(peace),
        "strikes": {kind: number for kind, number in it.strikes.items() if number},
        "executions": executions,
        "endings": run_endings,
        "stretches": endings(war, prefixes=True),
        "published_once": run_endings["done"] == len(outcomes(war)),
        "job_starts": len(re.findall(r": on n\d", logs)),
        "asked_to_be_queued_again": logs.count(ASKS),
        "restarts_by_slurm": len(re.findall(r"restart [1-9]", logs)),
        "devices_at_first": sorted(map(" ".join, re.findall(r"on (n\d), restart 0, (CUDA_VISIBLE_DEVICES=\S+)", logs))),
        "submissions": submissions,
        "status_counts": status["counts"],
        "peace_seconds": round(peace_seconds),
        "seconds": round(war_seconds),
    }


def main() -> None:
    """Run, write the record, and fail when a digit differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--scale", type=int, default=8, help="length of the runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work in this empty folder and leave it")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    if missing := missing_programs():
        sys.exit(f"error: {', '.join(missing)} missing; install slurmctld, slurmd, slurm-client and munge")
    folder = args.keep or Path(tempfile.mkdtemp(prefix="slurm-chaos-"))
    folder.mkdir(exist_ok=True)
    try:
        result = {}
        for name, share in (("shared", True), ("alone", False)):
            (folder / name).mkdir()
            result[name] = chaos(
                folder / name,
                num_runs=args.runs,
                rounds=args.rounds,
                seed=args.seed,
                scale=args.scale,
                share=share,
                limit=3600.0,
            )
    finally:
        if args.keep is None:
            shutil.rmtree(folder)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if not all(one["losses_equal_to_the_last_digit"] and one["runs"] == args.runs for one in result.values()):
        sys.exit("error: the disturbed sweep differs from the undisturbed one")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
