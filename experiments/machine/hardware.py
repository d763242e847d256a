"""What the computing device is and does: versions, memory, allocator, peak rate.

Needs torch; `devices.py` finds devices without it.
Nothing here changes a result; it is what records say of their execution.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import torch

from experiments.machine.peaks import peak_of
from models.kernels.linear import linear

OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory")
"""How torch's allocators for CPUs say it."""


@cache
def versions() -> dict[str, str]:
    """Versions of what computes."""
    names = {"isoflop": "isoflop", "torch": "torch", "lightning": "lightning", "numpy": "numpy"}
    return {"python": platform.python_version()} | {
        key: importlib.metadata.version(name) for key, name in names.items()
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory did not suffice, on a GPU or on a CPU.

    Parameters
    ----------
    error : BaseException
        What was raised; torch's allocator for CPUs raises a plain RuntimeError.

    Returns
    -------
    bool
        Whether a smaller piece of the batch may help.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)


def current_memory_bytes() -> int:
    """Resident size of this process now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def tune_allocator() -> None:
    """Keep freed memory in the process instead of handing it back each step (glibc; changes no result).

    M_MMAP_THRESHOLD and M_TRIM_THRESHOLD: without them every step of a small model with a large vocabulary faults its
    pages in anew.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    m_trim_threshold, m_mmap_threshold, size = -1, -3, 1 << 30
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(m_mmap_threshold, size)
    libc.mallopt(m_trim_threshold, size)


def free_memory(device: str) -> None:
    """Give back what a training that ran out of memory has left behind, so that the next one does not suffer.

    Parameters
    ----------
    device : str
        cpu or cuda.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@cache
def commit() -> str | None:
    """Find the commit of this code, as it was when this process first asked.

    Returns
    -------
    str or None
        Its first 12 hex digits, with "-dirty" where files were changed since; None without a git checkout.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None


@cache
def peak_flops_per_second(device: str, precision: str) -> float | None:
    """Find the peak rate of the device, for model-FLOPs utilisation.

    Of a GPU in bf16 from data sheets. Of a CPU the best of five products of 512 x 512 matrices in the run's precision
    on the worker's threads, by the library that linear layers take.

    Parameters
    ----------
    device : str
        cpu or cuda.
    precision : str
        fp32 or bf16.

    Returns
    -------
    float or None
        FLOPs per second; None when not known.
    """
    if device == "cuda":
        return peak_of(torch.cuda.get_device_name()) if precision == "bf16" else None
    size = 512
    left = torch.ones(size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        linear(left, left)
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
