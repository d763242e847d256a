"""The batch script of the Slurm launcher: its text, what it does when it is told things, how arrays are split."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.cluster.script import MAX_KILLS, BatchScript, SlurmOptions, array_of, seconds_of, split
from experiments.config.yaml_text import parse_yaml
from experiments.errors import UserError
from experiments.execution.supervisor import ExitStatus
from experiments.verbs.training import work

# -- the text ----------------------------------------------------------------------------------------------------------


def text(folder: Path, **changes: object) -> str:
    names = {"python": sys.executable, "arguments": ()}
    options = {name: value for name, value in changes.items() if name not in names}
    return BatchScript(
        sweep="mine",
        manifest=folder / "sweeps" / "mine.json",
        logs=folder / "logs",
        array="0-7%4",
        options=SlurmOptions(**options),  # type: ignore[arg-type]
        folder=folder,
        **{name: changes.get(name, value) for name, value in names.items()},  # type: ignore[arg-type]
    ).text()


def test_every_option_is_a_line_that_slurm_reads(tmp_path: Path) -> None:
    script = text(
        tmp_path,
        device="cuda",
        partition="gpu",
        account="lab",
        gres="gpu:1",
        time="4:00:00",
        signal_seconds=300,
        lines=("--cpus-per-task=8", "--qos=long"),
    )
    asked = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert {
        *("--job-name=isoflop-mine", "--array=0-7%4", "--partition=gpu", "--account=lab", "--gres=gpu:1"),
        *("--time=4:00:00", "--signal=B:USR1@300", "--requeue", "--open-mode=append", "--cpus-per-task=8"),
        *("--qos=long", "--nodes=1", f"--chdir={tmp_path}", f"--output={tmp_path}/logs/slurm-%A_%a.log"),
    } <= set(asked)
    assert "work " + str(tmp_path / "sweeps" / "mine.json") + " --device cuda" in script


def test_the_script_is_bash_also_with_blanks_and_percents_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / "50% of it"
    folder.mkdir()
    script = text(folder)
    assert f'--output="{tmp_path}/50%% of it/logs/slurm-%A_%a.log"' in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_worker_of_several_processes_is_a_step_of_its_own(tmp_path: Path) -> None:
    script = text(tmp_path, nodes=2, devices_per_run=4)
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n" in script
    assert "srun --ntasks=8 " in script
    assert " --nodes 2 --devices-per-run 4)" in script
    assert "kill -USR1" in script  # srun passes it on; at SIGTERM it would kill
    assert "--parent" not in script


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("4:00:00", 14400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("2-0:0:1", 172801),
        ("UNLIMITED", None),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(limit: str, seconds: int | None) -> None:
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"time": "soon"}, "'soon' is no time limit"),
        ({"time": "3"}, "raise --time or lower --signal-seconds"),
        ({"array_max": 0}, "--array-max is 0"),
        ({"partition": "gpu\nrm -rf ~"}, "holds a line break"),
        ({"account": "lab\r#SBATCH --uid=0"}, "holds a line break"),
        ({"gres": 'gpu:1" --wrap="id'}, "quotation mark"),
        ({"lines": ("--qos=long\nid",)}, "is not an option of sbatch"),
        ({"lines": ("qos=long",)}, "'qos=long' is not an option of sbatch"),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_anything_is_written(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        SlurmOptions(**changes)  # type: ignore[arg-type]


def test_a_folder_with_a_line_break_writes_no_line_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="plain names"):
        text(tmp_path / "a\nid")


# -- what the script does ----------------------------------------------------------------------------------------------


WORKER = """
if [ "$1" != -m ]; then exit 99; fi
lives=$(wc -l < "$(dirname "$0")/python.calls")
"""


def run_script(
    tmp_path: Path,
    programs: Any,
    body: str,
    *,
    state: str = "RUNNING",
    element: int = 1,
    signals: tuple[str, ...] = (),
    to_all: bool = False,
) -> tuple[int, str]:
    """Run the script as Slurm would, with a worker of `body`; its exit status and what it said.

    Each of `signals` is sent to the batch shell, or to all its processes after a SIGCONT, when the worker says so.
    """
    ready = tmp_path / "ready"
    ready.unlink(missing_ok=True)
    os.mkfifo(ready)
    python = programs.make("python", WORKER + body.replace("READY", f"echo ready > {ready}"))
    programs.make("squeue", f"echo {state}")
    programs.make("scontrol", "exit 0")
    script = tmp_path / "script"
    script.write_text(text(tmp_path, python=str(python)))
    environment = os.environ | {"SLURM_ARRAY_JOB_ID": "15", "SLURM_ARRAY_TASK_ID": str(element), "SLURM_JOB_ID": "17"}
    job = subprocess.Popen(
        ["bash", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        start_new_session=True,
    )
    with job:
        try:
            for name in signals:
                ready.read_text()
                if to_all:
                    os.killpg(job.pid, signal.SIGCONT)
                    os.killpg(job.pid, getattr(signal, name))
                else:
                    job.send_signal(getattr(signal, name))
            said, _ = job.communicate(timeout=60)
        except BaseException:
            os.killpg(job.pid, signal.SIGKILL)
            raise
    return job.returncode, said


SAVES = "trap 'exit 4' TERM; READY; for i in $(seq 600); do sleep 0.1; done"


def test_a_worker_that_finds_nothing_left_ends_its_element(tmp_path: Path, programs: Any) -> None:
    status, said = run_script(tmp_path, programs, "exit 0")
    assert status == 0
    assert "CUDA_VISIBLE_DEVICES=" in said
    assert programs.calls("scontrol") == []


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGTERM"])
def test_a_warning_lets_the_worker_save_and_the_element_come_back(tmp_path: Path, programs: Any, name: str) -> None:
    status, said = run_script(tmp_path, programs, SAVES, signals=(name,))
    assert status == 0
    assert "ended with status 4" in said
    assert programs.calls("scontrol") == ["requeue 15_1"]
    assert programs.calls("squeue") == ["--noheader --jobs=15_1 --format=%T"]


def test_a_warning_before_the_worker_can_save_brings_the_element_back_too(tmp_path: Path, programs: Any) -> None:
    run_script(tmp_path, programs, "READY; exec sleep 60", signals=("SIGUSR1",))
    assert programs.calls("scontrol") == ["requeue 15_1"]


def test_a_second_warning_does_not_hide_how_the_worker_ended(tmp_path: Path, programs: Any) -> None:
    slow = "trap 'trap : TERM; READY; sleep 0.3; exit 4' TERM; READY; for i in $(seq 600); do sleep 0.1; done"
    _, said = run_script(tmp_path, programs, slow, signals=("SIGUSR1", "SIGTERM"))
    assert "ended with status 4" in said
    assert programs.calls("scontrol") == ["requeue 15_1"]


def test_a_signal_to_the_whole_job_as_slurm_sends_it_always_brings_the_element_back(
    tmp_path: Path, programs: Any
) -> None:
    for body in ("READY; exec sleep 60", SAVES):
        for _ in range(8):
            run_script(tmp_path, programs, body, signals=("SIGTERM",), to_all=True)
    assert len(programs.calls("scontrol")) == 16


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "CANCELLED"])
def test_an_element_that_was_cancelled_or_that_slurm_queues_itself_does_not_ask_to_come_back(
    tmp_path: Path, programs: Any, state: str
) -> None:
    status, _ = run_script(tmp_path, programs, SAVES, state=state, signals=("SIGTERM",))
    assert status == 4
    assert programs.calls("scontrol") == []


def test_a_killed_worker_and_one_that_asks_for_a_fresh_process_are_started_again(tmp_path: Path, programs: Any) -> None:
    status, _ = run_script(tmp_path, programs, "case $lives in 1) kill -9 $$;; 2) exit 75;; *) exit 0;; esac")
    assert status == 0
    assert len(programs.calls("python")) == 3
    assert programs.calls("scontrol") == []


def test_a_worker_that_is_killed_again_and_again_is_given_up(tmp_path: Path, programs: Any) -> None:
    status, _ = run_script(tmp_path, programs, "kill -9 $$")
    assert status == 128 + 9
    assert len(programs.calls("python")) == MAX_KILLS + 1
    assert programs.calls("scontrol") == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_error_ends_the_element(tmp_path: Path, programs: Any, number: int) -> None:
    status, _ = run_script(tmp_path, programs, f"exit {number}")
    assert status == number
    assert len(programs.calls("python")) == 1
    assert programs.calls("scontrol") == []


def test_the_first_element_waits_for_what_others_lose_and_the_rest_give_way(tmp_path: Path, programs: Any) -> None:
    for element in (0, 1):
        run_script(tmp_path, programs, "exit 0", element=element)
    first, second = programs.calls("python")
    assert "--no-linger" not in first
    assert second == first.replace(first.split("--parent ")[1], second.split("--parent ")[1])
    assert second.endswith("--no-linger")


def test_workers_of_a_sweep_whose_runs_share_their_first_steps_all_stay(tmp_path: Path) -> None:
    script = BatchScript(
        sweep="mine",
        manifest=tmp_path / "mine.json",
        logs=tmp_path,
        array="0-7",
        options=SlurmOptions(),
        all_stay=True,
    ).text()
    assert "no-linger" not in script
    assert "no-linger" in text(tmp_path)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


# -- arrays ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.none() | st.integers(1, 6000), st.integers(1, 1200))
def test_arrays_hold_every_worker_once_and_share_the_limit(count: int, limit: int | None, max_size: int) -> None:
    sizes, shares = [], []
    for array in split(count, limit, max_size):
        span, _, share = array.partition("%")
        first, _, last = span.partition("-")
        assert first == "0"
        sizes.append(int(last) + 1)
        shares.append(int(share) if share else sizes[-1])
    assert sum(sizes) == count
    assert max(sizes) <= max_size
    assert len(sizes) == -(-count // max_size)
    if limit is not None:
        assert sum(shares) <= max(limit, len(sizes))
        assert all(shares)


def test_an_array_without_a_limit_that_binds_has_none() -> None:
    assert array_of(8, None) == "0-7"
    assert array_of(8, 8) == "0-7"
    assert array_of(8, 3) == "0-7%3"


# -- the page ----------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "cluster.md"


def test_the_script_on_the_page_is_the_one_that_is_written() -> None:
    written = BatchScript(
        sweep="mine",
        manifest=Path("/shared/mine/sweeps/mine.json"),
        logs=Path("/shared/mine/logs"),
        array="0-15%8",
        options=SlurmOptions(device="cuda", partition="gpu", account="lab", gres="gpu:1", time="12:00:00"),
        arguments=["--checkpoint-seconds", "60.0"],
        python="/shared/isoflop/.venv/bin/python",
        folder=Path("/shared/isoflop"),
    ).text()
    assert f"```bash\n{written}```" in PAGE.read_text()


def test_the_manifest_for_kubernetes_starts_workers_and_forgives_what_a_worker_means_to_come_back_from() -> None:
    job = parse_yaml(PAGE.read_text().split("```yaml\n")[1].split("```")[0], where="page")
    spec, template = job["spec"], job["spec"]["template"]["spec"]
    (container,) = template["containers"]
    assert (job["kind"], spec["completionMode"], template["restartPolicy"]) == ("Job", "Indexed", "Never")
    parser = argparse.ArgumentParser()
    work.add_arguments(parser)
    assert container["command"][:4] == ["python", "-m", "experiments", "work"]
    assert parser.parse_args(container["command"][4:]).device == "cuda"
    codes = {
        rule["action"]: rule["onExitCodes"]["values"]
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert codes == {"Ignore": [ExitStatus.STOPPED, ExitStatus.RESTART], "FailIndex": [2, ExitStatus.REFUSED]}
    (mount,) = container["volumeMounts"]
    assert mount["name"] in {volume["name"] for volume in template["volumes"]}
