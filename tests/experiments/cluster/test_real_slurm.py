"""The Slurm launcher on a real Slurm: virtual nodes with fake GPUs on this machine; skipped where it is absent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.slurm_chaos import KINDS, chaos
from benchmarks.slurm_cluster import SlurmCluster, missing_programs
from experiments.cluster.script import BatchScript, SlurmOptions
from experiments.data.cache import Cache
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.records import read_record
from experiments.store.store import RunStore

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(missing_programs()),
        reason=f"no {', '.join(missing_programs())} here; .ci/run installs slurmctld, slurmd, slurm-client and munge",
    ),
]

Verb = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SlurmCluster]:
    """A cluster that allows four elements an array."""
    root = tmp_path / "slurm"
    root.mkdir()
    with SlurmCluster(root=root, max_array_size=4).running() as started:
        yield started


@pytest.fixture
def verb(cluster: SlurmCluster, cache: Cache) -> Verb:
    """Runs `python -m experiments ...` on this cluster's login node."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "experiments", *map(str, words)],
            env=cluster.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_sweep_is_submitted_in_arrays_that_slurm_allows_shown_and_cancelled(
    cluster: SlurmCluster, verb: Verb, tmp_path: Path, sweep_text: str
) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text + "seeds: [0, 1, 2]\n")
    words = ("run", sweep, "--store", tmp_path / "a store", "--launcher", "slurm", "--device", "cpu", "--gres", "gpu:1")
    told = verb(*words, "--workers", 6, "--sbatch=--hold")
    assert told.returncode == 0, told.stderr
    assert "submitted 6 workers for 12 runs: jobs 1, 2" in told.stdout
    assert "6 workers of this sweep are queued already" in verb(*words, "--workers", 6).stdout
    assert len(cluster.command("squeue", "--noheader", "--array").splitlines()) == 6

    status = json.loads(verb("status", "tiny", "--store", tmp_path / "a store", "--json").stdout)
    assert status["counts"] == {"queued": 12}
    jobs = status["scheduler"]["jobs"]
    assert sorted(f"{job['job']}_{job['index']}" for job in jobs) == ["1_0", "1_1", "1_2", "2_0", "2_1", "2_2"]
    assert {(job["state"], job["reason"]) for job in jobs} == {("PENDING", "JobHeldUser")}

    assert "cancelled 6 workers of tiny, jobs 1, 2" in verb("cancel", "tiny", "--store", tmp_path / "a store").stdout
    assert cluster.command("squeue", "--noheader") == ""
    assert "no job of tiny is queued" in verb("cancel", "tiny", "--store", tmp_path / "a store").stdout


def test_a_refusal_of_slurm_is_passed_on_in_one_sentence(verb: Verb, tmp_path: Path, sweep_text: str) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    told = verb("run", sweep, "--store", tmp_path, "--launcher", "slurm", "--partition", "nowhere")
    assert told.returncode == 2
    assert told.stderr.startswith("error: sbatch refused: ")
    assert "invalid partition specified: nowhere" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_worker_of_several_nodes_hears_the_warning_in_every_process_and_comes_back(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    worker = tmp_path / "worker"
    worker.write_text(
        "#!/bin/bash\n"
        'echo "process $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME"\n'
        f"trap 'echo \"process $SLURM_PROCID saves\"; touch {tmp_path}/saved.$SLURM_PROCID; exit 4' USR1\n"
        f"[ -e {tmp_path}/saved.$SLURM_PROCID ] && exit 0\n"
        f"touch {tmp_path}/ready.$SLURM_PROCID\n"
        "for i in $(seq 600); do sleep 0.1; done\n"
    )
    worker.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(
        BatchScript(
            sweep="wide",
            manifest=tmp_path / "wide.json",
            logs=logs,
            array="0-0",
            options=SlurmOptions(gres="gpu:2", nodes=2, devices_per_run=2),
            python=str(worker),
        ).text()
    )
    job = cluster.command("sbatch", "--parsable", script)
    cluster.wait_until(lambda: len(list(tmp_path.glob("ready.*"))) == 4, "four processes")
    cluster.command("scancel", "--batch", "--signal=USR1", f"{job}_0")
    cluster.wait_until(lambda: not cluster.command("squeue", "--noheader"), "the job to end by itself")
    said = (logs / f"slurm-{job}_0.log").read_text()
    assert {f"process {number} of 4 on n{number // 2 + 1}" for number in range(4)} <= set(said.splitlines())
    assert len(list(tmp_path.glob("saved.*"))) == 4
    assert said.count("asks to be queued again") == 1
    assert "restart 1" in said
    assert "ended with status 0" in said


@pytest.mark.slow
def test_workers_started_by_srun_train_alone_or_together_as_they_are_told(
    cluster: SlurmCluster, tmp_path: Path, cache: Cache, sweep_text: str
) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(sweep_text)
    for name, options, size in (("alone", (), 1), ("together", ("--nodes", "2", "--devices-per-run", "1"), 2)):
        store = RunStore(tmp_path / name)
        PlannedSweep.write(expand_file(sweep, cache=Cache()), sweep, store)
        command = [sys.executable, "-m", "experiments", "work", store.manifest_path("tiny"), *options]
        cluster.command("srun", "--ntasks=2", "--nodes=2", *command, timeout_seconds=120)
        records = [read_record(path) for path in store.root.glob("runs/*/record.json")]
        assert [record.status for record in records] == ["done"] * 4
        assert {record.execution["world_size"] for record in records} == {size}


@pytest.mark.slow
def test_a_sweep_of_sixty_runs_survives_kills_a_cancelled_element_preemption_a_lost_node_and_time_limits(
    tmp_path: Path, cache: Cache
) -> None:
    told = chaos(tmp_path, num_runs=60, scale=3, limit=600)
    (tmp_path / "result.json").write_text(json.dumps(told, indent=1))
    assert told["runs"] == 60
    assert told["losses_equal_to_the_last_digit"]
    assert told["status_counts"] == {"done": 60}
    assert told["strikes"] == dict.fromkeys(KINDS, 1)
    assert told["endings"]["done"] == 60  # nobody finished a run that somebody else had finished
    assert told["executions"] == sum(told["endings"].values())
    prefixes, ends = told["stretches"]
    assert prefixes == sum(ends.values())
    ended = {name: told["endings"].get(name, 0) + ends.get(name, 0) for name in ("interrupted", "lost")}
    assert ended["interrupted"] >= 1  # by the time limit, the preemption or the cancelling
    assert ended["lost"] >= 1  # by the two kills and the node
    assert told["asked_to_be_queued_again"] >= 2
    devices = [f"{node} CUDA_VISIBLE_DEVICES={number}" for node in ("n1", "n2") for number in range(4)]
    assert len(told["devices_at_first"]) == 5
    assert len(set(told["devices_at_first"]) & set(devices)) == 5  # each worker had a GPU of its own
    assert told["submissions"][0] == "submitted 5 workers for 60 runs: job 1"
    assert "5 workers of this sweep are queued already" in told["submissions"][1]
