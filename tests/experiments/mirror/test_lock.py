"""One mirror of a sweep at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.machine.liveness import HeartbeatWatch, identify
from experiments.machine.wake import Wake
from experiments.mirror.lock import KEPT_CLAIMS, MirrorLock
from experiments.store.store import RunStore


def foreign(folder: Path) -> RunStore:
    """A place that a process of another machine has."""
    store = RunStore(folder)
    store.prepare()
    assert store.claims.take("study", 1, identify() | {"host": "elsewhere", "pid": 17})
    return store


def test_of_many_that_ask_at_once_one_gets_the_place(tmp_path: Path) -> None:
    locks = [MirrorLock(tmp_path, "study") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        holders = list(pool.map(lambda lock: lock.take(), locks))
    assert sum(holder is None for holder in holders) == 1
    for lock in locks:
        lock.release()
    assert MirrorLock(tmp_path, "study").take() is None


def test_a_process_that_has_ended_leaves_its_place(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.prepare()
    store.claims.take("study", 1, identify() | {"start": "another process had this number"})
    assert MirrorLock(tmp_path, "study").take() is None


def test_a_heartbeat_from_another_machine_holds_the_place_until_it_stands_still(tmp_path: Path) -> None:
    store, now = foreign(tmp_path), [0.0]
    lock = MirrorLock(tmp_path, "study", watch=HeartbeatWatch(expiry_seconds=120, clock=lambda: now[0]))
    first = lock.take()
    assert first is not None
    assert not first.certain
    now[0] = 100.0
    store.claims.beat("study", 1)
    second = lock.take()
    assert second is not None
    assert second.certain
    assert second.who == "process 17 on elsewhere"
    now[0] = 219.0
    assert lock.take() is not None
    now[0] = 221.0
    assert lock.take() is None
    lock.release()


def test_one_who_will_not_wait_is_told_who_has_the_place(tmp_path: Path) -> None:
    holder, other = MirrorLock(tmp_path, "study"), MirrorLock(tmp_path, "study")
    assert holder.take() is None
    with pytest.raises(UserError, match="mirrors this sweep already"):
        other.wait(until=Wake(), patient=False, warn=print)
    over, told = Wake(), list[str]()

    def warn(text: str) -> None:
        told.append(text)
        over.set()

    assert not other.wait(until=over, patient=True, warn=warn)
    assert "waiting to take over" in told[0]
    holder.release()
    assert other.wait(until=Wake(), patient=True, warn=warn)
    other.release()


def test_places_that_were_left_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(3 * KEPT_CLAIMS):
        lock = MirrorLock(tmp_path, "study.v2")
        assert lock.take() is None
        lock.release()
    assert len(list((tmp_path / "claims").iterdir())) == 2 * KEPT_CLAIMS


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="give the mirror a folder with --folder"):
        MirrorLock(tmp_path / "file", "study").take()
