"""The supervisor: a killed worker is forked anew, one that ends by itself ends both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys
from pathlib import Path
from experiments.execution.supervisor import supervise

log = Path(sys.argv[1])

def work(parent):
    assert os.getppid() == parent
    with log.open("a") as stream:
        stream.write(f"{os.getpid()}\\n")
    life = len(log.read_text().splitlines())
    if sys.argv[2] == "early":
        os.kill(parent, signal.SIGTERM)  # comes before this process has handlers of its own
        while True:
            signal.pause()
    if life == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if life == 2:
        return 75
    if life == 3 and sys.argv[2] == "stop":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
        os.kill(parent, signal.SIGTERM)
        signal.pause()
    return 7

sys.exit(supervise(work, parent=None))
"""


def lives(tmp_path: Path, how: str) -> tuple[int, int]:
    log = tmp_path / "lives"
    told = subprocess.run([sys.executable, "-c", CODE, str(log), how], timeout=60, check=False)
    return told.returncode, len(set(log.read_text().split()))


def test_a_killed_worker_and_one_that_asks_for_a_fresh_process_are_forked_anew(tmp_path: Path) -> None:
    assert lives(tmp_path, "end") == (7, 3)


def test_a_signal_to_the_supervisor_reaches_its_worker_and_ends_both(tmp_path: Path) -> None:
    assert lives(tmp_path, "stop") == (4, 3)


def test_a_signal_between_the_fork_and_the_workers_handlers_is_not_swallowed(tmp_path: Path) -> None:
    assert lives(tmp_path, "early") == (4, 1)
