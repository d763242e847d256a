"""Disturb a sweep on a real Slurm until it is done, and compare every digit. `python -m benchmarks.slurm_chaos`.

Two virtual nodes with four fake GPUs each run on this machine. A round kills the process that trains, kills a worker
whole, cancels an element, preempts a node and kills the other node; every worker also meets its time limit of a minute
again and again. At the end: one published record a run, executions counted, and losses equal to the last digit to those
of an undisturbed sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.slurm_cluster import SlurmCluster, missing_programs

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
MINUTES_LIMIT = 1
EXPIRY_SECONDS = 12


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

    def verb(self, *words: object) -> str:
        """What a command of the project says; it must end well."""
        told = subprocess.run(
            command(*words), env=self.cluster.environment, capture_output=True, text=True, check=False, timeout=120
        )
        if told.returncode not in (0, 1):
            raise RuntimeError(f"{words} ended with {told.returncode}: {told.stderr}")
        return told.stdout

    def submit(self) -> str:
        """`run --launcher slurm`; what it says."""
        return self.verb(
            *("run", self.sweep, "--store", self.store, "--launcher", "slurm", "--workers", WORKERS),
            *("--device", "cpu", "--gres", "gpu:1", "--partition", "low", "--time", MINUTES_LIMIT),
            *("--signal-seconds", 10, "--checkpoint-seconds", 1, "--expiry-seconds", EXPIRY_SECONDS),
        )

    def elements(self, *states: str) -> dict[str, str]:
        """Element -> node, of the sweep's jobs in these states (all: none given)."""
        said = self.cluster.command("squeue", "--noheader", "--array", "--partition=low", "--format=%i|%T|%N")
        rows = [line.split("|") for line in said.splitlines()]
        return {name: node for name, state, node in rows if not states or state in states}

    def until(self, condition: Any, what: str) -> None:
        """Wait for a condition, at most to the deadline."""
        self.cluster.wait_until(condition, what, max(1.0, self.deadline - time.monotonic()))

    def under_way(self) -> bool:
        """Whether some run is being trained, or none is left."""
        names = {path.name for path in (self.store / "claims").glob("[!.]*")}
        ended = {".".join(name.split(".")[:2]) for name in names if name.count(".") == 2}
        return self.is_done() or any(name.count(".") == 1 and name not in ended for name in names)

    def is_done(self) -> bool:
        """Whether every run has a record."""
        return len(list(self.store.glob("runs/*/record.json"))) == self.num_runs

    # -- strikes -------------------------------------------------------------------------------------------------------

    def trainers(self) -> list[psutil.Process]:
        """Processes that train: children of workers, which have none themselves."""
        found = []
        for node in ("n1", "n2"):
            for process in self.cluster.node_processes(node):
                try:
                    if "work" in process.cmdline() and not process.children():
                        found.append(process)
                except psutil.Error:
                    continue
        return found

    def kill_trainer(self) -> bool:
        """SIGKILL one process that trains; its keeper forks it anew."""
        victims = self.trainers()
        if victims:
            self.rng.choice(victims).kill()
        return bool(victims)

    def kill_worker(self) -> bool:
        """SIGKILL a worker with its keeper; the batch script starts it again."""
        victims = [victim for victim in self.trainers() if "work" in psutil.Process(victim.ppid()).cmdline()]
        if victims:
            victim = self.rng.choice(victims)
            psutil.Process(victim.ppid()).kill()
            victim.kill()
        return bool(victims)

    def cancel_element(self) -> bool:
        """`scancel` one element; it does not come back, and the next submission replaces it."""
        running = [name for name in self.elements("RUNNING") if not name.endswith("_0")]
        if running:
            self.cluster.command("scancel", self.rng.choice(running))
        return bool(running)

    def preempt(self) -> bool:
        """A job of the partition with priority takes all of a node on which workers run."""
        nodes = sorted(set(self.elements("RUNNING").values()))
        if nodes:
            self.cluster.command(
                *("sbatch", "--partition=high", f"--nodelist={self.rng.choice(nodes)}", "--exclusive"),
                *("--output=/dev/null", "--wrap", "sleep 2"),
            )
            self.until(lambda: self._high_is_over(), "the preempting job to end")
        return bool(nodes)

    def _high_is_over(self) -> bool:
        return not self.cluster.command("squeue", "--noheader", "--partition=high")

    def kill_node(self) -> bool:
        """SIGKILL everything on a node, wait until Slurm has noticed, and start it again."""
        nodes = sorted(set(self.elements("RUNNING").values()))
        if nodes:
            node = self.rng.choice(nodes)
            self.cluster.kill_node(node)
            self.cluster.wait_for_nodes("down", 1)
            self.cluster.start_node(node)
        return bool(nodes)

    def strike(self, kind: str) -> None:
        """Do one thing as soon as something is being trained."""
        self.until(lambda: self.under_way(), "a run being trained")
        if not self.is_done() and getattr(self, kind)():
            self.strikes[kind] += 1


# in the order of how long they take: the first round has to fit into the sweep
KINDS = ("kill_trainer", "kill_worker", "cancel_element", "preempt", "kill_node")


def chaos(
    folder: Path, *, num_runs: int = 60, rounds: int = 1, seed: int = 0, scale: int = 1, limit: float = 600.0
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
    limit
        Seconds after which the disturbed sweep must be done.
    """
    sweep, peace, war = folder / "chaos.yaml", folder / "peace", folder / "war"
    tokens = [32768 * scale, 65536 * scale]
    sweep.write_text(SWEEP.format(tokens=tokens, seeds=list(range(num_runs // 6))))
    for store in (peace, war):
        store.mkdir()
    began = time.monotonic()
    subprocess.run(
        command("run", sweep, "--store", peace, "--workers", 2, "--wandb", "off"),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=limit,
    )
    peace_seconds = time.monotonic() - began
    (folder / "slurm").mkdir()
    rng = random.Random(seed)
    with SlurmCluster(root=folder / "slurm").running() as cluster:
        began = time.monotonic()
        deadline = began + limit
        it = Chaos(cluster=cluster, sweep=sweep, store=war, num_runs=num_runs, rng=rng, deadline=deadline)
        said = [it.submit(), it.submit()]
        for number in range(rounds):
            for kind in rng.sample(KINDS, len(KINDS)) if number else KINDS:
                it.strike(kind)
        it.until(it.is_done, "every run being done")
        war_seconds = time.monotonic() - began
        status = json.loads(it.verb("status", "chaos", "--store", war, "--json"))
        it.until(lambda: not it.elements(), "every job ending by itself")
    names = [path.name.split(".") for path in (war / "claims").glob("[!.]*")]
    logs = "\n".join(path.read_text() for path in (war / "logs").glob("slurm-*.log"))
    return {
        "runs": len(outcomes(war)),
        "losses_equal_to_the_last_digit": outcomes(war) == outcomes(peace),
        "strikes": dict(it.strikes),
        "executions": sum(len(parts) == 2 for parts in names),
        "endings": dict(Counter(parts[2] for parts in names if len(parts) == 3)),
        "published_once": all(number == 1 for number in Counter(p[0] for p in names if p[2:] == ["done"]).values()),
        "job_starts": len(re.findall(r": on n\d", logs)),
        "asked_to_be_queued_again": logs.count("asks to be queued again"),
        "restarts_by_slurm": len(re.findall(r"restart [1-9]", logs)),
        "cuda_visible_devices": sorted(set(re.findall(r"CUDA_VISIBLE_DEVICES=(\S+)", logs))),
        "nodes": sorted(set(re.findall(r": on (n\d)", logs))),
        "submissions": [text.splitlines()[0] for text in said],
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
        result = chaos(folder, num_runs=args.runs, rounds=args.rounds, seed=args.seed, scale=args.scale, limit=3600.0)
    finally:
        if args.keep is None:
            shutil.rmtree(folder)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if not result["losses_equal_to_the_last_digit"] or result["runs"] != args.runs:
        sys.exit("error: the disturbed sweep differs from the undisturbed one")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
