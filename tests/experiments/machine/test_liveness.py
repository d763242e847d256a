"""Telling the living from the dead: processes here, heartbeats elsewhere."""

from __future__ import annotations

import subprocess
import sys

from experiments.machine.liveness import HeartbeatWatch, alive, identify


def test_this_process_lives_and_a_reaped_one_does_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = identify(child.pid)
    assert alive(identify()) is True
    assert alive(owner) is True
    child.communicate(b"\n")
    assert alive(owner) is False


def test_a_killed_process_that_nobody_has_reaped_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    owner = identify(child.pid)
    child.kill()
    while alive(owner):
        pass  # the kernel is on its way; a zombie is not alive
    assert child.wait() < 0


def test_a_reused_pid_or_a_new_boot_deceives_nobody() -> None:
    me = identify()
    assert alive(me | {"start": "1"}) is False
    assert alive(me | {"boot": "another"}) is False


def test_of_another_machine_nothing_is_known_but_its_heartbeat() -> None:
    assert alive(identify() | {"host": "elsewhere"}) is None
    now = [0.0]
    watch = HeartbeatWatch(expiry_seconds=10, clock=lambda: now[0])
    told = []
    for seconds, counter in ((0, 5), (9, 5), (9.5, 6), (19, 6), (19.6, 6)):
        now[0] = seconds
        told.append(watch.stalled("abc.1", counter))
    assert told == [False, False, False, False, True]
