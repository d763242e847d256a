"""Devices are found without torch, and a number of workers that makes no sense is refused."""

from __future__ import annotations

import pytest

from experiments.errors import UserError
from experiments.machine.devices import find_devices, resolve_precision


def test_there_is_a_device_for_every_worker_that_is_asked_for() -> None:
    assert [str(device) for device in find_devices("cpu", 3)] == ["cpu:0", "cpu:1", "cpu:2"]
    assert len(find_devices("cpu")) >= 1


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_below_one_is_refused(workers: int) -> None:
    with pytest.raises(UserError, match=f"--workers is {workers}; give a number of at least 1"):
        find_devices("cpu", workers)


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.machine.devices.cuda_devices", lambda: ())
    with pytest.raises(UserError, match="no CUDA device; use --device cpu"):
        find_devices("cuda")


def test_gpus_are_dealt_out_in_groups_and_a_rest_stays_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.machine.devices.cuda_devices", lambda: ("0", "1", "2"))
    assert [device.index for device in find_devices(per_worker=2)] == ["0,1"]
    with pytest.raises(UserError, match="--devices-per-run is 4"):
        find_devices(per_worker=4)


def test_auto_is_bfloat16_on_a_gpu_and_a_named_precision_stays() -> None:
    assert resolve_precision("auto", "cuda") == "bf16"
    assert resolve_precision("auto", "cpu") in ("fp32", "bf16")
    assert resolve_precision("fp32", "cuda") == "fp32"
