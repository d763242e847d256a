"""What the runs of a report cost to train, and what eight GPUs could do with the same grid."""

from __future__ import annotations

import pandas as pd

from analysis.formatting import format_compute, format_number
from experiments.machine.peaks import PEAK_TENSOR_FLOPS

GPU, NUM_GPUS = "H100", 8
UTILIZATION = 0.4
"""Part of the GPUs' peak that training of models with some 1e8 parameters and more reaches; small models reach less."""
UNITS = ((60.0, "seconds"), (3600.0, "minutes"), (48 * 3600.0, "hours"), (float("inf"), "days"))
"""Durations below the number of seconds are said in the unit."""
SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}


def training_cost(frame: pd.DataFrame) -> dict[str, str]:
    """What training took, by the records of the runs.

    Steps that runs share are counted once. Time is the wall time of training alone, without validation
    and waiting, as busy as the machine was.

    Parameters
    ----------
    frame : DataFrame
        One row a run: flops, and where records say them train_seconds, threads, world_size, device, steps,
        shared_steps and trunk.

    Returns
    -------
    dict of str to str
        Sentences by what they say: training, and eight GPUs. Empty for a table without flops.
    """
    if "flops" not in frame.columns or frame.empty:
        return {}
    flops = _spent(frame, frame["flops"].astype(float))
    training = f"{format_compute(flops)} FLOPs in {len(frame)} runs"
    if "train_seconds" in frame.columns and bool(frame["train_seconds"].notna().all()):
        workers = _column(frame, "threads") * _column(frame, "world_size")
        on_gpu = "device" in frame.columns and bool((frame["device"] == "cuda").all())
        each = frame["train_seconds"].astype(float) * (_column(frame, "world_size") if on_gpu else workers)
        training += f", {duration(_spent(frame, each))} of one {'GPU' if on_gpu else 'core'}"
    rate = NUM_GPUS * UTILIZATION * PEAK_TENSOR_FLOPS[GPU]
    gpus = f"{duration(flops / rate)} for these FLOPs at {100 * UTILIZATION:.0f} % of their bf16 peak"
    times = rate * 3600.0 / flops
    if times > 1:
        largest = format_compute(times * float(frame["flops"].max()))
        gpus += (
            ", which models this small do not reach; an hour would train the same grid at "
            f"{_rounded(times)} times the compute, its largest run at {largest} FLOPs"
        )
    return {"training": training, f"on {NUM_GPUS} {GPU}s": gpus}


def _rounded(times: float) -> str:
    """Two digits: "1.6", "250,000"."""
    return format_number(times, 2) if times < 100 else f"{float(f'{times:.2g}'):,.0f}"


def _spent(frame: pd.DataFrame, amount: pd.Series) -> float:
    """The sum over runs with the steps that runs of a trunk share counted once: those of the longest shared part."""
    if not {"steps", "shared_steps", "trunk"} <= set(frame.columns):
        return float(amount.sum())
    shared = (frame["shared_steps"].fillna(0).astype(float) / frame["steps"].astype(float)).where(
        frame["trunk"].notna(), 0.0
    )
    once = (amount * shared).groupby(frame["trunk"]).max().sum()
    return float((amount * (1 - shared)).sum() + once)


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name].fillna(1).astype(float) if name in frame.columns else pd.Series(1.0, index=frame.index)


def duration(seconds: float) -> str:
    """Seconds in the unit that people would take: "41 minutes", or "less than a second".

    Parameters
    ----------
    seconds : float
        At least 0.

    Returns
    -------
    str
        Two significant digits, or whole units from 100 on.
    """
    if seconds < 1:
        return "less than a second"
    unit = next(name for limit, name in UNITS if seconds < limit)
    count = seconds / SECONDS[unit]
    return f"{count:,.0f} {unit}" if count >= 100 else f"{format_number(count, 2)} {unit}"
