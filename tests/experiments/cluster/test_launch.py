"""The Slurm launcher without a Slurm: submission, what the scheduler is heard to say, and cancelling."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.cluster.launch import Demand, launch, queued_summary
from experiments.cluster.scheduler import cancel, ended_elements, parse_sacct, parse_squeue, read_submissions, view
from experiments.cluster.script import SlurmOptions
from experiments.data.cache import Cache
from experiments.errors import UserError
from experiments.machine.liveness import identify
from experiments.planning.planned_sweep import PlannedSweep
from experiments.planning.plans import expand_file
from experiments.status.tables import jobs_table
from experiments.store.store import RunStore

Verb = Callable[..., subprocess.CompletedProcess[str]]

# -- what Slurm says ---------------------------------------------------------------------------------------------------

SQUEUE = """\
15|0|RUNNING|None|n1|0:16|3:59:44|isoflop-mine
15|1|PENDING|Resources||0:00|4:00:00|isoflop-mine
16|0|RUNNING|None|n2|1-02:03:04|INVALID|isoflop-mine
99|0|RUNNING|None|n3|0:01|1:00|isoflop-mine
"""


def test_squeue_is_read_line_by_line() -> None:
    first, second, *_ = [element for _, element in parse_squeue(SQUEUE)]
    assert (first.name, first.state, first.nodes, first.used, first.left) == (
        "15_0",
        "RUNNING",
        "n1",
        "0:16",
        "3:59:44",
    )
    assert (second.name, second.state, second.reason, second.nodes) == ("15_1", "PENDING", "Resources", None)
    assert queued_summary([first, second]) == "1 running, 1 pending (Resources), job 15"


def test_sacct_is_read_and_pending_ranges_are_left_to_squeue() -> None:
    ended = parse_sacct("15_0|CANCELLED by 0|0:15|00:01:02|n1\n15_[4-9]|PENDING|0:0|00:00:00|None assigned\n")
    assert [(item.name, item.state, item.used) for item in ended] == [("15_0", "CANCELLED", "00:01:02")]


def test_a_cluster_without_accounts_is_no_error(programs: Any) -> None:
    assert ended_elements(["15"]) is None
    programs.make("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert ended_elements(["15"]) is None
    programs.make("sacct", "echo '15_0|TIMEOUT|0:0|00:01:00|n1'; echo '15_1|RUNNING|0:0|00:01:00|n1'")
    assert [item.name for item in ended_elements(["15"]) or ()] == ["15_0"]


@pytest.fixture
def submitted(tmp_path: Path, programs: Any) -> RunStore:
    """A store whose sweep `mine` was submitted as jobs 15 and 16, of which squeue shows SQUEUE."""
    store = RunStore(tmp_path / "store")
    store.prepare()
    lines = [{"job": job, "array": "0-1", "unix_seconds": 1.0} for job in ("15", "16")]
    (store.sweeps / "mine.jobs").write_text("".join(json.dumps(line) + "\n" for line in lines))
    programs.make("squeue", f"cat <<'END'\n{SQUEUE}END")
    return store


def test_jobs_are_joined_with_the_runs_that_their_workers_claim(
    submitted: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"{number:012x}" for number in range(3)]
    submitted.claims.take(ids[0], 1, identify() | {"job": "15_0"})
    submitted.claims.take(ids[1], 1, identify() | {"job": "15_7"})
    submitted.claims.take(ids[2], 1, identify())
    seen = view(submitted, "mine", ids)
    assert seen is not None
    assert [element.name for element in seen.elements] == ["15_0", "15_1", "16_0"]  # 99 is another store's
    assert seen.runs == {"15_0": ids[0], "15_7": ids[1]}
    assert seen.vanished == {"15_7": ids[1]}
    told = seen.to_dict()
    assert told["jobs"][0]["run_id"] == ids[0]
    assert json.loads(json.dumps(told)) == told


def test_a_sweep_that_was_never_submitted_asks_slurm_nothing(tmp_path: Path, programs: Any) -> None:
    programs.make("squeue", "exit 1")
    assert view(RunStore(tmp_path), "mine", []) is None
    assert programs.calls("squeue") == []


def test_jobs_are_shown_with_their_runs(submitted: RunStore) -> None:
    submitted.claims.take("0123456789ab", 1, identify() | {"job": "15_0"})
    submitted.claims.take("ba9876543210", 1, identify() | {"job": "15_7"})
    seen = view(submitted, "mine", ["0123456789ab", "ba9876543210"])
    assert seen is not None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(jobs_table(seen))
    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["Slurm:", "2", "running,", "1", "pending", "(Resources)"] in lines
    assert ["15_0", "RUNNING", "n1", "0:16", "3:59:44", "0123456789ab"] in lines
    assert ["15_7", "vanished", "-", "-", "-", "ba9876543210"] in lines


def test_status_works_where_slurm_cannot_be_asked_and_says_so(
    sweep: Path, run_verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path / "store")
    PlannedSweep.write(expand_file(sweep, cache=Cache()), sweep, store)
    (store.sweeps / "tiny.jobs").write_text(json.dumps({"job": "15", "array": "0-1", "unix_seconds": 1.0}) + "\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    told = run_verb("status", "tiny", "--store", store.root, "--json")
    assert json.loads(told.stdout)["counts"] == {"queued": 4}
    assert told.stderr.startswith("the jobs of this sweep are left out: squeue is not on this machine")


def test_a_worker_writes_its_job_into_its_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert "job" not in identify()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert identify()["job"] == "17"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert identify()["job"] == "15_3"


def test_a_damaged_file_of_jobs_is_named(submitted: RunStore) -> None:
    path = submitted.sweeps / "mine.jobs"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(UserError, match=r"mine\.jobs is damaged"):
        read_submissions(submitted, "mine")


def test_cancelling_a_sweep_that_was_never_submitted_asks_slurm_nothing(tmp_path: Path, programs: Any) -> None:
    programs.make("squeue", "exit 1")
    assert cancel(RunStore(tmp_path), "mine") == []
    assert programs.calls("squeue") == []


def test_cancelling_ends_the_jobs_of_this_sweep_and_no_others(submitted: RunStore, programs: Any) -> None:
    programs.make("scancel", "exit 0")
    assert [element.name for element in cancel(submitted, "mine")] == ["15_0", "15_1", "16_0"]
    assert programs.calls("scancel") == ["15 16"]


# -- submission --------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path, programs: Any) -> RunStore:
    """A store, and a Slurm that takes every job: 101, 102 ..., each of them pending."""
    store = RunStore(tmp_path / "store")
    store.prepare()
    programs.make("sbatch", f'echo "$((100 + $(wc -l < {tmp_path}/bin/sbatch.calls)));mini"')
    programs.make("scontrol", "echo 'MaxArraySize            = 10'")
    programs.make(
        "squeue",
        f"number=100\nwhile read -r _ array _; do number=$((number + 1)); last=${{array#--array=0-}}\n"
        f'for i in $(seq 0 ${{last%%%*}}); do echo "$number|$i|PENDING|Priority||0:00|1:00|isoflop-mine"; done\n'
        f"done < {tmp_path}/bin/sbatch.calls",
    )
    return store


def start(store: RunStore, missing: int, *, dry_run: bool = False, **more: Any) -> str:
    demand = Demand(missing=missing, **({"arguments": ["--no-weights"]} | more))
    return launch(SlurmOptions(array_max=6), store=store, sweep="mine", demand=demand, dry_run=dry_run)


def test_a_sweep_is_submitted_once_with_its_script_and_its_job_numbers_kept(slurm: RunStore, programs: Any) -> None:
    assert "submitted 8 workers for 8 runs: job 101" in start(slurm, 8)
    assert programs.calls("sbatch") == [f"--parsable --array=0-7%6 {slurm.sweeps}/mine.sbatch"]
    assert "--array=0-7%6" in (slurm.sweeps / "mine.sbatch").read_text()
    assert [item.job for item in read_submissions(slurm, "mine")] == ["101"]
    assert "8 workers of this sweep are queued already (8 pending (Priority), job 101)" in start(slurm, 8)
    assert len(programs.calls("sbatch")) == 1


def test_arrays_longer_than_the_cluster_allows_are_split(slurm: RunStore, programs: Any) -> None:
    assert "submitted 25 workers for 500 runs: jobs 101, 102, 103" in start(slurm, 500, workers=25)
    assert [line.split()[1] for line in programs.calls("sbatch")] == [
        "--array=0-8%2",
        "--array=0-7%2",
        "--array=0-7%2",
    ]
    assert "25 workers of this sweep are queued already" in start(slurm, 500, workers=25)


def test_more_workers_than_are_queued_are_submitted_beside_them(slurm: RunStore) -> None:
    start(slurm, 8, workers=3)
    assert "submitted 2 workers beside 3 that are queued already" in start(slurm, 8, workers=5)


def test_runs_that_were_added_get_workers_that_know_of_them(slurm: RunStore, programs: Any) -> None:
    start(slurm, 4, workers=4)
    assert "queued already" in start(slurm, 6, workers=4, added=2)  # those that wait will read the new list
    programs.make("squeue", 'for i in 0 1 2 3; do echo "101|$i|RUNNING|None|n1|0:10|1:00|isoflop-mine"; done')
    assert "submitted 2 workers beside 4" in start(slurm, 6, workers=4, added=2)


def test_a_finished_sweep_and_a_dry_run_submit_nothing(slurm: RunStore, programs: Any) -> None:
    assert "nothing was submitted" in start(slurm, 0)
    assert start(slurm, 8, dry_run=True).startswith("#!/usr/bin/env bash\n")
    assert programs.calls("sbatch") == []
    assert list(slurm.sweeps.iterdir()) == []


def test_a_refusal_is_one_sentence_and_what_was_taken_stays_known(
    slurm: RunStore, tmp_path: Path, programs: Any
) -> None:
    programs.make(
        "sbatch",
        f"if [ $(wc -l < {tmp_path}/bin/sbatch.calls) -gt 1 ]; then\n"
        "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\n"
        "echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy' >&2; exit 1; fi\n"
        "echo 101",
    )
    with pytest.raises(UserError, match="sbatch refused: QOSMaxSubmitJobPerUserLimit; Batch job submission failed"):
        start(slurm, 500, workers=12)
    assert [item.job for item in read_submissions(slurm, "mine")] == ["101"]


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep(tmp_path: Path, sweep_text: str) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text)
    return path


def test_a_dry_run_prints_the_script_and_writes_nothing(sweep: Path, tmp_path: Path, run_verb: Verb) -> None:
    store = tmp_path / "store"
    told = run_verb("run", sweep, "--store", store, "--launcher", "slurm", "--dry-run", "--gres", "gpu:1")
    assert told.returncode == 0, told.stderr
    assert "#SBATCH --array=0-3\n" in told.stdout
    assert "--device cuda" in told.stdout
    assert not store.exists()


def test_without_a_slurm_one_sentence_says_so_and_nothing_is_written(
    sweep: Path,
    tmp_path: Path,
    run_verb: Verb,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    store = tmp_path / "store"
    told = run_verb("run", sweep, "--store", store, "--launcher", "slurm")
    assert told.returncode == 2
    assert told.stderr == (
        "error: sbatch is not on this machine; run this command on a login node of a Slurm cluster\n"
    )
    assert not store.exists()


@pytest.mark.parametrize("option", ["--workers", "--nodes", "--array-max"])
def test_none_of_something_is_refused(sweep: Path, tmp_path: Path, run_verb: Verb, option: str) -> None:
    told = run_verb("run", sweep, "--store", tmp_path / "store", "--launcher", "slurm", "--dry-run", option, 0)
    assert told.returncode == 2
    assert told.stderr == f"error: {option} is 0; give a number of at least 1\n"


def test_options_of_slurm_are_refused_by_the_local_launcher(sweep: Path, tmp_path: Path, run_verb: Verb) -> None:
    told = run_verb("run", sweep, "--store", tmp_path / "store", "--partition", "gpu")
    assert told.returncode == 2
    assert "--partition is an option of --launcher slurm" in told.stderr


def test_a_user_signal_stops_a_worker_as_sigterm_does() -> None:
    code = (
        "import os, signal, sys\n"
        "from experiments.execution.supervisor import pass_user_signals\n"
        "pass_user_signals()\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\n"
        "os.kill(os.getpid(), signal.SIGUSR{})\n"
        "signal.pause()\n"
    )
    for number in (1, 2):
        assert subprocess.run([sys.executable, "-c", code.format(number)], timeout=60, check=False).returncode == 4
