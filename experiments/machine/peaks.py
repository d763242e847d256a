"""Peak rates of GPUs, by a word of the device's name.

Torch-free: a report says what its training would take on a GPU.
"""

from __future__ import annotations

import re

PEAK_TENSOR_FLOPS = {
    "A100": 312e12,
    "B200": 2250e12,
    "H100": 989e12,
    "H200": 989e12,
    "L4": 121e12,
    "MI300X": 1307.4e12,
    "V100": 125e12,
}
"""Dense bf16 (V100: fp16) peak in FLOPs per second of the data sheets of NVIDIA and, for MI300X, AMD."""


def peak_of(name: str) -> float | None:
    """The peak of a GPU by its name.

    Parameters
    ----------
    name : str
        As the driver gives it, "NVIDIA H100 80GB HBM3".

    Returns
    -------
    float or None
        FLOPs per second; None for a GPU that is not in the table.
    """
    return next((peak for part, peak in PEAK_TENSOR_FLOPS.items() if re.search(rf"\b{part}\b", name)), None)
