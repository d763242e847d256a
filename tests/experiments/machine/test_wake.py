"""What a signal handler sets wakes who waits, and never makes the interrupted thread wait for itself."""

from __future__ import annotations

import subprocess
import sys
import threading

from experiments.machine.wake import Wake

STORM = """
import signal
from experiments.machine.wake import Wake

wake, rung = Wake(), 0

def handler(*_):
    global rung
    rung += 1
    wake.set()

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 5e-4, 5e-4)
while rung < 2_000:
    wake.wait(1e-5)
    wake.clear()
signal.setitimer(signal.ITIMER_REAL, 0)
print("awake")
"""


def test_a_storm_of_signals_never_stops_the_thread_that_they_interrupt() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "awake\n"


def test_it_stays_set_until_it_is_cleared() -> None:
    wake = Wake()
    assert not wake.wait(0.0)
    wake.set()
    wake.set()
    assert wake.wait(3600.0)
    assert wake.wait(3600.0)
    wake.clear()
    assert not wake.is_set()
    assert not wake.wait(0.0)


def test_another_thread_wakes_the_one_that_waits() -> None:
    wake = Wake()
    thread = threading.Timer(0.01, wake.set)
    thread.start()
    assert wake.wait(3600.0)
    thread.join()
