"""Peaks of GPUs are found by a word of the device's name."""

import pytest

from experiments.machine.peaks import PEAK_TENSOR_FLOPS, peak_of


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA B200", "B200"),
        ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA L4", "L4"),
    ],
)
def test_a_device_has_the_peak_of_its_kind(name: str, part: str) -> None:
    assert peak_of(name) == PEAK_TENSOR_FLOPS[part]


@pytest.mark.parametrize("name", ["NVIDIA L40S", "NVIDIA GB200", "NVIDIA GH200 480GB", "a new one"])
def test_a_name_that_only_contains_another_has_no_peak(name: str) -> None:
    assert peak_of(name) is None
