"""Which devices this machine offers, found without torch: cores this process may use, CUDA devices, native bfloat16.

Must not know runs or sweeps; workers learn from it what to be started on, `plan` what precision 'auto' means.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from experiments.errors import UserError

DeviceKind = Literal["cpu", "cuda"]
"""Kinds of devices that models are trained on."""
Precision = Literal["fp32", "bf16"]
"""fp32: 32-bit throughout. bf16: bfloat16 autocast with 32-bit weights and optimiser state."""
SweepPrecision = Literal["fp32", "bf16", "auto"]
"""What a sweep may ask for; auto is bf16 where the device multiplies it natively."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that set the threads of a process."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One place for one worker."""

    kind: DeviceKind
    """cpu or cuda."""
    index: str
    """CUDA: index or UUID, as in CUDA_VISIBLE_DEVICES, or several with commas. CPU: number of the worker."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}"

    def environment(self) -> dict[str, str]:
        """Variables for a worker on this device: one thread a process, and only its own GPU."""
        threads = dict.fromkeys(THREAD_VARIABLES, "1")
        return threads | {"CUDA_VISIBLE_DEVICES": self.index if self.kind == "cuda" else ""}


def usable_cores() -> int:
    """Count the cores that this process may use.

    Its affinity, lowered by the quota of a cgroup (containers, Slurm).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, _, period = quota.read_text().strip().partition(" ")
        if limit != "max":
            cores = min(cores, max(1, round(int(limit) / int(period))))
    return cores


@cache
def cuda_devices() -> tuple[str, ...]:
    """CUDA devices this process may use: CUDA_VISIBLE_DEVICES where it is set, else what nvidia-smi lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(word for word in visible.split(",") if word and word != "-1")
    if not Path("/dev/nvidiactl").exists():
        return ()
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(index) for index, _ in enumerate(listing.splitlines()))


def gpu_memory_bytes() -> int | None:
    """Memory of the smallest GPU that nvidia-smi lists; None where it does not say."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    mebibytes = [int(line) for line in listing.split() if line.isdigit()]
    return min(mebibytes) << 20 if mebibytes else None


def find_devices(
    wanted: DeviceKind | Literal["auto"] = "auto", workers: int | None = None, per_worker: int = 1
) -> tuple[Device, ...]:
    """Find a device for each worker.

    Parameters
    ----------
    wanted : str
        auto (every GPU, or every core where there is none), cpu or cuda.
    workers : int or None
        Number of workers; None: as many as there are GPUs or cores for. Several may get the same GPU.
    per_worker : int
        GPUs or cores of each.

    Returns
    -------
    tuple of Device
        One for each worker.

    Raises
    ------
    UserError
        When cuda is wanted and there is none, a worker wants more GPUs than there are, or there would be no worker.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; give a number of at least 1")
    gpus = cuda_devices() if wanted in ("auto", "cuda") else ()
    if wanted == "cuda" and not gpus:
        raise UserError("device is 'cuda' but this machine shows no CUDA device; use --device cpu, or check nvidia-smi")
    if gpus:
        places = [",".join(gpus[first : first + per_worker]) for first in range(0, len(gpus), per_worker)]
        places = places[: len(gpus) // per_worker]  # a rest that does not suffice stays idle
        if not places:
            raise UserError(
                f"--devices-per-run is {per_worker}, but this machine shows {len(gpus)} CUDA devices; lower it, or "
                "use several nodes by --launcher slurm"
            )
        return tuple(
            Device(kind="cuda", index=places[number % len(places)]) for number in range(workers or len(places))
        )
    return tuple(
        Device(kind="cpu", index=str(number)) for number in range(workers or max(1, usable_cores() // per_worker))
    )


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction-set flags of the first core, empty where the system does not tell."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return frozenset()
    for line in path.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@cache
def cpu_name() -> str:
    """Model name of the processor."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def gpu_name() -> str:
    """Name of the first GPU that nvidia-smi lists; `cuda` where it does not say."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "cuda"
    return next((line.strip() for line in listing.splitlines() if line.strip()), "cuda")


def device_name(kind: DeviceKind) -> str:
    """Name of the processor, or of the GPU."""
    return gpu_name() if kind == "cuda" else cpu_name()


def resolve_precision(precision: SweepPrecision, kind: DeviceKind) -> Precision:
    """Put a precision in place of 'auto'.

    Parameters
    ----------
    precision : str
        fp32, bf16 or auto.
    kind : str
        Kind of device, cpu or cuda.

    Returns
    -------
    str
        As given; for auto bf16 where the device multiplies bfloat16 natively (CUDA; AVX-512 BF16, AMX, SVE BF16), else
        fp32.
    """
    if precision != "auto":
        return precision
    native = kind == "cuda" or bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "svebf16", "bf16"})
    return "bf16" if native else "fp32"
