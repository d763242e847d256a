"""Methods of fine-tuning beside each other: on the same test examples, at equal compute, and along their own sizes.

It must not know figures or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.arrays import Array
from analysis.errors import UserError
from analysis.paired.difference import paired_difference
from analysis.runs.files import read_labelled
from experiments.records import RunStatus

REFERENCE = "full"
"""The method that the others are compared with."""
NORMAL = 1.959963984540054
"""Standard errors on each side of a 95 % interval."""
MIN_SIZES = 3
"""Sizes of a method below which no slope is drawn."""
PAIR_COLUMNS = ["pretrained", "params", "arm", "examples", "difference", "lo", "hi", "num_examples"]
"""Columns of `paired_methods`."""
FLOPS_COLUMNS = ["pretrained", "params", "arm", "flops", "loss_full", "loss_arm", "difference", "lo", "hi"]
"""Columns of `equal_flops`."""
SLOPE_COLUMNS = ["pretrained", "params", "method", "examples", "measure", "sizes", "slope", "lo", "hi", "reason"]
"""Columns of `size_slopes`."""


def paired_methods(path: Path, best: pd.DataFrame) -> pd.DataFrame:
    """The loss of each method less that of full fine-tuning, on the same test examples.

    Nats of an example are averaged over seeds, so that examples which are hard for both methods cancel. The interval is
    that of the test examples; the noise between seeds is in the cells.

    Parameters
    ----------
    path : Path
        The sweep's manifest or archive.
    best : DataFrame
        Its runs at their best rates, with `arm`.

    Returns
    -------
    DataFrame
        PAIR_COLUMNS; below zero the method is the better one.
    """
    sums = _sums(path)
    rows = []
    for (body, params, examples), cell in best.groupby(["pretrained", "params", "examples"], sort=True):
        measured = {arm: [sums[run] for run in runs["run_id"] if run in sums] for arm, runs in cell.groupby("arm")}
        reference = measured.pop(REFERENCE, [])
        for arm, runs in measured.items():
            if not runs or not reference or {len(one[0]) for one in (*runs, *reference)} != {len(runs[0][0])}:
                continue
            means = [np.mean([nats for nats, _ in some], axis=0) for some in (runs, reference)]
            try:
                found = paired_difference(means[0], means[1], runs[0][1])
            except UserError:  # fewer than two test examples
                continue
            values = (body, params, arm, examples, found.value, found.lo, found.hi, len(runs[0][1]))
            rows.append(dict(zip(PAIR_COLUMNS, values, strict=True)))
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


def _sums(path: Path) -> dict[str, tuple[Array, Array]]:
    """Nats and targets of each test example, of every finished run."""
    return {
        record.run_id: (np.array(record.outcome["val_sums"]), np.array(record.outcome["val_counts"]))
        for record, _ in read_labelled(path)
        if record.status is RunStatus.DONE and "val_sums" in record.outcome
    }


def equal_flops(cells: pd.DataFrame) -> pd.DataFrame:
    """What each method reaches at the compute of full fine-tuning's cells, on its own curve of loss in compute.

    A method with cheaper steps has more of them, and more examples, for the same compute. Curves are straight between
    their points in the logarithms of loss and compute, and are not continued beyond them. The 95 % interval is that of
    `loss_se` (the noise between seeds, and what a finer search for rates could gain) at full fine-tuning's cell and at
    the two cells between which the method is read; the test examples are the same for both.

    Parameters
    ----------
    cells : DataFrame
        Of a TuningStudy.

    Returns
    -------
    DataFrame
        FLOPS_COLUMNS; compute that a method's curve does not reach is left out, and `lo` and `hi` are NaN where a cell
        has no standard error.
    """
    rows = []
    trained = cells[(cells["flops"] > 0) & (cells["loss"] > 0)]
    for (body, params), group in trained.groupby(["pretrained", "params"], sort=True):
        curves = {arm: curve.sort_values("flops") for arm, curve in group.groupby("arm")}
        if REFERENCE not in curves:
            continue
        reference = curves.pop(REFERENCE)
        for arm, curve in curves.items():
            x, y = np.log(curve["flops"].to_numpy(float)), np.log(curve["loss"].to_numpy(float))
            relative = (curve["loss_se"] / curve["loss"]).to_numpy(float)
            for flops, loss, loss_se in reference[["flops", "loss", "loss_se"]].to_numpy(float):
                if x[0] <= np.log(flops) <= x[-1] and len(x) > 1:
                    shares = np.array([np.interp(np.log(flops), x, unit) for unit in np.eye(len(x))])
                    there, used = float(np.exp(shares @ y)), shares > 0
                    se = math.hypot(loss_se, there * math.hypot(*(shares[used] * relative[used])))
                    gap = there - loss
                    values = (body, params, arm, flops, loss, there, gap, gap - NORMAL * se, gap + NORMAL * se)
                    rows.append(dict(zip(FLOPS_COLUMNS, values, strict=True)))
    return pd.DataFrame(rows, columns=FLOPS_COLUMNS)


def rate_vertices(done: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """The best rate of each cell between those tried: the vertex of a parabola of validation loss in log rate.

    Losses are means over the seeds that tried every rate. The parabola goes through the best rate and its neighbours.

    Parameters
    ----------
    done : DataFrame
        Finished runs: the columns of `cell`, seed, lr and val_loss.
    cell : list of str
        What a cell is told by.

    Returns
    -------
    DataFrame
        The columns of `cell`, and lr_vertex; cells whose best rate lies at an edge are left out.
    """
    rows = []
    for key, runs in done.groupby(cell, sort=True):
        tried = runs.pivot_table(index="seed", columns="lr", values="val_loss").dropna()
        if tried.empty:
            continue
        x, y = np.log(tried.columns.to_numpy(float)), tried.mean().to_numpy(float)
        best = int(y.argmin())
        if 0 < best < len(x) - 1:
            bend, slope, _ = np.polyfit(x[best - 1 : best + 2] - x[best], y[best - 1 : best + 2], 2)
            rows.append((*key, float(np.exp(x[best] - slope / (2 * bend)))))
    return pd.DataFrame(rows, columns=[*cell, "lr_vertex"])


def in_order(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Sort rows by columns, methods by their name and then by their size as a number.

    Parameters
    ----------
    frame : DataFrame
        With the columns.
    columns : sequence of str
        `arm` among them, which is a method, or a method and its size.

    Returns
    -------
    DataFrame
        The rows, numbered anew.
    """
    places = {arm: place for place, arm in enumerate(sorted(set(frame["arm"]), key=arm_key))}
    return frame.sort_values(
        list(columns), key=lambda column: column.map(places) if column.name == "arm" else column, kind="stable"
    ).reset_index(drop=True)


def arm_key(arm: str) -> tuple[str, int]:
    """A method's name and its size; 0 without one."""
    name, _, size = arm.rpartition(" ")
    return (name, int(size)) if name and size.isdigit() else (arm, 0)


def size_slopes(cells: pd.DataFrame) -> pd.DataFrame:
    """How the best rate and the loss of a method move with its size: slopes of their logarithms in that of the size.

    The best rate is that between the rates tried, `lr_vertex`. Cells whose best rate lies at the edge of those tried
    are left out.

    Parameters
    ----------
    cells : DataFrame
        Of a TuningStudy.

    Returns
    -------
    DataFrame
        SLOPE_COLUMNS; `measure` is lr or loss, and `reason` says why there is no slope or no interval.
    """
    sized = cells[(cells["size"] > 0) & (cells["examples"] > 0)]
    rows = []
    for key, group in sized.groupby(["pretrained", "params", "method", "examples"], sort=True):
        if group["size"].nunique() < 2:
            continue
        inside = group[~group["rate_at_edge"].astype(bool)]
        for measure in ("lr", "loss"):
            known = dict(zip(SLOPE_COLUMNS[:4], key, strict=True))
            column = "lr_vertex" if measure == "lr" else measure
            rows.append(known | {"measure": measure, **_slope(inside["size"], inside[column])})
    return pd.DataFrame(rows, columns=SLOPE_COLUMNS)


def _slope(sizes: pd.Series, values: pd.Series) -> dict[str, object]:
    """A straight line through logarithms by least squares, with Student's interval, or a reason."""
    from scipy import stats

    found: dict[str, object] = {"sizes": len(sizes), "slope": None, "lo": None, "hi": None, "reason": None}
    if len(sizes) < MIN_SIZES:
        return found | {"reason": f"{len(sizes)} sizes have their best rate inside; {MIN_SIZES} are needed"}
    line = stats.linregress(np.log(sizes.to_numpy(float)), np.log(values.to_numpy(float)))
    reach = float(stats.t.ppf(0.975, len(sizes) - 2)) * float(line.stderr)
    return found | {"slope": float(line.slope), "lo": float(line.slope) - reach, "hi": float(line.slope) + reach}
