"""The heartbeat: a claim that was given up is left, and a training that hangs is ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.distributed.ranks import ALONE
from experiments.execution.heartbeat import Heartbeat
from experiments.execution.queue import Claimed
from experiments.execution.retries import Ending
from experiments.execution.supervisor import ExitStatus
from experiments.machine.liveness import identify
from experiments.manifests import Segment
from experiments.records import RunStatus
from experiments.store.claims import Claims
from experiments.training.state import Superseded

CLAIMED = Claimed(segment=Segment(segment_id="abc", run_id="abc", end_step=3), attempt=1, start=None, num_ooms=0)


def heart(folder: Path, stall_seconds: float = 60.0, parent: int | None = None) -> Heartbeat:
    claims = Claims(folder)
    claims.take("abc", 1, identify())

    def write(claimed: Claimed, ending: Ending) -> None:
        claims.end(claimed.segment.segment_id, claimed.attempt, ending.status, ending.reason)

    return Heartbeat(claims=claims, ranks=ALONE, write_ending=write, parent=parent, stall_seconds=stall_seconds)


def test_a_claim_grows_while_its_segment_is_trained(tmp_path: Path) -> None:
    one = heart(tmp_path)
    before = one.claims.states()["abc"].heartbeat
    with one.beating(CLAIMED):
        one._beat(CLAIMED)
        assert not one.step()
    assert one.claims.states()["abc"].heartbeat == before + 1  # type: ignore[operator]


def test_a_worker_whose_attempt_was_given_up_takes_no_further_step_of_it_and_may_take_another(tmp_path: Path) -> None:
    one = heart(tmp_path)
    with one.beating(CLAIMED):
        one.claims.end("abc", 1, RunStatus.LOST, "no life")
        one._beat(CLAIMED)
        with pytest.raises(Superseded):
            one.step()
    with one.beating(CLAIMED):
        assert not one.step()


def test_a_training_that_takes_no_step_is_ended_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(Exception):
        """In place of the end of the process."""

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)
    one = heart(tmp_path, stall_seconds=-1.0)
    with one.beating(CLAIMED), pytest.raises(Ended, match=str(int(ExitStatus.RESTART))):
        one._beat(CLAIMED)
    assert one.claims.states()["abc"].endings == (RunStatus.LOST,)
    assert "took no step" in str(one.claims.reason("abc", 1, RunStatus.LOST))


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    one = heart(tmp_path, parent=2**22 + 1)
    with one.beating(CLAIMED):
        one._beat(CLAIMED)
        assert one.step()
    assert one.stopping
